"""Result files to ``docs/performance.md`` and its pictures, or the difference between two of them.

    python -m bench.report bench/results/*.json
    python -m bench.report --diff old.json new.json

Exit status: 0, or 1 if something that is not noisy became slower, or 2 for wrong usage or a bad file.
"""

import argparse
import math
import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.contests import Contest, comparable, contests, of_last_run, overlap
from bench.plots import (
    GOOD_SHARE,
    LADDER,
    draw_bandwidth,
    draw_growth,
    draw_ladder,
    draw_shares,
    draw_speedups,
    gigabytes_per_second,
    middle,
    model,
    variant,
)
from bench.roofline import CARDS, LABEL, Prediction, predict_codec, predict_ops
from silk_fast.benchmark.rows import CONFIRMED, CONTRADICTED, OK, Row, disagree, read_results, slug
from silk_fast.errors import SilkError
from silk_fast.files import atomic_file

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
REGRESSION = 1.05
LATENCY_OPS = ("encode_frame", "decode_frame", "encode", "decode")


# ---------------------------------------------------------------- reading rows


@dataclass(frozen=True)
class History:
    """One measurement on one device: its row of every run, in order of time."""

    runs: tuple[Row, ...]

    @property
    def latest(self) -> Row:
        """The last row; one that was left out hides none before it."""
        return next((row for row in reversed(self.runs) if not row.is_left_out), self.runs[-1])

    @property
    def earlier(self) -> Row | None:
        """The last figure of a run before that, perhaps of other code; None if there is none."""
        return next((row for row in reversed(self.runs) if row.status == OK and row.date < self.latest.date), None)

    @property
    def row(self) -> Row:
        """The latest row, marked by what the earlier run found; ranges that overlap confirm each other."""
        row, earlier = self.latest, self.earlier
        if row.status != OK or earlier is None:
            return row
        return replace(row, repeat=row.repeat or CONFIRMED) if overlap(row, earlier) else row.confirmed_by(earlier)


def histories(rows: Iterable[Row]) -> dict[str, list[History]]:
    """By device, every measurement."""
    found: dict[str, dict[tuple, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: row.date):
        found.setdefault(row.device, {}).setdefault(row.key, []).append(row)
    return {device: [History(tuple(runs)) for runs in by_key.values()] for device, by_key in sorted(found.items())}


def is_gpu(rows: Sequence[Row]) -> bool:
    """Whether rows of one device are of a GPU."""
    return any(row.driver is not None for row in rows)


# ---------------------------------------------------------------- Markdown


def md_table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    """A table and the empty line after it; a ``|`` in a cell is escaped."""

    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(cells) for cells in lines), ""]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _share(row: Row) -> str:
    return "-" if row.share is None else f"{row.share:.0%} of {row.ceiling}"


def _time(row: Row) -> str:
    """Median and spread of the call; ``~`` marks noise."""
    noisy = " ~" if row.call.noisy or (row.kernel and row.kernel.noisy) else ""
    return f"{_number(row.call.p50)} ({_number(row.call.p20)} .. {_number(row.call.p80)}){noisy}"


def _kernel(row: Row) -> str:
    """Median on the device; ``launches`` marks time that holds the gaps between single launches."""
    return "-" if row.kernel is None else f"{_number(row.kernel.p50)}{' (launches)' * (row.captured is False)}"


def _repeat(row: Row) -> str:
    return row.repeat or "-"


def _speedup(value: float) -> str:
    """A loss is bold."""
    return f"**{value:.2f}x**" if _is_loss(value) else f"{value:.2f}x"


def _is_loss(speedup: float) -> bool:
    """Whether it is below 1 in the digits that are shown."""
    return round(speedup, 2) < 1


def _megabytes(row: Row) -> str:
    return "-" if row.peak_bytes is None else _number(row.peak_bytes / 1e6)


# ---------------------------------------------------------------- sections


