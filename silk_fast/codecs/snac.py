"""SNAC of the package ``snac``."""

import math
from typing import Any

from silk_fast.acceleration.table import Library, Replacement, register
from silk_fast.codecs.cuts import Cuts, Overlapping, reach


def replacements() -> list[Replacement]:
    from silk_fast.codecs import snac_forms as forms
    from silk_fast.codecs.places import quantizer, replacements

    return [*replacements(forms.FORMS, forms.OTHER_PARTS), quantizer(forms.GpuSnacQuantizer)]


def cuts(model: Any) -> Cuts:
    strides, hop = tuple(model.vq_strides), int(model.hop_length)
    return Overlapping(
        *(model.sampling_rate, 1, hop, math.lcm(*strides, model.attn_window_size or 1)),
        strides=strides,
        join=list,
        split=list,
        reaches=(reach(model.encoder, hop), reach(model.decoder, 1)),
        encode=model.encode,
        decode=model.decode,
    )


def sizes(model: Any) -> tuple[int, int]:
    """Codebooks, and the entries of each."""
    return model.n_codebooks, model.codebook_size


MODEL = "SNAC"
LIBRARY = Library("snac", "snac", tested=("1.2", "1.2.1"))
register(replacements, LIBRARY)
