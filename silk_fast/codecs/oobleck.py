"""``diffusers``' AutoencoderOobleck, the autoencoder of Stable Audio."""

from silk_fast.acceleration.table import Library, Replacement, register


def replacements() -> list[Replacement]:
    from silk_fast.codecs import oobleck_forms as forms
    from silk_fast.codecs.snake_family import replacements

    return replacements(forms.FORMS)


LIBRARY = Library("diffusers", "diffusers.models.autoencoders.autoencoder_oobleck", tested=("0.35", "0.42"))
register(replacements, LIBRARY)
