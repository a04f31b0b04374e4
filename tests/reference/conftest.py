import pytest

from silk_fast import SilkCodec, SilkConfig
from tests.support import make_codec


@pytest.fixture(params=[0, 960], ids=["delay=0", "delay=960"])
def codec(request: pytest.FixtureRequest) -> SilkCodec:
    """An untrained codec, the test's own."""
    return make_codec(SilkConfig.preset("tiny", output_delay=request.param))


@pytest.fixture(scope="package")
def small() -> SilkCodec:
    """The bundled model, not to be changed."""
    return SilkCodec.from_pretrained("silk-small-24khz")
