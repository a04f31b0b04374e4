from pathlib import Path

import pytest
import soundfile

from tests.cli.support import silk
from tests.support import voices


@pytest.fixture
def speech(tmp_path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, voices()[0, 0, :50_000].numpy(), 24_000)
    return path


@pytest.fixture
def tokens(speech, model) -> Path:
    assert silk("encode", speech, "-q", "-m", model) == 0
    return speech.with_suffix(".silk")
