"""Stage 2: the whole codec with FSQ, trained to reconstruct, and from some step on against discriminators."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from silk_fast.errors import SilkConfigError
from silk_fast.reference.codec import SilkCodec
from silk_fast.reference.conformer import ConformerBlock
from silk_fast.reference.harmonics import Voice
from silk_fast.training.compiling import compiled
from silk_fast.training.config import Stage2Config
from silk_fast.training.data import CropDataset
from silk_fast.training.discriminators import Discriminators
from silk_fast.training.features import FeatureCropDataset, FeatureStore, Store, TokenStore
from silk_fast.training.losses import (
    ReconstructionLoss,
    adversarial_loss,
    band_limited,
    discriminator_loss,
    feature_loss,
    voice_losses,
)
from silk_fast.training.monitors import fsq_entropy, latent_deviation
from silk_fast.training.recordings import Clip, Notice
from silk_fast.training.stage import Learner, Stage, crop_samples

SMALLEST_GAIN = 1e-4


class Autoencoder(nn.Module):
    """The codec's differentiable pass, with what the losses and monitors need of it."""

    def __init__(self, codec: SilkCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, x: Tensor, n_stages: int = 0) -> tuple[Tensor, Voice | None, Tensor, Tensor]:
        """Compute the decoded audio ``[B, 1, 9600 F]``, its voice, if any, and latents and codes ``[B, F, 128]``.

        Args:
            x: audio ``[B, 1, 9600 F]``, or what the encoder's first ``n_stages`` made of it.
        """
        encoder = self.codec.encoder
        latents = self.codec.conformer(encoder.latents(x, n_stages).to(x.dtype) if n_stages else encoder(x))
        codes = self.codec.quantizer(latents)
        return *self.decode(codes), latents, codes

    def decode(self, codes: Tensor) -> tuple[Tensor, Voice | None]:
        """Compute audio and voice of codes."""
        voice = self.codec.decoder.voice(codes)
        return self.codec.decoder.synthesise(codes, voice), voice


@torch.no_grad()
def fix_last_affine_(codec: SilkCodec) -> None:
    """Take gain (but its sign) and bias out of the Conformer's last LayerNorm, and fix them; codes stay as they are.

    Standardisation undoes both, so no reconstruction loss moves them, but the centre loss would: they would hide from
    it a constant that grows on the frames block by block.
    """
    last, statistics = cast(ConformerBlock, codec.conformer.blocks[-1]).norm5, codec.quantizer.norm
    size = last.weight.abs().clamp(min=SMALLEST_GAIN)
    statistics.mean.copy_((statistics.mean - last.bias) / size)
    statistics.variance.copy_(statistics.variance / size.square())
    last.weight.copy_(last.weight.sign())
    nn.init.zeros_(last.bias)
    last.requires_grad_(False)


