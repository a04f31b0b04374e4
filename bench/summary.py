"""What rows say, as Markdown: losses, latency, throughput, operations."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from bench.contests import Contest, contests, overlap
from silk_fast.benchmark.rows import OK, Row
from silk_fast.markdown import LEFT, significant, table

GOOD_SHARE = 0.8
LADDER = ("eager", "compile", "compile-max", "ours", "cuda-graph")
LATENCY_OPS = ("encode_frame", "decode_frame", "encode", "decode")


def number(value: float | None) -> str:
    """Three significant digits; ``-`` if there is no figure."""
    return significant(value, unknown="-", thousands=",")


def variant(row: Row) -> str:
    """What tells rows of one provider apart: dtype, and threads on a CPU."""
    return row.dtype + (f", {row.threads} thread{'s' * (row.threads > 1)}" if row.threads else "")


def milliseconds(row: Row | None) -> str:
    """Median of the call; ``~`` marks noise, ``-`` that there is no figure."""
    if row is None or row.call is None:
        return "-"
    return number(row.call.p50) + "~" * (row.call.noisy or bool(row.kernel and row.kernel.noisy))


def speedup(value: float) -> str:
    """Times as fast; a loss is bold."""
    return f"**{value:.2f}x**" if is_loss(value) else f"{value:.2f}x"


def is_loss(value: float) -> bool:
    """Whether a speed-up is below 1 in the digits that are shown."""
    return round(value, 2) < 1


def megabytes(row: Row) -> str:
    """Peak memory."""
    return number(None if row.peak_bytes is None else row.peak_bytes / 1e6)


def losses_section(rows: Sequence[Row], limit: int) -> list[str]:
    """Cases of ours that are slower than a rival or below 80 % of their ceiling, ``limit`` of them, the worst first."""
    found = [loss for section in ("ops", "codec") for contest in contests(rows, section) if (loss := _loss(contest))]
    title = ["## Losses", ""]
    if not found:
        return [
            *title,
            f"Nothing that was measured is slower than a rival or below {GOOD_SHARE:.0%} of its ceiling.",
            "",
        ]
    n_slower = sum(cells[5] != "-" for _, cells in found)
    found = sorted(found, key=lambda loss: loss[0])
    text = f"{n_slower} cases of ours are slower than a rival, {len(found)} are that or below {GOOD_SHARE:.0%} of their"
    text += " ceiling." if len(found) <= limit else f" ceiling; the worst {limit}:"
    head = ("device", "op", "case", "variant", "ms", "times as fast as", "share")
    return [*title, text, "", table(head, [cells for _, cells in found[:limit]], rule=LEFT)]


def _loss(contest: Contest) -> tuple[float, tuple[str, ...]] | None:
    """How bad, and the cells of its line."""
    ours = contest.ours
    if ours is None:
        return None
    slower = {rival: value for rival, value in contest.speedups().items() if is_loss(value)}
    is_far = ours.share is not None and ours.share < GOOD_SHARE
    if not slower and not is_far:
        return None
    names = ", ".join(
        f"{rival} {speedup(value)}{' (ranges overlap)' * overlap(contest.rows[rival], ours)}"
        for rival, value in sorted(slower.items())
    )
    share = "-" if ours.share is None else f"{ours.share:.0%} of {ours.ceiling}"
    worst = min([*slower.values(), *([ours.share] if is_far and ours.share else [])])
    cells = (
        ours.device,
        f"{ours.op} {ours.direction}",
        ours.case,
        variant(ours),
        milliseconds(ours),
        names or "-",
        share,
    )
    return worst, cells


def latency_section(rows: Sequence[Row]) -> list[str]:
    """One frame and 10 s at batch 1, by every provider."""
    found = contests([row for row in rows if is_latency(row)], "codec")
    lines = []
    for contest in found:
        row, ours = contest.any_row, contest.ours
        times = [milliseconds(contest.rows.get(step)) for step in LADDER]
        ratio = contest.speedups().get("eager")
        figures = ("-", "-", "-") if ours is None else (_share(ours), number(ours.realtime), megabytes(ours))
        name = (row.device, row.op, variant(row))
        lines.append((*name, *times, speedup(ratio) if ratio else "-", *figures))
    if not lines:
        return []
    head = ("device", "op", "variant", *LADDER, "ours against eager", "share", "seconds of audio per second", "peak MB")
    text = "Milliseconds of a call: one frame of 400 ms of a stream, or a clip of 10 s."
    return ["## Latency at batch 1", "", text, "", table(head, lines)]


def is_latency(row: Row) -> bool:
    """Whether a row is of the codec at batch 1, one frame or 10 s."""
    return row.op in LATENCY_OPS and row.shape.startswith("1x") and is_clip(row, 10.0)


def is_clip(row: Row, seconds: float) -> bool:
    """Whether each signal of a codec row is a frame, or a clip that long."""
    return row.op.endswith("_frame") or math.isclose((row.seconds or 0.0) / int(row.shape.split("x")[0]), seconds)


def _share(row: Row) -> str:
    return "-" if row.share is None else f"{row.share:.0%}"


def growth_section(rows: Sequence[Row]) -> list[str]:
    """Speed and memory of ours and eager over duration and batch, on the most threads, or in half precision."""
    groups: dict[tuple[str, str, str], dict[str, dict[str, Row]]] = {}
    for row in rows:
        if row.op in ("encode", "decode") and row.provider in ("ours", "eager") and row.status == OK:
            found = groups.setdefault((row.device, row.op, row.provider), {})
            found.setdefault(variant(row), {})[row.case.split(", ", 1)[-1]] = row
    sizes = {size: row for group in groups.values() for found in group.values() for size, row in found.items()}
    order = sorted(sizes, key=lambda size: (not size.endswith("batch 1"), sizes[size].seconds))
    lines = []
    for key, group in sorted(groups.items()):
        name = max(group, key=lambda name: (len(group[name]), "16" in name, name))
        cells = [_speed(group[name].get(size)) for size in order]
        lines.append((*key[:2], name, key[2], *cells))
    text = "Seconds of audio per second, and peak memory:"
    head = ("device", "op", "variant", "provider", *order)
    return ["## Growth with duration and batch", "", text, "", table(head, lines)] if lines else []


def _speed(row: Row | None) -> str:
    return "-" if row is None else f"{number(row.realtime)}{f', {megabytes(row)} MB' if row.peak_bytes else ''}"


def ops_section(rows: Sequence[Row]) -> list[str]:
    """Per op and direction: share of the ceiling and speed-up over each rival, medians and lowest.

    Where ours has no figure, as on a CPU, torch.compile against eager in a sentence.
    """
    groups: dict[tuple[str, str], list[Contest]] = {}
    without: dict[str, list[Contest]] = {}
    for contest in contests(rows, "ops"):
        row = contest.ours
        if row is None:
            without.setdefault(contest.any_row.device, []).append(contest)
        else:
            groups.setdefault((row.device, f"{row.op} {row.direction}"), []).append(contest)
    if not groups and not without:
        return []
    rivals = sorted({rival for group in groups.values() for contest in group for rival in contest.speedups()})
    lines = []
    for key, group in sorted(groups.items()):
        shares = [contest.ours.share for contest in group if contest.ours and contest.ours.share is not None]
        values = [[c.speedups()[rival] for c in group if rival in c.speedups()] for rival in rivals]
        cells = [f"{statistics.median(shares):.0%}, lowest {min(shares):.0%}" if shares else "-"]
        cells += [f"{speedup(statistics.median(v))}, lowest {speedup(min(v))}" if v else "-" for v in values]
        lines.append((*key, len(group), *cells))
    head = ("device", "op", "cases", "share of the ceiling", *(f"times as fast as {rival}" for rival in rivals))
    tables = [table(head, lines)] if lines else []
    return ["## Operations", "", *tables, *(_sentence(device, found) for device, found in without.items())]


def _sentence(device: str, found: Iterable[Contest]) -> str:
    pairs = [(contest.rows.get("eager"), contest.rows.get("compile")) for contest in found]
    ratios = [a.timing.p50 / b.timing.p50 for a, b in pairs if a and b and a.status == b.status == OK]
    text = f"{device}: {len(pairs)} cases in which ours has no figure"
    if ratios:
        middle = statistics.median(ratios)
        text += f"; of {len(ratios)} by torch.compile, it is {middle:.2f} times as fast as eager in the median"
        text += f", {min(ratios):.2f} to {max(ratios):.2f}"
    return f"{text}.\n"


def absences_section(rows: Sequence[Row]) -> list[str]:
    """Rows without a figure as one sentence a device: what failed first."""
    lines = []
    for device in dict.fromkeys(row.device for row in rows):
        mine = [row for row in rows if row.device == device and row.status != OK]
        found = Counter((row.status.split(",")[0], row.provider) for row in mine)
        lines.append(f"{device}: {_absences(found)}\n")
    return ["## What has no figure", "", *lines] if lines else []


def _absences(found: Counter[tuple[str, str]]) -> str:
    reasons: dict[str, list[str]] = {}
    order = ("failed", "skipped", "absent")
    for status, provider in sorted(found, key=lambda key: (order.index(key[0].split(":")[0]), key)):
        reasons.setdefault(status, []).append(f"{found[status, provider]} of {provider}")
    texts = (f"{status} ({', '.join(counts)})" for status, counts in reasons.items())
    return f"{found.total()} rows have no figure: {'; '.join(texts)}." if reasons else "every row has a figure."
