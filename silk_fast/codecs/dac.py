"""``transformers``' DacModel: its blocks did not change between the versions that are named."""

from silk_fast.acceleration.table import Library, Replacement, register


def replacements() -> list[Replacement]:
    from silk_fast.codecs import dac_forms as forms
    from silk_fast.codecs.factorized import replacement
    from silk_fast.codecs.snake_family import replacements

    return [*replacements(forms.FORMS), replacement(forms.GpuDacQuantizer)]


LIBRARY = Library("transformers", "transformers.models.dac.modeling_dac", tested=("5.0", "5.24"))
register(replacements, LIBRARY)
