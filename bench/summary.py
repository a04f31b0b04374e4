"""What rows say, as Markdown: losses, the codec, operations."""

import statistics
from collections import Counter
from collections.abc import Sequence

from bench.contests import Contest, contests, overlap, ratio
from silk_fast.benchmark.rows import OK, Row
from silk_fast.markdown import LEFT, significant, table

GOOD_SHARE = 0.8
LADDER = ("eager", "compile", "compile-max", "ours")


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


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def losses_section(rows: Sequence[Row], limit: int) -> list[str]:
    """Cases of ours that are slower than a rival or below 80 % of their ceiling, ``limit`` of them, the worst first."""
    sections = ("ops", "codec", "libraries")
    found = [loss for section in sections for contest in contests(rows, section) if (loss := _loss(contest))]
    text = f"{len(found)} cases of ours are slower than a rival or below {GOOD_SHARE:.0%} of their ceiling"
    text += f"; the worst {limit}:" if len(found) > limit else "."
    head = ("device", "op", "case", "variant", "ms", "times as fast as", "share")
    lines = [cells for _, cells in sorted(found)[:limit]]
    return ["## Losses", "", text, "", *([table(head, lines, rule=LEFT)] if lines else [])]


def _loss(contest: Contest) -> tuple[float, tuple[str, ...]] | None:
    """How bad, and the cells of its line."""
    ours = contest.ours
    if ours is None:
        return None
    slower = {rival: value for rival, value in contest.speedups().items() if is_loss(value)}
    shares = [ours.share] if ours.share is not None and ours.share < GOOD_SHARE else []
    if not slower and not shares:
        return None
    names = ", ".join(
        f"{rival} {speedup(value)}{' (ranges overlap)' * overlap(contest.rows[rival], ours)}"
        for rival, value in sorted(slower.items())
    )
    what = (ours.device, f"{ours.op} {ours.direction}", ours.case, variant(ours), milliseconds(ours))
    return min([*slower.values(), *shares]), (*what, names or "-", f"{percent(ours.share)} of {ours.ceiling}")


def codec_section(rows: Sequence[Row]) -> list[str]:
    """Every size of encode and decode, by every provider: on all threads, or on a GPU in half precision.

    Of a CPU one frame and ten seconds on every number of threads, and in bfloat16, too.
    """
    found = contests(rows, "codec")
    best: dict[str, str] = {}
    for row in sorted((contest.any_row for contest in found), key=lambda row: (row.threads or 0, _is_best_dtype(row))):
        best[row.device] = variant(row)
    lines = []
    for contest in sorted(found, key=lambda contest: _size(contest.any_row)):
        row, ours = contest.any_row, contest.ours
        is_detail = row.driver is None and ("compile" in contest.rows or row.dtype == "bfloat16")
        if variant(row) != best[row.device] and not is_detail:
            continue
        times = [milliseconds(contest.rows.get(provider)) for provider in LADDER]
        ratio = contest.speedups().get("eager")
        figures = (percent(ours.share), number(ours.realtime), _megabytes(ours)) if ours else ("-", "-", "-")
        name = (f"{row.device}, {variant(row)}", row.op, row.case.split(", ", 1)[-1])
        lines.append((*name, *times, speedup(ratio) if ratio else "-", *figures))
    if not lines:
        return []
    head = ("device", "op", "size", *LADDER, "ours against eager", "share", "audio s per s", "peak MB")
    return ["## The codec", "", "Milliseconds of a call:", "", table(head, lines, rule=LEFT)]


def _is_best_dtype(row: Row) -> bool:
    """Half precision on a GPU; on a CPU it is never a default."""
    return (row.dtype == "float32") == (row.driver is None)


def _size(row: Row) -> tuple:
    return row.device, row.op, int(row.shape.split("x")[0]), row.seconds


def _megabytes(row: Row) -> str:
    return number(row.peak_bytes / 1e6 if row.peak_bytes else None)


