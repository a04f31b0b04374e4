"""``diffusers``' AutoencoderOobleck, the autoencoder of Stable Audio."""

from typing import Any

from torch import Tensor

from silk_fast.acceleration.table import Library, Replacement, register
from silk_fast.codecs.cuts import Cuts, Overlapping, reach


def replacements() -> list[Replacement]:
    from silk_fast.codecs import oobleck_forms as forms
    from silk_fast.codecs.places import replacements

    return replacements(forms.FORMS)


def cuts(model: Any) -> Cuts:
    from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution as Distribution

    def split(latents: Any) -> list[Tensor]:
        return [latents.parameters if isinstance(latents, Distribution) else latents]

    hop = model.hop_length
    return Overlapping(
        *(model.config.sampling_rate, model.config.audio_channels, hop, 1),
        strides=(1,),
        join=lambda parameters: Distribution(parameters[0]),
        split=split,
        reaches=(reach(model.encoder, hop), reach(model.decoder, 1)),
        encode=lambda audio: [model.encode(audio).latent_dist.parameters],
        decode=lambda latents: model.decode(_mean(model, latents[0])).sample,
    )


def _mean(model: Any, latents: Tensor) -> Tensor:
    """Latents ``[B, C, F]``, or of parameters ``[B, 2 * C, F]`` of a distribution the mean."""
    n_channels = model.config.decoder_input_channels
    return latents[:, :n_channels] if latents.shape[1] == 2 * n_channels else latents


def sizes(model: Any) -> tuple[int, None]:
    """Channels of the latents; they have no codes."""
    return model.config.decoder_input_channels, None


MODEL = "AutoencoderOobleck"
LIBRARY = Library("diffusers", "diffusers.models.autoencoders.autoencoder_oobleck", tested=("0.35", "0.42"))
register(replacements, LIBRARY)
