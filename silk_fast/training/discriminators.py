"""Discriminators of the adversarial stage: multi-period and multi-resolution. Audio is ``[B, 1, T]``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

PERIODS = (2, 3, 5, 7, 11)
FFT_SIZES = (2048, 1024, 512)
SLOPE = 0.1  # of the leaky ReLU


class Discriminator(nn.Module):
    """A stack of 2-D convolutions that judges one view of the audio.

    Args:
        strides: of each layer, over the first axis of the view and over the second.
        kernel: of each layer.
        inputs: channels of the view.
        channels: of the first layer; doubled by each layer up to 16 times.
    """

    def __init__(
        self,
        strides: list[tuple[int, int]],
        kernel: tuple[int, int],
        inputs: int,
        channels: int,
        final: tuple[int, int],
    ) -> None:
        super().__init__()
        widths = [inputs, *(min(channels * 2**i, 16 * channels) for i in range(len(strides)))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2)))
            for a, b, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.head = weight_norm(nn.Conv2d(widths[-1], 1, final, padding=(final[0] // 2, final[1] // 2)))

    def view(self, audio: Tensor) -> Tensor:
        """Arrange audio ``[B, 1, T]`` for the convolutions: ``[B, inputs, rows, columns]``."""
        raise NotImplementedError

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judge audio ``[B, 1, T]``; returns logits, and the feature map of every layer."""
        x, features = self.view(audio), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return self.head(x).float(), [f.float() for f in features]


class PeriodDiscriminator(Discriminator):
    """Judges every p-th sample together (HiFi-GAN: Kong et al., 2020)."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__([(3, 1)] * 4 + [(1, 1)], (5, 1), 1, channels, (3, 1))
        self.period = period

    def view(self, audio: Tensor) -> Tensor:
        audio = F.pad(audio, (0, -audio.shape[-1] % self.period), mode="reflect")
        return audio.unflatten(-1, (-1, self.period))  # [B, 1, T / p, p]


class ResolutionDiscriminator(Discriminator):
    """Judges the complex STFT at one resolution (UnivNet: Jang et al., 2021; complex as in EnCodec)."""

    window: Tensor

    def __init__(self, n_fft: int, channels: int) -> None:
        super().__init__([(1, 1), (1, 2), (1, 2), (1, 2), (1, 1)], (3, 9), 2, channels, (3, 3))
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def view(self, audio: Tensor) -> Tensor:
        spectrum = torch.stft(audio[:, 0], self.n_fft, self.n_fft // 4, window=self.window, return_complex=True)
        return torch.view_as_real(spectrum * (2 / self.window.sum())).permute(0, 3, 2, 1)  # [B, 2, frames, bins]


class Discriminators(nn.Module):
    """All periods (2, 3, 5, 7, 11) and resolutions (2048, 1024, 512).

    Args:
        channels: width of the period discriminators; the resolution discriminators have a quarter.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        by_period = [PeriodDiscriminator(period, channels) for period in PERIODS]
        by_resolution = [ResolutionDiscriminator(n_fft, max(1, channels // 4)) for n_fft in FFT_SIZES]
        self.members = nn.ModuleList([*by_period, *by_resolution])

    def forward(self, audio: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Judge audio ``[B, 1, T]``; returns logits and feature maps of each discriminator."""
        judged = [member(audio) for member in self.members]
        return [logits for logits, _ in judged], [features for _, features in judged]