def libraries_section(rows: Sequence[Row]) -> list[str]:
    """Codecs of other libraries: float32 by every provider, and ours in half precision against eager float32."""
    found = contests(rows, "libraries")
    halves = {contest.any_row.case_key[:4]: contest.ours for contest in found if contest.any_row.dtype != "float32"}
    lines = []
    for contest in found:
        row, eager = contest.any_row, contest.rows.get("eager")
        if row.dtype != "float32":
            continue
        half, against = halves.get(row.case_key[:4]), contest.speedups()
        gain = ratio(eager, half) if half and eager and eager.status == OK and eager.date == half.date else None
        times = [milliseconds(contest.rows.get(provider)) for provider in ("eager", "compile", "ours")]
        gains = [against.get("eager"), against.get("compile"), gain]
        figures = [milliseconds(half), *(speedup(value) if value else "-" for value in gains)]
        lines.append((f"{row.device}, {variant(row)}", row.op, row.case, *times, *figures))
    if not lines:
        return []
    head = ("device", "op", "codec", "eager", "compile", "ours", "ours in half precision", "against eager")
    head = (*head, "against compile", "half against eager")
    return ["## Codecs of other libraries", "", "Milliseconds of a call:", "", table(head, lines, rule=LEFT)]


def ops_section(rows: Sequence[Row]) -> list[str]:
    """Per op and direction: share of the ceiling and speed-up over each rival, medians and lowest.

    Where ours has no figure, as on a CPU, torch.compile against eager in a sentence.
    """
    groups: dict[tuple[str, str], list[Contest]] = {}
    without: dict[str, list[Contest]] = {}
    for contest in contests(rows, "ops"):
        row = contest.any_row
        if contest.ours is None:
            without.setdefault(row.device, []).append(contest)
        else:
            groups.setdefault((row.device, f"{row.op} {row.direction}"), []).append(contest)
    rivals = sorted({rival for group in groups.values() for contest in group for rival in contest.speedups()})
    lines = []
    for key, group in sorted(groups.items()):
        shares = [contest.ours.share for contest in group if contest.ours and contest.ours.share is not None]
        speeds = [[c.speedups()[rival] for c in group if rival in c.speedups()] for rival in rivals]
        lines.append((*key, len(group), _middle(shares, percent), *(_middle(values, speedup) for values in speeds)))
    head = ("device", "op", "cases", "share of the ceiling", *(f"times as fast as {rival}" for rival in rivals))
    found = [*([table(head, lines)] if lines else []), *(_sentence(device, group) for device, group in without.items())]
    return ["## Operations", "", *found] if found else []


def _middle(values: Sequence[float], write) -> str:
    return f"{write(statistics.median(values))}, lowest {write(min(values))}" if values else "-"


def _sentence(device: str, found: Sequence[Contest]) -> str:
    pairs = [(contest.rows.get("eager"), contest.rows.get("compile")) for contest in found]
    ratios = [a.timing.p50 / b.timing.p50 for a, b in pairs if a and b and a.status == b.status == OK]
    text = f"{device}: {len(found)} cases in which ours has no figure"
    if ratios:
        text += (
            f"; of {len(ratios)} by torch.compile, it is {statistics.median(ratios):.2f} times as fast as eager in the"
        )
        text += f" median, {min(ratios):.2f} to {max(ratios):.2f}"
    return f"{text}.\n"


def absences_section(rows: Sequence[Row]) -> list[str]:
    """Rows without a figure as one sentence a device."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        reasons = found.setdefault(row.device, Counter())
        if row.status != OK:
            reasons[f"{row.provider}, {row.status.split(',')[0]}"] += 1
    texts = []
    for device, reasons in found.items():
        text = "; ".join(f"{n} of {reason}" for reason, n in sorted(reasons.items())) or "none"
        texts.append(f"{device}: {text}.\n")
    return ["## Rows without a figure", "", *texts] if texts else []
