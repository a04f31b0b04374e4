"""Pictures of what a codec did: waveforms, log-mel spectrograms, tokens. matplotlib is imported when first used."""

import os

import numpy as np
import torch

from silk_fast.files import atomic_file
from silk_fast.metrics import log_mel_spectrogram

MAX_COLUMNS = 2000


def _envelope(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum of at most MAX_COLUMNS stretches of the signal."""
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
) -> None:
    """Draw signals under each other: waveform and log-mel spectrogram of each, and the tokens as a raster.

    Args:
        target: PNG file; it appears only when complete.
        signals: name to float32 ``[T]``.
        sample_rate: Hz.
        title: over everything.
        digits: int ``[F, D]`` FSQ digits, drawn as a raster over the same time axis; None for no raster.
        frame_seconds: duration of a frame of digits.

    Raises:
        SilkFileError: the target cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_rows = 2 * len(signals) + (digits is not None)
    figure = Figure(figsize=(12, 2.2 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
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
    with atomic_file(target) as file:
        figure.savefig(file, format="png", dpi=100)
