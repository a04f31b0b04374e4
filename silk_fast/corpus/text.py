"""What is spoken: random sentences of the words of a language."""

import unicodedata
from functools import lru_cache
from pathlib import Path

import numpy as np

WORDS = Path(__file__).resolve().parents[1] / "assets" / "words"


@lru_cache
def word_list(language: str) -> tuple[str, ...]:
    """Read the words of a language that sentences are drawn from."""
    return tuple((WORDS / f"{language}.txt").read_text(encoding="utf-8").split())


def draw_sentence(words: tuple[str, ...], random: np.random.Generator) -> list[str]:
    """Draw 3 to 14 words, numbers among them, with a capital, commas and a full stop, question or exclamation mark."""
    drawn = [
        str(random.integers(2000)) if random.random() < 0.06 else str(random.choice(words))
        for _ in range(random.integers(3, 15))
    ]
    drawn[0] = drawn[0][0].upper() + drawn[0][1:]
    drawn[:-1] = [word + "," if random.random() < 0.1 else word for word in drawn[:-1]]
    drawn[-1] += str(random.choice([".", ".", ".", "?", "!"]))
    return drawn


def in_charset(text: str, charset: str) -> bytes:
    """Encode a text in a charset, ``"ascii"`` or another of Python's; letters that it lacks lose their accents."""
    if charset == "ascii":
        text = unicodedata.normalize("NFKD", text)
    return text.encode(charset, "ignore")