def what_is_behind(rows: Sequence[Row]) -> list[str]:
    """Every case of ours that is slower than a rival or below 80 % of its ceiling, the worst first."""
    behind = []
    for contest in contests(row for row in rows if row.section != "card"):
        ours = contest.ours
        if ours is None:
            continue
        slower = {rival: ratio for rival, ratio in contest.speedups() if _is_loss(ratio)}
        near = {rival for rival in slower if overlap(contest.rows[rival], ours)}
        is_far = ours.share is not None and ours.share < GOOD_SHARE
        if slower or is_far:
            losses = ", ".join(
                f"{rival} {_speedup(ratio)}{' (ranges overlap)' * (rival in near)}"
                for rival, ratio in sorted(slower.items())
            )
            worst = min([*slower.values(), *([ours.share] if is_far else [])])
            cells = (f"{ours.op} {ours.direction}", ours.case, variant(ours), _time(ours), losses or "-", _share(ours))
            behind.append((worst, cells))
    title = "#### What is behind"
    if not behind:
        return [title, "", f"Nothing that was measured is slower than a rival or below {GOOD_SHARE:.0%}.", ""]
    text = f"Cases of ours that are slower than a rival, or below {GOOD_SHARE:.0%} of their ceiling; the worst first."
    head = ("op", "case", "variant", "ms", "slower than", "share")
    return [title, "", text, "", *md_table(head, [cells for _, cells in sorted(behind, key=lambda pair: pair[0])])]


def missing(rows: Sequence[Row]) -> list[str]:
    """Providers without a figure, and why; equal reasons together."""
    found: dict[tuple, list[str]] = {}
    for row in rows:
        if row.status != OK:
            found.setdefault((row.provider, row.op, row.status), []).append(f"{row.case}, {variant(row)}")
    if not found:
        return []
    lines = [
        (provider, op, status, len(cases), cases[0] + " ..." * (len(cases) > 1))
        for (provider, op, status), cases in sorted(found.items())
    ]
    return ["#### No figure", "", *md_table(("provider", "op", "why", "cases", "such as"), lines)]


def repeats_section(found: Sequence[History]) -> list[str]:
    """How many rows were measured again, and what came out otherwise."""
    measured = [history for history in found if history.latest.status == OK]
    if not measured:
        return []
    n_confirmed, n_contradicted = (
        sum(history.row.repeat == outcome for history in measured) for outcome in (CONFIRMED, CONTRADICTED)
    )
    text = (
        f"Of {len(measured)} rows with a figure {n_confirmed} were confirmed, by a repeat in the same run or by an"
        f" earlier run, {n_contradicted} were contradicted, and {len(measured) - n_confirmed - n_contradicted} were"
        " measured once. Earlier runs may be of other code, which may differ in speed."
    )
    lines = []
    for history in measured:
        row = history.row
        if row.repeat == CONTRADICTED:
            name = f"{row.op} {row.direction}", row.case, variant(row), row.provider
            lines.append((*name, _time(row), _other_figure(history)))
    head = ("op", "case", "variant", "provider", "ms a call (p20 .. p80)", "but")
    return ["#### Repeats", "", text, "", *(md_table(head, lines) if lines else [])]


def _other_figure(history: History) -> str:
    """What contradicts the latest row."""
    if history.earlier is not None and not overlap(history.latest, history.earlier):
        mine, earlier = comparable(history.latest, history.earlier)
        if disagree(mine.p50, earlier.p50):
            what = " on the device" if mine is history.latest.kernel else ""
            return f"an earlier run at {history.earlier.commit} measured {_number(earlier.p50)} ms{what}"
    return "a repeat in the same run differed"


def ceilings_section(rows: Sequence[Row]) -> list[str]:
    """What the machine itself reaches."""
    lines = []
    for row in rows:
        if row.section == "card" and row.status == OK:
            rate = (
                f"{gigabytes_per_second(row):,.1f} GB/s"
                if row.op == "copy"
                else f"{row.flops / middle(row) / 1e9:,.3g} TFLOP/s"
            )
            lines.append((row.op, row.shape, variant(row), rate))
    return ["#### Ceilings, measured", "", *md_table(("what", "size", "variant", "rate"), lines)] if lines else []


def ladder_section(rows: Sequence[Row], folder: Path, name: str) -> list[str]:
    """Latency at batch 1 from eager to all optimisations."""
    latency = [row for row in rows if row.op in LATENCY_OPS and row.shape.startswith("1x") and _is_clip(row, 10.0)]
    measured = [row for row in latency if row.status == OK]
    if not measured:
        return []
    draw_ladder(folder / f"{name}-ladder.png", of_last_run(measured))
    lines = []
    for contest in contests(latency):
        eager = contest.rows.get("eager")
        for provider in (step for step in LADDER if step in contest.rows):
            row = contest.rows[provider]
            if row.status != OK:
                lines.append((row.op, row.case, variant(row), provider, row.status, *5 * ("-",)))
                continue
            is_like = eager is not None and eager.status == OK and eager.date == row.date
            gain = _speedup(eager.call.p50 / row.call.p50) if is_like else "-"
            figures = (_time(row), _repeat(row), _kernel(row), gain, _share(row), _megabytes(row))
            lines.append((row.op, row.case, variant(row), provider, *figures))
    head = (
        "op",
        "case",
        "variant",
        "provider",
        "ms a call (p20 .. p80)",
        "repeat",
        "ms on the device",
        "against eager",
        "share",
        "peak MB",
    )
    return [
        "#### Latency at batch 1",
        "",
        f"![latency ladder]({folder.name}/{name}-ladder.png)",
        "",
        *md_table(head, lines),
    ]


