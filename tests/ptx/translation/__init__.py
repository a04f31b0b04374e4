"""PTX text to a program of the machine. Whatever is not known is refused by name."""

from tests.ptx.translation import arithmetic, control, conversion, matrix, memory  # noqa: F401  each enters its instructions
