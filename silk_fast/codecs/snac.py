"""SNAC of the package ``snac``."""

from silk_fast.acceleration.table import Library, Replacement, register


def replacements() -> list[Replacement]:
    from silk_fast.codecs import snac_forms as forms
    from silk_fast.codecs.factorized import replacement
    from silk_fast.codecs.snake_family import replacements

    return [*replacements(forms.FORMS, forms.OTHER_PARTS), replacement(forms.GpuSnacQuantizer)]


LIBRARY = Library("snac", "snac.layers", tested=("1.2", "1.2.1"))
register(replacements, LIBRARY)