def _is_clip(row: Row, seconds: float) -> bool:
    """Whether each signal of a codec row is a frame, or a clip that long."""
    return row.op.endswith("_frame") or math.isclose(row.seconds / int(row.shape.split("x")[0]), seconds)


def growth_section(rows: Sequence[Row], folder: Path, name: str) -> list[str]:
    """Throughput and memory over batch and duration."""
    clips = [row for row in rows if row.op in ("encode", "decode")]
    by_duration = [row for row in clips if row.shape.startswith("1x")]
    by_batch = [row for row in clips if _is_clip(row, 10.0)]
    if not any(row.status == OK for row in clips):
        return []
    draw_growth(folder / f"{name}-growth.png", by_duration, by_batch)
    head = ("op", "case", "variant", "provider", "ms a call (p20 .. p80)", "repeat")
    head += ("seconds of audio per second", "peak MB")
    lines = []
    for row in sorted(clips, key=lambda row: (row.op, variant(row), row.provider, row.seconds)):
        figures = (row.status, "-", "-", "-")
        if row.status == OK:
            figures = (_time(row), _repeat(row), _number(1e3 * row.seconds / row.call.p50), _megabytes(row))
        lines.append((row.op, row.case, variant(row), row.provider, *figures))
    return [
        "#### Throughput and memory, over duration and batch",
        "",
        f"![growth]({folder.name}/{name}-growth.png)",
        "",
        *_best_batches(clips),
        "<details><summary>All sizes</summary>",
        "",
        *md_table(head, lines),
        "</details>",
        "",
    ]


def _best_batches(clips: Sequence[Row]) -> list[str]:
    """Of every op and provider, the size with most hours of audio per hour."""
    best: dict[tuple, Row] = {}
    for row in clips:
        key = model(row), row.op, variant(row), row.provider
        if row.status == OK and (
            key not in best or row.seconds / row.call.p50 > best[key].seconds / best[key].call.p50
        ):
            best[key] = row
    lines = [
        (*key, row.case, _number(1e3 * row.seconds / row.call.p50), _megabytes(row))
        for key, row in sorted(best.items())
    ]
    head = ("codec", "op", "variant", "provider", "best at", "hours of audio per hour", "peak MB")
    return md_table(head, lines)


def ops_section(rows: Sequence[Row], folder: Path, name: str) -> list[str]:
    """Every op: a summary, pictures, and all cases folded away."""
    found = contests(row for row in rows if row.section == "ops")
    if not found:
        return []
    speedups = [(contest.ours, rival, value) for contest in found for rival, value in contest.speedups()]
    shares = [contest.ours for contest in found if contest.ours is not None and contest.ours.share is not None]
    pictures = []
    if speedups:
        draw_speedups(folder / f"{name}-speedup.png", speedups)
        pictures += [f"![speed-up over each rival]({folder.name}/{name}-speedup.png)", ""]
    if shares:
        draw_shares(folder / f"{name}-share.png", shares)
        pictures += [f"![share of the ceiling]({folder.name}/{name}-share.png)", ""]
    bandwidth_bound = [row for contest in found for row in _first_hand(contest) if row.ceiling == "bandwidth"]
    if bandwidth_bound:
        copies = [row for row in rows if (row.section, row.op, row.status) == ("card", "copy", OK)]
        draw_bandwidth(folder / f"{name}-bandwidth.png", bandwidth_bound, copies)
        pictures += [f"![achieved bandwidth]({folder.name}/{name}-bandwidth.png)", ""]
    return ["#### Operations", "", *pictures, *_ops_summary(found), *_others(found), *_ops_details(found)]


def _first_hand(contest: Contest) -> list[Row]:
    """Our row; where it has no figure, those of the others that have one."""
    return [contest.ours] if contest.ours else [row for row in contest.rows.values() if row.status == OK]


