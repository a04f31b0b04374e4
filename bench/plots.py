"""Pictures of result rows. matplotlib is imported when first used."""

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from silk_fast.benchmark.rows import OK, Row
from silk_fast.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LADDER = ("eager", "compile", "compile-max", "ours", "cuda-graph")
COLOURS = {"eager": "tab:gray", "compile": "tab:orange", "compile-max": "tab:red", "ours": "tab:blue"}
OTHER_COLOURS = ("tab:green", "tab:purple", "tab:brown", "tab:olive", "tab:cyan", "tab:pink")
LINE_STYLES = ("--", ":", "-.")
GOOD_SHARE = 0.8


def middle(row: Row) -> float:
    """Median milliseconds on the device; of the whole call where only that is known."""
    return (row.kernel or row.call).p50


def gigabytes_per_second(row: Row) -> float:
    """Least traffic by formula over the median time: what really moves may be more."""
    return row.bytes / middle(row) / 1e6


def variant(row: Row) -> str:
    """What tells rows of one provider apart: dtype, and threads on a CPU."""
    return row.dtype + (f", {row.threads} thread{'s' * (row.threads > 1)}" if row.threads else "")


def model(row: Row) -> str:
    """The codec or layer of a row: ``"Silk small 24 kHz"``."""
    return row.case.split(",")[0]


def _colour(provider: str, providers: Sequence[str]) -> str:
    others = [name for name in providers if name not in COLOURS]
    return COLOURS.get(provider) or OTHER_COLOURS[others.index(provider) % len(OTHER_COLOURS)]


