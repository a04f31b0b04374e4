"""DAC of the package ``descript-audio-codec``. Its quantiser is its own everywhere."""

from silk_fast.acceleration.table import Library, Replacement, register


def replacements() -> list[Replacement]:
    from silk_fast.codecs import descript_forms as forms
    from silk_fast.codecs.places import replacements

    return replacements(forms.FORMS, forms.OTHER_PARTS)


LIBRARY = Library("descript-audio-codec", "dac.model.dac", tested=("1.0.0", "1.0.0"))
register(replacements, LIBRARY)
