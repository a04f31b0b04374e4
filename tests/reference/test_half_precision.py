"""A codec cast whole to half precision says once what to do instead."""

import warnings

import pytest
import torch

from silk_fast import SilkWarning, accelerate_
from tests.support import FRAME, make_codec, speech


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("use", [lambda c: c.encode(speech(FRAME)), lambda c: c.streaming()], ids=["encode", "stream"])
def test_half_precision_as_a_whole_is_warned_of_once(use, dtype):
    codec = make_codec().to(dtype)
    with pytest.warns(SilkWarning, match=rf"the weights are {dtype}, .*accelerate_\(codec, dtype={dtype}\)"):
        use(codec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = codec.encode(speech(FRAME).to(dtype))
        assert codec.decode(encoded).dtype == torch.float32


@pytest.mark.parametrize("change", [lambda c: c, lambda c: c.double(), lambda c: accelerate_(c, dtype=torch.float16)])
def test_what_the_warning_recommends_is_not_warned_of(change):
    codec = make_codec()
    change(codec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codec.streaming()


def test_accelerating_in_half_precision_keeps_what_feeds_fsq_in_float32():
    codec = make_codec()
    accelerate_(codec, dtype=torch.float16)  # on any processor, which bfloat16 is not
    assert {tensor.dtype for tensor in codec.state_dict().values()} == {torch.float32}
    seen = []
    codec.quantizer.norm.standardise = lambda x, standardise=codec.quantizer.norm.standardise: (
        seen.append(x.dtype) or standardise(x)
    )
    codec.encode(speech(FRAME))
    assert set(seen) == {torch.float32}