def _save(target: str | os.PathLike, n_rows: int, n_columns: int, height: float, draw: Callable) -> None:
    """A figure of ``n_rows`` x ``n_columns`` axes, each ``height`` inches high, drawn by ``draw(axes)``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, height * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots(n_rows, n_columns, squeeze=False))
    with atomic_file(target) as file:
        figure.savefig(file, format="png", dpi=100, metadata={"Software": None})


def _strip(axis: "Axes", points: list[tuple[str, str, float]]) -> None:
    """Dots on one line per label, a colour per series: points are (label, series, value)."""
    labels = list(dict.fromkeys(label for label, _, _ in points))
    series = list(dict.fromkeys(name for _, name, _ in points))
    for i, name in enumerate(series):
        shift = 0.6 * ((i + 0.5) / len(series) - 0.5)
        mine = [(value, labels.index(label) + shift) for label, other, value in points if other == name]
        axis.scatter(*zip(*mine, strict=True), s=14, alpha=0.7, label=name, color=_colour(name, series))
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="best", fontsize=8)


def draw_speedups(target: str | os.PathLike, speedups: list[tuple[Row, str, float]]) -> None:
    """Every case as a dot: how many times faster ours is than a rival; left of the line it is slower.

    Args:
        speedups: (row of ours, rival, rival's time / ours).
    """
    points = [(f"{row.op} {row.direction}, {row.dtype}", rival, value) for row, rival, value in speedups]

    def draw(axes) -> None:
        axis = axes[0, 0]
        _strip(axis, sorted(points))
        axis.axvline(1, color="black", linewidth=1)
        axis.set(xscale="log", xlabel="times faster than the rival (left of the line: slower)")

    _save(target, 1, 1, 1.5 + 0.3 * len({label for label, _, _ in points}), draw)


def draw_shares(target: str | os.PathLike, rows: list[Row]) -> None:
    """Every case as a dot: share of the measured bandwidth or matrix rate that ours reaches."""
    points = [(f"{row.op} {row.direction}, {row.dtype}", row.ceiling or "bandwidth", row.share) for row in rows]

    def draw(axes) -> None:
        axis = axes[0, 0]
        _strip(axis, sorted(points))
        axis.axvline(GOOD_SHARE, color="black", linewidth=1, linestyle="--")
        axis.set(xlim=(0, max(1.05, *(1.05 * value for _, _, value in points))))
        axis.set(xlabel=f"share of the ceiling that was measured (dashed: {GOOD_SHARE:.0%})")

    _save(target, 1, 1, 1.5 + 0.3 * len({label for label, _, _ in points}), draw)


def draw_bandwidth(target: str | os.PathLike, rows: list[Row], copies: list[Row]) -> None:
    """Every case as a dot: bandwidth that a provider achieves, beside that of the machine's own copy.

    Args:
        rows: of the cases.
        copies: of section ``"card"``; each is a line.
    """
    points = [(f"{row.op} {row.direction}, {variant(row)}", row.provider, gigabytes_per_second(row)) for row in rows]

    def draw(axes) -> None:
        axis = axes[0, 0]
        for i, row in enumerate(copies):
            speed = gigabytes_per_second(row)
            label = f"copy, {variant(row)}: {speed:.3g} GB/s"
            axis.axvline(speed, color="black", linewidth=1, linestyle=LINE_STYLES[i % len(LINE_STYLES)], label=label)
        _strip(axis, sorted(points))
        axis.set(xscale="log", xlabel="GB/s, traffic by formula")

    _save(target, 1, 1, 1.5 + 0.3 * len({label for label, _, _ in points}), draw)


def draw_ladder(target: str | os.PathLike, rows: list[Row]) -> None:
    """Time of a call at batch 1, from eager to all optimisations: a panel per op and variant, whiskers p20 to p80."""
    panels: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        panels.setdefault((model(row), row.op, variant(row)), {})[row.provider] = row

    def draw(axes) -> None:
        for axis, ((codec, op, name), found) in zip(axes.flat, sorted(panels.items()), strict=False):
            steps = [step for step in LADDER if step in found]
            times = [found[step].call for step in steps]
            middles = [time.p50 for time in times]
            whiskers = [[t.p50 - t.p20 for t in times], [t.p80 - t.p50 for t in times]]
            axis.barh(steps, middles, xerr=whiskers, color=[_colour(step, steps) for step in steps], ecolor="black")
            for step, time in zip(steps, times, strict=True):
                axis.annotate(f"  {time.p50:.3g} ms", (time.p80, step), va="center", fontsize=8)
            axis.set_xlim(0, 1.2 * max(time.p80 for time in times))
            axis.invert_yaxis()
            axis.set_title(f"{codec}: {op.replace('_', ' of one ')}, {name}", fontsize=10)
            axis.set_xlabel("ms")
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()

    _save(target, math.ceil(len(panels) / 2), 2, 2.4, draw)


def draw_growth(target: str | os.PathLike, by_duration: list[Row], by_batch: list[Row]) -> None:
    """Time, speed and peak memory over duration (left) and over batch (right), both axes logarithmic.

    Only what was measured at several sizes is drawn.
    """
    columns = (
        ("seconds of audio", by_duration, lambda row: row.seconds),
        ("batch", by_batch, lambda row: int(row.shape.split("x")[0])),
    )
    lines = (
        ("ms", lambda row: row.call.p50),
        ("seconds of audio per second", lambda row: 1e3 * row.seconds / row.call.p50),
        ("peak memory, MB", lambda row: row.peak_bytes / 1e6 if row.peak_bytes else None),
    )

    def draw(axes) -> None:
        names = sorted({_curve_name(row) for row in (*by_duration, *by_batch) if row.status == OK})
        for i_column, (x_label, rows, x_of) in enumerate(columns):
            for i_line, (y_label, y_of) in enumerate(lines):
                axis = axes[i_line, i_column]
                _draw_curves(axis, rows, x_of, y_of, names)
                axis.set(xlabel=x_label, ylabel=y_label)
        found = {}
        for axis in axes.flat:
            found.update(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        if found:
            axes[0, 0].figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=2, fontsize=8)

    _save(target, len(lines), 2, 3.2, draw)


def _curve_name(row: Row) -> str:
    return f"{model(row)}: {row.op}, {row.provider}, {variant(row)}"


def _draw_curves(axis: "Axes", rows: list[Row], x_of: Callable, y_of: Callable, names: list[str]) -> None:
    from matplotlib import colormaps, ticker

    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.status == OK and y_of(row) is not None:
            curves.setdefault(_curve_name(row), []).append((x_of(row), y_of(row)))
    for name, points in sorted(curves.items()):
        if len(points) > 1:
            x, y = zip(*sorted(points), strict=True)
            axis.plot(x, y, marker="o", markersize=3, label=name, color=colormaps["tab20"](names.index(name) % 20))
            axis.set(xscale="log", yscale="log")
            axis.yaxis.set_major_formatter(ticker.LogFormatter())
            axis.yaxis.set_minor_formatter(ticker.LogFormatter())
    sizes = sorted({x for points in curves.values() if len(points) > 1 for x, _ in points})
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.set_xticks([], minor=True)
    axis.grid(alpha=0.3)
