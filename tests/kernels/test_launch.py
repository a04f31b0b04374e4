"""What every kernel owes its caller: the same bits each time, on any stream, and inside a CUDA graph."""

import sys

import pytest
import torch

from silk_fast import kernels
from tests.kernels.cases import CALLS, outputs_and_gradients
from tests.kernels.support import DEVICE

needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
each_kernel = pytest.mark.parametrize("name", list(CALLS))


def test_every_public_kernel_has_a_call():
    no_kernels = {"conv1d_ieee", "pack_codebooks", "pack_weights", "runs_on"}
    functions = {name for name in kernels.__all__ if name.islower()} - no_kernels
    variants = {"polar_overlap_add", "residual_unit_channels_last"}
    assert functions - variants == {name.split(",")[0] for name in CALLS}


def test_every_kernel_is_compiled_without_contraction(monkeypatch):
    launches = {}

    class Recorder:
        """Stands in for a kernel: notes the options of its launches, runs none."""

        def __init__(self, name: str) -> None:
            self.options = launches.setdefault(name, [])

        def __getitem__(self, grid):
            return lambda *args, **options: self.options.append(options)

    modules = [m for name, m in sys.modules.items() if name.startswith("silk_fast.kernels")]
    for module in modules:
        for name in [name for name in vars(module) if name.endswith("_kernel")]:
            monkeypatch.setattr(module, name, Recorder(name))
    for call in CALLS.values():
        outputs_and_gradients(call, call.inputs())
    assert len(launches) >= 20
    for name, options in launches.items():
        assert options, f"no call launches {name}"
        assert all(option.get("enable_fp_fusion") is False for option in options), name


@each_kernel
def test_where_nothing_serves_the_cpu_a_typed_error_names_the_argument(name, monkeypatch):
    """As compiled on a CPU, where Triton itself would say ``0 active drivers``."""
    call = CALLS[name]
    monkeypatch.setattr("silk_fast.cpu.registered.OPS", {})
    inputs = [t.cpu() for t in call.inputs()]
    monkeypatch.setattr("silk_fast.kernels._launch.DEVICES", {"cuda"})
    monkeypatch.setattr("tests.kernels.cases.DEVICE", "cpu")
    with pytest.raises(
        ValueError, match=r"^(x|z|q|tokens|log_magnitude|indices|projections) must be on a CUDA GPU.* got .* on cpu"
    ):
        call.function(*inputs)


@each_kernel
def test_results_and_gradients_repeat_bit_for_bit_and_inputs_are_not_written(name, monkeypatch):
    if DEVICE == "cpu":  # a card of 4 multiprocessors has enough to do with few tiles
        for module in ("tests.kernels.cases", "silk_fast.kernels.residual_unit.launch"):
            monkeypatch.setattr(sys.modules[module], "processors", lambda device: 4)
    call = CALLS[name]
    inputs = call.inputs()
    copies = [t.clone() for t in inputs]
    first, second = outputs_and_gradients(call, inputs), outputs_and_gradients(call, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


@needs_gpu
@each_kernel
def test_another_stream_gives_the_same_bits(name):
    call = CALLS[name]
    inputs = call.inputs()
    expected = outputs_and_gradients(call, inputs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = outputs_and_gradients(call, inputs)
    torch.cuda.current_stream().wait_stream(stream)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@needs_gpu
@each_kernel
def test_a_captured_graph_follows_its_inputs(name):
    call = CALLS[name]
    static, fresh = call.inputs(), call.inputs()
    expected = outputs_and_gradients(call, fresh)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compile and plan before the capture
        outputs_and_gradients(call, static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = outputs_and_gradients(call, static)
    for target, source in zip(static, fresh, strict=True):
        target.copy_(source)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))
