"""The one list of Debian's packages is the one that the page on training gives."""

from pathlib import Path

from silk_fast.corpus.voices import PACKAGES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_on_training_installs_every_engine_and_voice():
    page = (DOCS / "training.md").read_text(encoding="utf-8")
    command = page.split("apt install ")[1].replace("\\\n", " ").split("\n\n")[0]
    assert command.split() == " ".join(PACKAGES.values()).split()
