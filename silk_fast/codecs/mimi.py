"""``transformers``' MimiModel."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from silk_fast.acceleration.forms import replaced_class
from silk_fast.acceleration.table import Library, Replacement, register, release_of
from silk_fast.arguments import whole_number
from silk_fast.codecs.cuts import Chain, Chained, Cuts, reach
from silk_fast.errors import SilkInputError


def replacements() -> list[Replacement]:
    from silk_fast.codecs import mimi_forms as forms
    from silk_fast.codecs.places import quantizer, replacements

    codebook = forms.MimiCodebook
    replacement = Replacement(replaced_class(codebook), "rvq", lambda: codebook, codebook)
    return [*replacements(forms.FORMS, forms.OTHER_PARTS), quantizer(forms.GpuMimiQuantizer), replacement]


def cuts(model: Any, num_quantizers: int | None = None) -> Cuts:
    config, quantizer = model.config, model.quantizer
    if release_of(LIBRARY.installed()) < CARRIES_ON:
        raise SilkInputError(
            f"Mimi in pieces needs transformers {'.'.join(map(str, CARRIES_ON))} or later, got {LIBRARY.installed()}, "
            "in which attention with cached keys differs from attention over all"
        )
    if num_quantizers is not None:
        whole_number("num_quantizers", num_quantizers, config.num_semantic_quantizers, config.num_quantizers)
    convolve, transform, lower = _halves(model, "encoder", "encoder_transformer", "downsample")
    deconvolve, transform_back, rise = _halves(model, "decoder", "decoder_transformer", "upsample")
    ratio = lower.conv.stride[0] if hasattr(lower, "conv") else 1
    hop = ratio * math.prod(module.stride[0] for module in convolve.modules() if isinstance(module, nn.Conv1d))
    encoder = Chain(
        *(convolve, _attention(transform), lambda x: quantizer.encode(lower(x), num_quantizers).transpose(0, 1)),
        *((reach(convolve, hop), reach(lower, ratio)), (hop, ratio, 1)),
    )
    decoder = Chain(
        *(lambda codes: rise(quantizer.decode(codes)), _attention(transform_back), deconvolve),
        *((reach(rise, 1), reach(deconvolve, ratio)), (1, ratio, hop)),
    )
    return Chained(
        *(config.sampling_rate, config.audio_channels, hop, 1),
        strides=(1,),
        join=lambda codes: codes[0],
        split=lambda codes: [codes],
        encoder=encoder,
        decoder=decoder,
    )


def _halves(model: Any, side: str, transformer: str, resampling: str) -> tuple[Any, Any, Any]:
    """Convolutions, transformer, and what changes the rate between them and the codes; since 5.24 in a model."""
    half = getattr(model, side)
    convolutions = getattr(half, f"{side}_seanet", None)
    parent = model if convolutions is None else half
    resample = getattr(parent, resampling)
    return half if convolutions is None else convolutions, getattr(parent, transformer), resample or nn.Identity()


def _attention(transformer: Any) -> Callable[[Tensor, Any], tuple[Tensor, Any]]:
    """The transformer, with the library's own cache of the keys and values of its window."""

    def middle(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        out = transformer(x.transpose(1, 2), past_key_values=state, use_cache=True)
        return out.last_hidden_state.transpose(1, 2), out.past_key_values

    return middle


def sizes(model: Any) -> tuple[int, int]:
    """Codebooks, and the entries of each."""
    return model.config.num_quantizers, model.config.codebook_size


MODEL = "MimiModel"
CARRIES_ON = 5, 4  # since then a cache gives the results of one call
LIBRARY = Library("transformers", "transformers.models.mimi.modeling_mimi", tested=("5.0", "5.24"))
register(replacements, LIBRARY)