def _ops_summary(found: Sequence[Contest]) -> list[str]:
    """Per op, direction and variant: median and lowest speed-up over each rival, and share."""
    groups: dict[tuple, list[Contest]] = {}
    for contest in found:
        if contest.ours is not None:
            row = contest.ours
            groups.setdefault((f"{row.op} {row.direction}", variant(row)), []).append(contest)
    rivals = sorted({rival for group in groups.values() for contest in group for rival, _ in contest.speedups()})
    lines = []
    for key, group in sorted(groups.items()):
        shares = [contest.ours.share for contest in group if contest.ours.share is not None]
        cells = [f"{statistics.median(shares):.0%}, lowest {min(shares):.0%}" if shares else "-"]
        for rival in rivals:
            values = [value for contest in group for other, value in contest.speedups() if other == rival]
            lowest = f", lowest {_speedup(min(values))}" if values else ""
            cells.append(f"{_speedup(statistics.median(values))}{lowest}" if values else "-")
        lines.append((*key, len(group), *cells))
    head = ("op", "variant", "cases", "share of the ceiling", *(f"faster than {rival}" for rival in rivals))
    return md_table(head, lines) if lines else []


def _others(found: Sequence[Contest]) -> list[str]:
    """Times of the other providers in cases where ours has no figure, as on a CPU."""
    without = [contest for contest in found if contest.ours is None]
    providers = sorted({row.provider for contest in without for row in contest.rows.values() if row.status == OK})
    if not providers:
        return []
    lines = []
    for contest in without:
        row = next(iter(contest.rows.values()))
        times = [contest.rows.get(name) for name in providers]
        cells = ["-" if time is None or time.status != OK else _time(time) for time in times]
        lines.append((f"{row.op} {row.direction}", row.case, variant(row), *cells))
    head = ("op", "case", "variant", *(f"{name}, ms a call" for name in providers))
    return ["Cases in which ours has no figure:", "", *md_table(head, lines)]


def _ops_details(found: Sequence[Contest]) -> list[str]:
    head = ("case", "shape", "variant", "direction", "provider", "ms a call (p20 .. p80)", "repeat", "ms on the device")
    head += ("share", "GB/s", "MB by formula", "GFLOP by formula", "peak MB")
    blocks: dict[str, list[tuple]] = {}
    for row in (row for contest in found for row in contest.rows.values()):
        figures = (row.status, *4 * ("-",))
        if row.status == OK:
            figures = (_time(row), _repeat(row), _kernel(row), _share(row), _number(gigabytes_per_second(row)))
        costs = tuple(
            _number(None if value is None else value / unit) for value, unit in ((row.bytes, 1e6), (row.flops, 1e9))
        )
        cells = (row.case, row.shape, variant(row), row.direction, row.provider, *figures, *costs, _megabytes(row))
        blocks.setdefault(row.op, []).append(cells)
    lines = []
    for op, block in sorted(blocks.items()):
        lines += [f"<details><summary>{op}: all rows</summary>", "", *md_table(head, block), "</details>", ""]
    return lines


def predictions_section() -> list[str]:
    """Floors on other cards."""
    cards = ", ".join(f"{card.name} ({card.bandwidth / 1e9:,.0f} GB/s)" for card in CARDS)
    return [
        f"## Floors, {LABEL}",
        "",
        "Not measured. The least time that published peak rates allow, in microseconds, for traffic and arithmetic by",
        f"formula (`bench/roofline.py`); launches, latencies and all else come on top. {cards}.",
        "",
        "### Whole codec",
        "",
        *_prediction_table(predict_codec()),
        "### Operations of Silk small, 8 clips of 10 s",
        "",
        *_prediction_table(predict_ops()),
    ]


def _prediction_table(predictions: Sequence[Prediction]) -> list[str]:
    head = ("what", "dtype", "MB", "GFLOP", *(f"{card.name}, predicted" for card in CARDS))
    lines = [
        (row.name, row.dtype, _number(row.cost.bytes / 1e6), _number(row.cost.flops / 1e9))
        + tuple(_number(1e6 * row.seconds[card.name]) for card in CARDS)
        for row in predictions
    ]
    return md_table(head, lines)


