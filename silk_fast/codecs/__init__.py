"""Codecs of other libraries: which of their modules get faster forms; a file a codec, and one of its forms.

``dac.py`` and its like fill the table of ``silk_fast.acceleration``, and import nothing else; ``dac_forms.py`` imports
the library, and is loaded when a model is accelerated after a program has imported that itself, or had it loaded by
``pretrained.py``.
"""

NAMES = ("dac", "encodec", "mimi", "oobleck", "snac")
