"""Other speech codecs, run as programs on the same clips: Codec2 and Opus."""

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from silk_fast.evaluation.clips import RATE
from silk_fast.evaluation.scores import resample
from silk_fast.metrics import mel_filterbank
from silk_fast.ogg import packet_sizes
from silk_fast.programs import run_program

PADDING = 4800  # samples of silence after a clip, 0.2 s, so that a codec's delay does not cost the end
DELAY_N_FFT = 512
DELAY_HOP = 24  # samples, 1 ms
DELAY_BANDS = 40
DELAY_LIMIT = 100  # hops


@dataclass(frozen=True)
class Coded:
    """A clip that went through a codec.

    Args:
        samples: float32 ``[T]`` at 24 kHz, as long as the original and aligned with it.
        bits_per_second: actually used, without container.
    """

    samples: np.ndarray
    bits_per_second: float


@dataclass(frozen=True)
class Anchor:
    """A codec to compare with.

    Args:
        name: in tables.
        programs: that it runs.
        package: Debian's, that has them.
        code: float32 ``[T]`` at 24 kHz to the decoded signal, its length and delay as they come, and bits used.
    """

    name: str
    programs: tuple[str, str]
    package: str
    code: Callable[[np.ndarray], tuple[np.ndarray, int]]

    @property
    def absence(self) -> str:
        """Say why it cannot run, with the package to install; empty if it can."""
        missing = [program for program in self.programs if shutil.which(program) is None]
        return f"absent: no {' and '.join(missing)}; apt-get install {self.package}" if missing else ""


def run_anchor(anchor: Anchor, samples: np.ndarray, delay: int = 0) -> Coded:
    """Encode and decode a clip, and take the codec's delay back.

    Args:
        samples: float32 ``[T]`` at 24 kHz.
        delay: samples that the codec's output lags by, see :func:`measure_delay`.

    Raises:
        SilkAudioError: a program failed.
    """
    padded = np.pad(samples, (0, PADDING))
    decoded, n_bits = anchor.code(padded)
    return Coded(aligned(decoded, delay, len(samples)), n_bits * RATE / len(padded))


def aligned(decoded: np.ndarray, delay: int, n_samples: int) -> np.ndarray:
    """Cut ``[n_samples]`` out of the decoded signal from sample ``delay`` on, zeros where there is none."""
    decoded = np.pad(decoded, (max(0, -delay), 0))[max(0, delay) :][:n_samples]
    return np.pad(decoded, (0, n_samples - len(decoded)))


# ---------------------------------------------------------------- delay


def measure_delay(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    """Measure by how many samples at 24 kHz the second signals lag behind the first, to 1 ms, within 100 ms.

    Where the cross-correlation of the square-root mel spectrograms, each band less its mean, summed over bands and
    averaged over pairs, is highest. Waveforms would not do: a vocoder does not keep the phases.

    Args:
        pairs: original and decoded, float32 ``[T]`` each.
    """
    curves = [_lag_curve(_loudness(original), _loudness(decoded)) for original, decoded in pairs]
    return int(np.mean(curves, axis=0).argmax() - DELAY_LIMIT) * DELAY_HOP


def _loudness(samples: np.ndarray) -> np.ndarray:
    """Compute the loudness over time, ``[bands, T / 24]``, zero mean in every band."""
    window = torch.hann_window(DELAY_N_FFT)
    spectrum = torch.stft(torch.from_numpy(samples), DELAY_N_FFT, DELAY_HOP, window=window, return_complex=True)
    loudness = (mel_filterbank(DELAY_BANDS, DELAY_N_FFT, RATE) @ spectrum.abs()).sqrt().double()
    return (loudness - loudness.mean(1, keepdim=True)).numpy()


def _lag_curve(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the normalised cross-correlation at lags of -100 to 100 hops."""
    n_fft = 1 << (first.shape[1] + second.shape[1]).bit_length()
    product = np.fft.rfft(second, n_fft) * np.fft.rfft(first, n_fft).conj()
    curve = np.fft.irfft(product, n_fft).sum(0)[np.arange(-DELAY_LIMIT, DELAY_LIMIT + 1)]
    return curve / max(1e-12, np.sqrt(np.square(first).sum() * np.square(second).sum()))


# ---------------------------------------------------------------- the programs


def _pipe(command: Sequence[str], data: bytes) -> bytes:
    return run_program(command, data, "it to code the clip")


def _codec2(mode: str) -> Callable[[np.ndarray], tuple[np.ndarray, int]]:
    """Make a coder of ``c2enc`` and ``c2dec``: 8 kHz 16-bit samples; their pipes carry frames and nothing else."""

    def code(samples: np.ndarray) -> tuple[np.ndarray, int]:
        narrow = resample(samples, RATE, 8000) * 32_768
        encoded = _pipe(["c2enc", mode, "-", "-"], narrow.round().clip(-32_768, 32_767).astype("<i2").tobytes())
        decoded = np.frombuffer(_pipe(["c2dec", mode, "-", "-"], encoded), "<i2").astype(np.float32) / 32_768
        return resample(decoded, 8000, RATE), 8 * len(encoded)

    return code


def _opus(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Code with Opus at its lowest target of 6 kbit/s, otherwise as opus-tools choose: variable rate, 20 ms frames."""
    import soundfile

    wav = io.BytesIO()
    soundfile.write(wav, samples.clip(-1, 1), RATE, subtype="PCM_16", format="WAV")
    encoded = _pipe(["opusenc", "--quiet", "--bitrate", "6", "-", "-"], wav.getvalue())
    n_bits = 8 * sum(packet_sizes(io.BytesIO(encoded))[2:])  # after the two headers
    decoded = _pipe(["opusdec", "--quiet", "--float", "--rate", str(RATE), "-", "-"], encoded)
    return np.frombuffer(decoded, "<f4"), n_bits


ANCHORS = (
    *(Anchor(f"Codec2 {mode}", ("c2enc", "c2dec"), "codec2", _codec2(mode)) for mode in ("1200", "2400", "3200")),
    Anchor("Opus 6 kbit/s", ("opusenc", "opusdec"), "opus-tools", _opus),
)