HOW_TO_READ = """\
Times are medians in milliseconds, with the 20th and 80th percentile in brackets; `~` marks a row that is noisy: its
median is not known to 10 %, or another run, perhaps of other code, found one that differs by more. `repeat` says
whether a repeat or an earlier run on the same machine confirmed the row (medians within 10 %, or ranges that overlap)
or contradicted it; `-` means that it was measured once. A call is what the caller waits; the device's own time is
apart: of a CUDA graph, or of single launches with the gaps between them, which is then said. float32 is IEEE float32,
without TF32. The share is the least time that this machine's own measured copy bandwidth and matrix rate allow, for
traffic and arithmetic by formula, over the time measured; above 100 % the data stayed in a cache, or the machine was
slower while its rates were measured. GB/s are of the traffic by formula, the least that must move, over that time; what
moves few bytes is bound by the call itself. A speed-up is the rival's time over ours, of like times in one run; below 1
it is a loss, in bold. `ours` is the model after `accelerate_`, or the kernel; on a CPU, where there are no kernels,
activations are computed in place, and what depends on weights alone ahead. Peak memory of a GPU is what PyTorch
allocated; of a CPU it is the whole process, Python, PyTorch and the signal included."""


def write_report(paths: Sequence[str | os.PathLike], output: Path = OUTPUT) -> None:
    """Write the page and, in the folder of the same name beside it, its pictures.

    Raises:
        SilkInputError: a file holds no results.
        SilkFileError: the page cannot be written.
    """
    files = {str(path): read_results(path) for path in paths}
    folder = output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    devices = histories(row for rows in files.values() for row in rows)
    lines = [
        "<!-- Generated by `python -m bench.report`; edits are lost. -->",
        "",
        "# Performance",
        "",
        "Generated by `python -m bench.report` from these files, and from nothing else; of a measurement that was",
        "repeated the latest row with a figure, or with a failure, is shown.",
        "",
        *_files_table(files),
        HOW_TO_READ,
        "",
    ]
    for title, gpu in (("## GPU", True), ("## CPU", False)):
        lines += [title, ""]
        mine = {name: found for name, found in devices.items() if is_gpu([history.latest for history in found]) == gpu}
        if not mine:
            more = " The floors below are predictions." if gpu else ""
            lines += [f"No figure has been measured on a {title[3:]} yet.{more}", ""]
        for device, found in mine.items():
            lines += device_section(device, found, folder)
    lines += predictions_section()
    with atomic_file(output) as file:
        file.write("\n".join(lines).encode())


def _files_table(files: dict[str, list[Row]]) -> list[str]:
    lines = []
    for path, rows in files.items():
        row = max(rows, key=lambda row: row.date, default=None)
        if row is not None:
            driver, triton = row.driver or "-", row.triton or "-"
            cells = (row.device, driver, row.commit, row.date, row.torch, triton, row.python, len(rows))
            lines.append((f"`{os.path.basename(path)}`", *cells))
    if not lines:
        return ["There are no result files yet.", ""]
    return md_table(("file", "device", "driver", "commit", "date", "torch", "triton", "python", "rows"), lines)


def device_section(device: str, found: Sequence[History], folder: Path) -> list[str]:
    """All that was measured on one device."""
    name, rows = slug(device), [history.row for history in found]
    return [
        f"### {device}",
        "",
        *_runs(rows),
        *what_is_behind(rows),
        *ladder_section(rows, folder, name),
        *growth_section(rows, folder, name),
        *ops_section(rows, folder, name),
        *ceilings_section(rows),
        *repeats_section(found),
        *missing(rows),
    ]


def _runs(rows: Sequence[Row]) -> list[str]:
    """Which run the figures are of: one that a later run did not measure again is of an earlier one."""
    found = Counter((row.date, row.commit) for row in rows if row.status == OK)
    runs = [f"{n} of {date[:10]} at {commit}" for (date, commit), n in sorted(found.items(), reverse=True)]
    return [f"Figures by run: {', '.join(runs)}.", ""] if runs else []


# ---------------------------------------------------------------- difference


@dataclass(frozen=True)
class Change:
    """One measurement in two files: new time / old; infinite where it failed, 0 where it had failed before."""

    row: Row
    ratio: float
    text: str
    noisy: bool = False


@dataclass(frozen=True)
class Difference:
    """Two result files compared. Changes are larger than the spread, the largest first.

    Args:
        noisy: changes either way of rows that are noisy in one of the files.
        machine: changes of what the machine itself reaches, which may explain all others.
        only_old, only_new: rows with a figure or a failure in one file only.
    """

    regressions: list[Change]
    improvements: list[Change]
    noisy: list[Change]
    machine: list[Change]
    only_old: list[Row]
    only_new: list[Row]
    n_equal: int


