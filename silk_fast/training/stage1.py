"""Stage 1, latent space learning: predict the latents of masked frames, as an averaged copy sees them (JEPA).

The convolutional encoder turns audio into latent frames; about half of them, in spans, are replaced
by a learned token; the codec's Conformer and a bidirectional predictor then regress the latents that
a copy with averaged weights computes of the whole audio. Only masked frames count.
"""

import copy
import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silk_fast.reference.codec import SilkCodec
from silk_fast.reference.conformer import Conformer
from silk_fast.training.compiling import compiled
from silk_fast.training.config import Stage1Config
from silk_fast.training.monitors import effective_rank, latent_deviation
from silk_fast.training.stage import Learner, Stage


def span_mask(n_frames: int, ratio: float, span: int, generator: torch.Generator) -> Tensor:
    """Draw bool ``[F]``, true on exactly ``round(ratio * F)`` frames (at least 1), in random spans that count once.

    Args:
        ratio: share of frames, 0 .. 1.
        span: frames of a span; where spans meet they are longer, and the last one may be cut.
    """
    n_masked = min(n_frames, max(1, round(ratio * n_frames)))
    mask = torch.zeros(n_frames, dtype=torch.bool)
    for start in torch.randperm(n_frames, generator=generator).tolist():
        for i in range(start, min(start + span, n_frames)):
            if int(mask.sum()) == n_masked:
                return mask
            mask[i] = True
    return mask


class LatentPredictor(nn.Module):
    """Conv encoder, mask token, the codec's Conformer, and a bidirectional predictor: audio to predicted latents."""

    def __init__(self, codec: SilkCodec, layers: int) -> None:
        super().__init__()
        sizes = codec.config
        both_ways = dataclasses.replace(sizes, conformer_layers=layers, attention_left=None, attention_right=None)
        self.encoder, self.conformer = codec.encoder, codec.conformer
        self.mask_token = nn.Parameter(torch.randn(sizes.latent_dim))  # zeros would blow up in the norms' gradients
        self.predictor = Conformer(both_ways)
        self.output = nn.Linear(sizes.latent_dim, sizes.latent_dim)

    def forward(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Predict latents ``[B, F, D]`` of ``audio`` ``[B, 1, 9600 F]`` without the masked frames (``[B, F]``)."""
        x = self.encoder(audio)
        x = torch.where(mask[..., None], self.mask_token.to(x.dtype), x)
        return self.output(self.predictor(self.conformer(x)))


class Stage1(Stage[Stage1Config]):
    """Masked latent prediction against an averaged teacher.

    Args:
        config: mask and predictor.
        codec: its encoder and Conformer are trained in place.
        device: where everything lives.
        compile: run the models through ``torch.compile``.
    """

    def __init__(self, config: Stage1Config, codec: SilkCodec, device: torch.device, compile: bool = False) -> None:
        self.config = config
        self.codec = codec
        codec.decoder.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.student = LatentPredictor(codec, config.predictor_layers).to(device)
        self.teacher = copy.deepcopy(codec).requires_grad_(False).eval()
        self.predict = compiled(self.student) if compile else self.student
        self.targets = compiled(self.teacher.latents) if compile else self.teacher.latents
        self.networks = [self.student, self.teacher]
        self.learners = {"student": Learner(self.student, config, config.learning_rate)}

    def masks(self, step: int, batch_size: int, n_frames: int) -> Tensor:
        """Draw the bool ``[B, F]`` of one step: a function of seed, step and process alone."""
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        seed = int(np.random.SeedSequence((self.config.seed, step, rank)).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        ratio, span = self.config.mask_ratio, self.config.mask_span
        return torch.stack([span_mask(n_frames, ratio, span, generator) for _ in range(batch_size)])

    def step(self, audio: Tensor, step: int, bandwidth: Tensor | None = None) -> dict[str, Tensor]:
        n_frames = audio.shape[-1] // self.codec.config.frame_samples
        mask = self.masks(step, audio.shape[0], n_frames).to(audio.device)
        with self.autocast(audio.device):
            with torch.no_grad():
                target = self.targets(audio)
            predicted = self.predict(audio, mask)
        target = target.float()
        loss = F.mse_loss(predicted.float()[mask], target[mask])
        learned = self.learn("student", loss, step)
        return {
            "loss": loss.detach(),
            **learned,
            "latent_deviation": latent_deviation(target),
            "latent_variance_smallest": target.flatten(0, 1).var(0).min(),
            "effective_rank": effective_rank(target),
            "encoder_gradient": self.gradient_norm(self.codec.encoder),
        }

    def follow(self, average: dict[str, Tensor]) -> None:
        self.teacher.load_state_dict(average)
