import pytest
import torch

from silk_fast import SilkCodec, SilkConfig
from tests.support import make_codec


@pytest.fixture(params=[{}, {"output_delay": 960}, {"phases": "harmonic"}], ids=["delay=0", "delay=960", "harmonic"])
def codec(request: pytest.FixtureRequest) -> SilkCodec:
    """An untrained codec, the test's own; one that makes harmonics makes them everywhere."""
    codec = make_codec(SilkConfig.preset("tiny", **request.param))
    if source := codec.decoder.source:
        torch.nn.init.constant_(source.contour.bias[source.subframes : 2 * source.subframes], 10.0)
    return codec


@pytest.fixture(scope="package")
def small() -> SilkCodec:
    """The bundled model, not to be changed."""
    return SilkCodec.from_pretrained("silk-small-24khz")