def compare(old: Iterable[Row], new: Iterable[Row]) -> Difference:
    """Rows of equal key against each other, in call time and in device time; those left out count as absent."""
    before, after = ({row.key: row for row in rows if not row.is_left_out} for rows in (old, new))
    changes = [_change(before[key], after[key]) for key in before if key in after]
    found = [change for change in changes if change]
    steady = [change for change in found if not change.noisy and change.row.section != "card"]
    return Difference(
        regressions=sorted((c for c in steady if c.ratio > 1), key=lambda change: -change.ratio),
        improvements=sorted((c for c in steady if c.ratio < 1), key=lambda change: change.ratio),
        noisy=[change for change in found if change.noisy and change.row.section != "card"],
        machine=[change for change in found if change.row.section == "card"],
        only_old=[row for key, row in before.items() if key not in after],
        only_new=[row for key, row in after.items() if key not in before],
        n_equal=len(changes) - len(found),
    )


def _change(old: Row, new: Row) -> Change | None:
    """None if nothing changed beyond the spread; what is steady counts before what is noisy."""
    if OK in (old.status, new.status) and old.status != new.status:
        return Change(new, math.inf if old.status == OK else 0.0, f"{old.status} -> {new.status}")
    found = []
    for what in ("call", "kernel") if old.captured == new.captured else ("call",):
        a, b = getattr(old, what), getattr(new, what)
        if a is None or b is None:
            continue
        slower = b.p50 > REGRESSION * a.p50 and b.p50 > a.p80 and a.p50 < b.p20
        faster = a.p50 > REGRESSION * b.p50 and a.p50 > b.p80 and b.p50 < a.p20
        if slower or faster:
            text = f"{what} {_number(a.p50)} -> {_number(b.p50)} ms"
            found.append(Change(new, b.p50 / a.p50, text, a.noisy or b.noisy))
    return max(found, key=lambda change: (not change.noisy, change.ratio), default=None)


def describe(difference: Difference) -> list[str]:
    """Lines for people, regressions first."""

    def named(row: Row) -> str:
        return f"{row.section} {row.op} {row.direction}, {row.case}, {variant(row)}, {row.provider}"

    lines = []
    if difference.machine:
        rates = ", ".join(f"{c.row.op} {variant(c.row)} {c.ratio:.2f}x as long" for c in difference.machine)
        lines.append(f"warning: the machine itself changed, which may explain the rest: {rates}")
    for title, changes in (
        ("slower", difference.regressions),
        ("faster", difference.improvements),
        ("changed, but noisy", difference.noisy),
    ):
        lines.append(f"{title}: {len(changes)}")
        for change in changes:
            factor = f"{change.ratio:.2f}x " if 0 < change.ratio < math.inf else ""
            lines.append(f"  {named(change.row)}: {factor}{change.text}")
    for title, rows in (("only in the old file", difference.only_old), ("only in the new file", difference.only_new)):
        lines += [f"{title}: {len(rows)}", *(f"  {named(row)}" for row in rows)]
    return [*lines, f"equal within the spread: {difference.n_equal}"]


def origin(rows: Sequence[Row]) -> str:
    """Commits, dates and torch versions of a file's rows."""
    names = {"commit": "commit", "date": "of", "torch": "torch"}
    return ", ".join(f"{text} {' '.join(sorted({getattr(row, n) for row in rows}))}" for n, text in names.items())


def main(argv: list[str] | None = None) -> int:
    """Write the report or print a difference; returns the exit status."""
    parser = argparse.ArgumentParser(description="Turn result files into docs/performance.md, or compare two.")
    parser.add_argument("files", nargs="*", help="result files")
    parser.add_argument("--diff", nargs=2, metavar=("OLD", "NEW"), help="compare two result files instead")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT, help="page to write (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        if arguments.diff:
            return _print_difference(*arguments.diff)
        write_report(arguments.files, arguments.output)
    except SilkError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.output} written")
    return 0


def _print_difference(old_path: str, new_path: str) -> int:
    old, new = read_results(old_path), read_results(new_path)
    devices = [{row.device for row in rows} for rows in (old, new)]
    if devices[0] != devices[1]:
        print(f"note: different devices, {sorted(devices[0])} and {sorted(devices[1])}", file=sys.stderr)
    difference = compare(old, new)
    print("\n".join([f"old: {origin(old)}", f"new: {origin(new)}", *describe(difference)]))
    return 1 if difference.regressions else 0


if __name__ == "__main__":
    sys.exit(main())