class Stage2(Stage[Stage2Config]):
    """Reconstruction (L1, multi-resolution STFT, log-mel), adversarial and perceptual training.

    Args:
        config: weights of the losses and sizes.
        codec: trained in place.
        device: where everything lives.
        compile: run codec and losses through ``torch.compile``.
    """

    def __init__(self, config: Stage2Config, codec: SilkCodec, device: torch.device, compile: bool = False) -> None:
        self.config = config
        self.codec = codec
        self.reconstruction = ReconstructionLoss(
            codec.config.sample_rate, compile, with_phase=config.phase_weight > 0
        ).to(device)
        self.autoencoder = Autoencoder(codec)
        forward: Callable[..., tuple] = self.autoencoder.decode if self.decoder_only else self.autoencoder
        self.forward = compiled(forward) if compile else forward
        if self.decoder_only:
            for module in (codec.encoder, codec.conformer, codec.quantizer):
                module.requires_grad_(False)
        else:
            self._freeze_encoder(config.frozen_encoder_stages)
            fix_last_affine_(codec)
        self.networks = [codec]
        self.learners = {"codec": Learner(codec, config, config.learning_rate)}
        self.discriminators: Discriminators | None = None
        if config.adversarial_from >= 0:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                self.discriminators = Discriminators(config.discriminator_channels).to(device)
            learner = Learner(self.discriminators, config, config.discriminator_learning_rate)
            self.learners["discriminators"] = learner
        self.perceptual: nn.Module | None = None
        if config.wavlm:
            from silk_fast.training.perceptual import WavLMLoss

            self.perceptual = WavLMLoss(config.wavlm, codec.config.sample_rate).to(device)

    def _freeze_encoder(self, n_stages: int) -> None:
        """Fix the first stages: the first runs at the audio's rate, and without its gradients a step costs half."""
        encoder = self.codec.encoder
        if n_stages > len(encoder.stages):
            raise SilkConfigError(f"frozen_encoder_stages must be at most {len(encoder.stages)}, got {n_stages}")
        if self.config.features and not n_stages:
            raise SilkConfigError("features are of what is frozen, but frozen_encoder_stages is 0 and all is trained")
        for module in [encoder.input, *encoder.stages[:n_stages]] if n_stages else []:
            module.requires_grad_(False)

    @property
    def decoder_only(self) -> bool:
        """Whether encoder, Conformer and quantizer keep the weights of the initial model, so that tokens stay."""
        return self.config.trained == "decoder"

    @property
    def statistics_frozen_from(self) -> int | None:
        if self.decoder_only:
            return -1
        return self.config.adversarial_from if self.discriminators else None

    def dataset(self, clips: Sequence[Clip], notice: Notice) -> CropDataset:
        config, sizes = self.config, self.codec.config
        if not config.features:
            return super().dataset(clips, notice)
        folder, n_stages = Path(config.features), config.frozen_encoder_stages
        store: Store = (
            TokenStore(folder, self.codec)
            if self.decoder_only
            else FeatureStore(folder, self.codec.encoder, n_stages, sizes.sample_rate)
        )
        return FeatureCropDataset(
            clips, crop_samples(config, sizes), store, config.seed, notice, config.pieces, self.pitch_hop
        )

    def step(
        self,
        audio: Tensor,
        step: int,
        bandwidth: Tensor | None = None,
        features: Tensor | None = None,
        pitch: Tensor | None = None,
    ) -> dict[str, Tensor]:
        config = self.config
        judges = self.discriminators if step >= config.adversarial_from else None
        self.codec.quantizer.norm.frozen = judges is not None
        decoded, voice, *encoded = self._pass(audio, features)
        decoded, target = self.aligned(decoded.float(), audio)
        if bandwidth is not None:
            rate = self.codec.config.sample_rate
            decoded, target = (band_limited(signal, bandwidth, rate) for signal in (decoded, target))
        values: dict[str, Tensor] = {}
        if judges is not None:
            values |= self._step_discriminators(judges, decoded.detach(), target, step)
        losses = self.reconstruction(decoded, target)
        if encoded:
            losses["centre"] = encoded[0].float().mean((0, 1)).square().mean()
        if voice is not None and pitch is not None:
            sizes = self.codec.config
            ahead = (sizes.n_fft // 2 - sizes.output_delay) // sizes.hop_samples
            losses |= voice_losses(voice, pitch.roll(-ahead, 1))
        if judges is not None:
            losses |= self._adversarial_losses(judges, decoded, target)
        if self.perceptual is not None:
            losses["wavlm"] = self.perceptual(decoded, target)
        total = torch.stack([getattr(config, f"{name}_weight") * loss for name, loss in losses.items()]).sum()
        values |= self.learn("codec", total, step)
        values |= {name: loss.detach() for name, loss in losses.items()} | {"loss": total.detach()}
        if encoded:
            latents, codes = encoded
            values["fsq_entropy"] = fsq_entropy(codes, self.codec.config.levels)
            values["latent_deviation"] = latent_deviation(latents)
            values["encoder_gradient"] = self.gradient_norm(self.codec.encoder)
        return values

    def _pass(self, audio: Tensor, features: Tensor | None) -> tuple:
        """Decode a batch, or the features or tokens of it, and give what the autoencoder does."""
        codec = self.codec
        if self.decoder_only:
            tokens = codec.encode(audio).tokens if features is None else features.mT
            codes = codec.quantizer.codes(tokens).to(audio)
            with self.autocast(audio.device):
                return self.forward(codes)
        with self.autocast(audio.device):
            if features is None:
                return self.forward(audio)
            return self.forward(features.float(), self.config.frozen_encoder_stages)

    def _step_discriminators(
        self, judges: Discriminators, decoded: Tensor, target: Tensor, step: int
    ) -> dict[str, Tensor]:
        with self.autocast(decoded.device):
            loss = discriminator_loss(judges(target)[0], judges(decoded)[0])
        learned = self.learn("discriminators", loss, step)
        return {"discriminator": loss.detach(), "discriminator_gradient": learned["gradient"]}

    def _adversarial_losses(self, judges: Discriminators, decoded: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Judge the decoded audio ``[B, 1, T]``, without gradients for the discriminators."""
        judges.requires_grad_(False)
        with self.autocast(decoded.device):
            logits, ours = judges(decoded)
            theirs = judges(target)[1]
        judges.requires_grad_(True)
        return {"adversarial": adversarial_loss(logits), "feature": feature_loss(theirs, ours)}

    def aligned(self, decoded: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Take the decoder's delay out of decoded audio and target, ``[B, 1, T]`` each."""
        delay = self.codec.config.output_delay
        return (decoded[..., delay:], audio[..., : audio.shape[-1] - delay]) if delay else (decoded, audio)

    @torch.no_grad()
    def listen(self, audio: Tensor) -> Tensor:
        self.codec.eval()
        decoded = self.codec(audio)
        self.codec.train()
        return decoded
