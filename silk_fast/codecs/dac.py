"""``transformers``' DacModel: its blocks did not change between the versions that are named."""

from typing import Any

from silk_fast.acceleration.table import Library, Replacement, register
from silk_fast.arguments import whole_number
from silk_fast.codecs.cuts import Cuts, Overlapping, reach


def replacements() -> list[Replacement]:
    from silk_fast.codecs import dac_forms as forms
    from silk_fast.codecs.places import quantizer, replacements

    return [*replacements(forms.FORMS), quantizer(forms.GpuDacQuantizer)]


def cuts(model: Any, n_quantizers: int | None = None) -> Cuts:
    config = model.config
    if n_quantizers is not None:
        whole_number("n_quantizers", n_quantizers, 1, config.n_codebooks)
    return Overlapping(
        *(config.sampling_rate, 1, config.hop_length, 1),
        strides=(1,),
        join=lambda codes: codes[0],
        split=lambda codes: [codes],
        reaches=(reach(model.encoder, config.hop_length), reach(model.decoder, 1)),
        encode=lambda audio: [model.encode(audio, n_quantizers).audio_codes],
        decode=lambda codes: model.decode(audio_codes=codes[0]).audio_values[:, None],
    )


def sizes(model: Any) -> tuple[int, int]:
    """Codebooks, and the entries of each."""
    return model.config.n_codebooks, model.config.codebook_size


MODEL = "DacModel"
LIBRARY = Library("transformers", "transformers.models.dac.modeling_dac", tested=("5.0", "5.24"))
register(replacements, LIBRARY)
