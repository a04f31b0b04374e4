"""Whether the commands accelerate the codec."""

import argparse
from contextlib import suppress

import pytest

from silk_fast.acceleration import Form
from silk_fast.cli.models import load_codec

with suppress(ImportError):  # triton reads the environment once, and is not to read that of these tests
    import silk_fast.kernels  # noqa: F401


@pytest.mark.parametrize(
    ("option", "interpreted", "is_accelerated"),
    [(None, "0", True), (None, "1", False), (True, "1", True), (False, "0", False)],
)
def test_on_a_cpu_it_is_accelerated_unless_asked_not_to(model, monkeypatch, option, interpreted, is_accelerated):
    monkeypatch.setenv("TRITON_INTERPRET", interpreted)
    arguments = argparse.Namespace(model=str(model), device="cpu", threads=None, accelerate=option)
    codec, sha256 = load_codec(arguments)
    assert any(isinstance(module, Form) for module in codec.modules()) == is_accelerated
    assert sha256 == codec.weights_sha256
