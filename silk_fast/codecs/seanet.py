"""EnCodec of the package ``encodec``. Its quantiser is its own everywhere."""

from silk_fast.acceleration.table import Library, Replacement, register


def replacements() -> list[Replacement]:
    from silk_fast.codecs import seanet_forms as forms
    from silk_fast.codecs.places import replacements

    return replacements(forms.FORMS, forms.OTHER_PARTS)


LIBRARY = Library("encodec", "encodec.modules", tested=("0.1.1", "0.1.1"))
register(replacements, LIBRARY)
