"""Pictures of result rows of the codec on one device."""

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.summary import LADDER, variant
from silk_fast.benchmark.rows import OK, Row
from silk_fast.plot import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 10.0  # inches
COLOURS = {
    "eager": "tab:gray",
    "compile": "tab:orange",
    "compile-max": "tab:red",
    "ours": "tab:blue",
    "cuda-graph": "tab:green",
}


def draw_ladder(target: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Draw times of a call from eager to all optimisations: a panel per op and variant, whiskers p20 to p80."""
    panels: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        panels.setdefault((row.model, row.op, variant(row)), {})[row.provider] = row
    n_lines = math.ceil(len(panels) / 2)
    figure = new_figure(WIDTH, 2.4 * n_lines)
    axes = figure.subplots(n_lines, 2, squeeze=False)
    for axis, ((codec, op, name), found) in zip(axes.flat, sorted(panels.items()), strict=False):
        steps = [step for step in LADDER if step in found]
        times = [time for step in steps if (time := found[step].call)]
        whiskers = [[t.p50 - t.p20 for t in times], [t.p80 - t.p50 for t in times]]
        middles, colours = [time.p50 for time in times], [COLOURS[step] for step in steps]
        axis.barh(steps, middles, xerr=whiskers, color=colours, ecolor="black")
        for step, time in zip(steps, times, strict=True):
            axis.annotate(f"  {time.p50:.3g} ms", (time.p80, step), va="center", fontsize=8)
        axis.set_xlim(0, 1.2 * max(time.p80 for time in times))
        axis.invert_yaxis()
        axis.set_title(f"{codec}: {op.replace('_', ' of one ')}, {name}", fontsize=10)
        axis.set_xlabel("ms")
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    save_figure(figure, target, metadata={"Software": None})


def draw_growth(target: str | os.PathLike, by_duration: Sequence[Row], by_batch: Sequence[Row]) -> None:
    """Draw time, speed and peak memory over duration (left) and over batch (right), both axes logarithmic.

    Only what was measured at several sizes is drawn.
    """
    columns: tuple[tuple[str, Sequence[Row], Callable], ...] = (
        ("seconds of audio", by_duration, lambda row: row.seconds),
        ("batch", by_batch, lambda row: int(row.shape.split("x")[0])),
    )
    lines: tuple[tuple[str, Callable], ...] = (
        ("ms", lambda row: row.call.p50),
        ("seconds of audio per second", lambda row: row.realtime),
        ("peak memory, MB", lambda row: row.peak_bytes / 1e6 if row.peak_bytes else None),
    )
    figure = new_figure(WIDTH, 3.2 * len(lines))
    axes = figure.subplots(len(lines), 2, squeeze=False)
    names = sorted({_curve_name(row) for row in (*by_duration, *by_batch) if row.status == OK})
    for i_column, (x_label, rows, x_of) in enumerate(columns):
        for i_line, (y_label, y_of) in enumerate(lines):
            axis = axes[i_line, i_column]
            _draw_curves(axis, rows, x_of, y_of, names)
            axis.set(xlabel=x_label, ylabel=y_label)
    found: dict = {}
    for axis in axes.flat:
        found.update(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    if found:
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=2, fontsize=8)
    save_figure(figure, target, metadata={"Software": None})


def _curve_name(row: Row) -> str:
    return f"{row.model}: {row.op}, {row.provider}, {variant(row)}"


def _draw_curves(axis: "Axes", rows: Sequence[Row], x_of: Callable, y_of: Callable, names: list[str]) -> None:
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
