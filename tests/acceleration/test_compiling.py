"""Accelerated modules compile in one graph and can be exported."""

import pytest
import torch
import torch.nn.functional as F

from silk_fast import accelerate_
from tests.acceleration.support import TINY
from tests.kernels.support import DEVICE
from tests.support import make_codec


def test_compiles_in_one_graph_before_and_after(audio):
    unit = make_codec(TINY).decoder.units[0].to(DEVICE)
    x = torch.randn(1, TINY.decoder_channels, 20, device=DEVICE)
    expected = unit(x)
    compiled = torch.compile(unit, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    accelerate_(unit, ops=["residual_unit"])
    torch.testing.assert_close(compiled(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        torch.compile(unit, backend="aot_eager", fullgraph=True)(x), expected, rtol=1e-5, atol=1e-5
    )


def test_exports(codec):
    block = codec.conformer.blocks[0]
    accelerate_(block)
    x = torch.randn(1, 5, 128, device=DEVICE)
    with torch.no_grad():
        program = torch.export.export(block, (x,))
        torch.testing.assert_close(program.module()(x), block(x), rtol=1e-5, atol=1e-5)
    targets = {str(node.target) for node in program.graph.nodes}
    assert any("silk_fast.rel_attention" in target for target in targets)


@pytest.mark.parametrize("strict", [True, False])
def test_deterministic_convolutions_survive_compilation_and_export(codec, strict):
    """They are an operation: nothing is lost where settings of cuDNN cannot be recorded."""
    unit = codec.decoder.units[0]
    x = torch.randn(1, TINY.decoder_channels, 20, device=DEVICE)
    model = torch.nn.Sequential(unit, codec.decoder.snake, codec.decoder.head)
    expected = model(x)
    accelerate_(model, deterministic=True)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled, expected, rtol=1e-5, atol=1e-5)
    compiled.sum().backward()
    with torch.no_grad():
        program = torch.export.export(model, (x,), strict=strict)
    torch.testing.assert_close(program.module()(x), expected, rtol=1e-5, atol=1e-5)
    operations = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert [name for name in operations if "conv" in name] == ["silk_fast.conv1d_ieee.default"] * 3


def test_deterministic_means_every_convolution_of_the_model(codec, audio, monkeypatch):
    accelerate_(codec, deterministic=True)
    flags = []
    convolve = F.conv1d

    def recording(*arguments, **options):
        flags.append(torch.backends.cudnn.deterministic)
        return convolve(*arguments, **options)

    monkeypatch.setattr(F, "conv1d", recording)
    monkeypatch.setattr(torch, "conv1d", recording)
    codec.decoder(codec.quantizer(codec.latents(audio[..., :9600])))
    assert len(flags) == sum(isinstance(m, torch.nn.Conv1d) and m.groups == 1 for m in codec.modules())
    assert all(flags)
