"""What was counted and predicted, as Markdown: a table of the page on performance, apart from what was measured."""

import csv
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.cards import CARDS
from bench.summary import GOOD_SHARE, number, percent
from silk_fast.markdown import LEFT, table

COUNTED = Path(__file__).with_name("counted")
NAME = ("op", "shape", "dtype", "kernel")
TEXT = """\
**Nothing here was measured on a GPU.** Every kernel ran, compiled, in an emulator of PTX that counts what it does, at
the shapes of `make static`; times follow from `bench/counted/*.csv` and published rates of each card by the model of
`bench/predicted.py` ([kernels.md](kernels.md#predicted-times) says how it was checked). They are near the best case:
clocks at boost, memory at its peak, latencies hidden. A cell: microseconds of one launch, of which 1.2 are its start;
the share of the roofline without that start; what bounds it."""

Row = dict[str, str]


def read_counted(folder: Path = COUNTED) -> list[Row]:
    """Launches with the predictions of all files: of those cards that run such a launch."""
    found: dict[tuple, Row] = {}
    for path in sorted(folder.glob("sm_*.csv")):
        times: Counter[tuple] = Counter()
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                name = tuple(row[column] for column in NAME)
                times[name] += 1
                found.setdefault((*name, times[name]), {}).update(row)
    return [row for row in found.values() if shares(row)]


def forecast_section(rows: Sequence[Row], limit: int) -> list[str]:
    """The worst launches by mean share of the roofline of all cards, one of each kernel and width of dtype."""
    if not rows:
        return []
    ranked = sorted(rows, key=mean_share)
    worst = {(row["kernel"], row["dtype"] == "float32"): row for row in reversed(ranked)}
    chosen = sorted(worst.values(), key=mean_share)[:limit]
    means = [mean_share(row) for row in rows]
    text = (
        f"Of {len(rows)} launches the median reaches {percent(statistics.median(means))} of the roofline, and "
        f"{sum(share < GOOD_SHARE for share in means)} less than {GOOD_SHARE:.0%}, in the mean of the cards. The worst "
        f"launch of each kernel, in float32 and in half precision, and of those the {len(chosen)} worst:"
    )
    head = ("kernel", "case", *(card.name for card in CARDS))
    lines = [(f"`{row['kernel']}`", _case(row), *(_cell(row, card.slug) for card in CARDS)) for row in chosen]
    return ["## Predicted", "", TEXT, "", text, "", table(head, lines, rule=LEFT)]


def shares(row: Row) -> list[float]:
    """Shares of the roofline on every card that has the launch."""
    names = [f"predicted_{card.slug}_share" for card in CARDS]
    return [float(row[name]) for name in names if name in row]


def mean_share(row: Row) -> float:
    return statistics.mean(shares(row))


def _case(row: Row) -> str:
    return f"{row['op']}, {row['shape']}, {row['dtype']}"


def _cell(row: Row, slug: str) -> str:
    if f"predicted_{slug}_us" not in row:
        return "-"
    us, bound, share = (row[f"predicted_{slug}_{what}"] for what in ("us", "bound", "share"))
    return f"{number(float(us))}: {percent(float(share))}, {bound}"
