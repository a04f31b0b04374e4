"""Pictures: how all of them are set up and saved, and that of what a codec did to a signal.

matplotlib is imported when first used, and never its global state; files appear only when complete.
"""

import io
import os
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from silk_fast.files import atomic_file, printable
from silk_fast.metrics import log_mel_spectrogram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_COLUMNS = 2000


def new_figure(width: float, height: float) -> "Figure":
    """Make an empty figure, inches wide and high, that lays itself out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(
    figure: "Figure", target: str | os.PathLike, n_colours: int | None = None, scale: float = 1.0, **options
) -> None:
    """Save a figure as a PNG of 100 dots per inch, which appears only when complete.

    All text in it is drawn as it is: names of files are no formulas, and what cannot be printed is escaped.

    Args:
        target: the file.
        n_colours: of a palette, which takes a third of the bytes or less; None for all colours.
        scale: factor of the size of a picture in few colours.
        options: of ``Figure.savefig``.

    Raises:
        SilkFileError: the target cannot be written.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_text("\n".join(map(printable, text.get_text().split("\n"))))
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        figure.savefig(png, format="png", dpi=100, **options)
    if n_colours is None:
        with atomic_file(target) as file:
            file.write(png.getvalue())
        return
    from PIL import Image

    image = Image.open(png).convert("RGB")
    image = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.LANCZOS)
    image = image.quantize(n_colours, dither=Image.Dither.NONE)
    with atomic_file(target) as file:
        image.save(file, format="PNG", optimize=True)


def _envelope(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find minimum and maximum of at most MAX_COLUMNS stretches of the signal."""
    stretch = max(1, len(samples) // MAX_COLUMNS)
    rows = samples[: len(samples) // stretch * stretch].reshape(-1, stretch)
    return rows.min(1), rows.max(1)


def draw_comparison(
    target: str | os.PathLike,
    signals: dict[str, np.ndarray],
    sample_rate: int,
    title: str = "",
    digits: np.ndarray | None = None,
    frame_seconds: float = 0.4,
    **saving,
) -> None:
    """Draw signals under each other: waveform and log-mel spectrogram of each, and the tokens as a raster.

    Args:
        target: PNG file.
        signals: name to float32 ``[T]``.
        sample_rate: Hz.
        title: over everything.
        digits: int ``[F, D]`` FSQ digits, drawn as a raster over the same time axis; None for no raster.
        frame_seconds: duration of a frame of digits.
        saving: options of :func:`save_figure`.

    Raises:
        SilkFileError: the target cannot be written.
    """
    n_rows = 2 * len(signals) + (digits is not None)
    figure = new_figure(12, 2.2 * n_rows)
    heights = [1, 2] * len(signals) + [2] * (digits is not None)
    axes = figure.subplots(n_rows, 1, sharex=True, height_ratios=heights)
    duration = max(len(samples) for samples in signals.values()) / sample_rate
    peak = max(1e-3, *(float(np.abs(samples).max(initial=0)) for samples in signals.values()))
    for i, (name, samples) in enumerate(signals.items()):
        low, high = _envelope(samples)
        times = np.linspace(0, len(samples) / sample_rate, len(low))
        axes[2 * i].fill_between(times, low, high, linewidth=0.3, color="tab:blue", edgecolor="tab:blue")
        axes[2 * i].set(ylim=(-peak, peak), ylabel="amplitude", title=name)
        mel = log_mel_spectrogram(torch.from_numpy(samples), sample_rate).numpy()
        mel = mel[:, :: max(1, mel.shape[1] // MAX_COLUMNS)]
        image = axes[2 * i + 1].imshow(
            mel,
            origin="lower",
            aspect="auto",
            extent=(0, len(samples) / sample_rate, 0, len(mel)),
            vmin=-100,
            vmax=-20,
            cmap="magma",
        )
        axes[2 * i + 1].set(ylabel="mel band")
        figure.colorbar(image, ax=axes[2 * i + 1], label="dB", pad=0.01)
    if digits is not None:
        extent = (0, frame_seconds * len(digits), 0, digits.shape[1])
        image = axes[-1].imshow(digits.T, origin="lower", aspect="auto", interpolation="nearest", extent=extent)
        axes[-1].set(ylabel="dimension", title=f"FSQ digits, {len(digits)} frames")
        figure.colorbar(image, ax=axes[-1], label="level", pad=0.01)
    axes[-1].set(xlabel="seconds", xlim=(0, duration))
    figure.suptitle(title)
    save_figure(figure, target, **saving)
