from pathlib import Path

import pytest

from silk_fast.runtime.codec import Silk, open_codec
from tests.runtime import corpora


@pytest.fixture(scope="module")
def codec(model) -> Silk:
    """The smallest codec, untrained."""
    return open_codec("silk", model)


@pytest.fixture(scope="session")
def clips() -> dict[str, bytes]:
    return corpora.corpus()


@pytest.fixture
def corpus(tmp_path, clips) -> Path:
    """A folder with the clips."""
    return corpora.write_folder(tmp_path / "corpus", clips)
