"""The formulas of ops, against traffic and arithmetic that is counted."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from silk_fast.benchmark.costs import FORMULAS, NO_GRADIENT, Ceilings, Cost, op_cost, visible_pairs
from silk_fast.reference import ops

HALF, SINGLE = torch.float16, torch.float32
SILK = (8,) * 10


class Elements(TorchDispatchMode):
    """Adds up the elements that every operation that is no view writes."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        read, written = ([x for x in tree_leaves(t) if isinstance(x, torch.Tensor)] for t in ((args, kwargs), result))
        storages = {x.untyped_storage()._cdata for x in read}
        if not any(x.untyped_storage()._cdata in storages for x in written):
            self.count += sum(x.numel() for x in written)
        return result


STREAMS = ("rel_attention, stream", "glu_conv_norm_silu, stream", "residual_unit, stream")
FORMS = (*FORMULAS, *STREAMS)


def op_of(form: str) -> str:
    """The op of a form: itself, or what stands before the comma."""
    return form.split(",")[0]


def inputs(op: str, dtype: torch.dtype) -> tuple[dict, list, dict]:
    """Sizes, tensors and options of one call of the reference, by the op or by its form in a stream."""

    def t(*shape, kind=dtype):
        return torch.rand(*shape).to(kind).requires_grad_(kind.is_floating_point)

    if op == "snake":
        return {"B": 2, "C": 3, "T": 50, "bias": False, "residual": False}, [t(2, 3, 50), t(3), t(3)], {}
    if op == "elu":
        return {"B": 2, "C": 3, "T": 50, "bias": True, "residual": True}, [t(2, 3, 50), t(3), t(2, 3, 50)], {}
    if op == "fsq_quantize":
        return {"N": 6, "D": 10, "group_size": 7}, [t(6, 10)], {"levels": SILK}
    if op == "fsq_pack":
        return {"N": 6, "D": 10, "group_size": 7}, [t(6, 10)], {"levels": SILK, "group_size": 7}
    if op == "fsq_unpack":
        tokens = torch.ones(6, 2, dtype=torch.int32)
        return {"N": 6, "D": 10, "group_size": 7}, [tokens], {"levels": SILK, "group_size": 7}
    if op == "rel_attention":
        heads = [t(2, 3, 9, 4) for _ in range(3)]
        sizes = {"B": 2, "H": 3, "T": 9, "D": 4, "window": (5, 1)}
        return sizes, [*heads, t(3, 7, 4), t(3, 4), t(3, 4)], {"window": (5, 1)}
    if op == "rel_attention, stream":
        sizes = {"B": 2, "H": 3, "T": 1, "D": 4, "window": (5, 0), "cached": 5}
        heads = [t(2, 3, n, 4) for n in (1, 6, 6)]
        starts = torch.tensor([0, 2])
        return sizes, [*heads, t(3, 6, 4), t(3, 4), t(3, 4)], {"window": (5, 0), "starts": starts}
    if op == "rel_key_attention":
        heads = [t(2, 3, 9, 4) for _ in range(3)]
        return {"B": 2, "H": 3, "T": 9, "D": 4, "left": 3, "right": 2}, [*heads, t(6, 4)], {"left": 3, "right": 2}
    if op == "bias_silu":
        return {"N": 6, "C": 8}, [t(6, 8), t(8)], {}
    if op == "add_layer_norm":
        return {"N": 6, "C": 8}, [t(6, 8), t(6, 8), 0.5, t(8), t(8)], {}
    if op == "glu_conv_norm_silu":
        return {"B": 2, "T": 9, "C": 8, "K": 5}, [t(2, 9, 16), t(8, 5), *(t(8) for _ in range(3))], {}
    if op == "glu_conv_norm_silu, stream":
        sizes = {"B": 2, "T": 3, "C": 8, "K": 5, "context": 4}
        return sizes, [t(2, 3, 16), t(8, 5), *(t(8) for _ in range(3))], {"context": t(2, 4, 16)}
    if op == "add_harmonics":
        contours = (3 * torch.ones(2, 5, dtype=torch.float64), t(2, 5, kind=torch.float64), torch.ones(2, 5).long())
        return {"B": 2, "N": 5, "K": 9}, [t(2, 5, 9), t(2, 5, 9), *contours], {"bin_width": 62.5}
    if op in ("polar_istft", "polar_istft_stream"):
        options = {"hop": 4, "overlap": t(2, 12)} if op == "polar_istft_stream" else {"hop": 4}
        return {"B": 2, "N": 5, "n_fft": 16, "hop": 4}, [t(2, 5, 9), t(2, 5, 9), torch.hann_window(16)], options
    if "rvq" in op:
        books = torch.rand(3, 7, 4)
        sizes = {"N": 10, "Q": 3, "K": 7, "D": 4}
        if op == "rvq_encode":
            return sizes, [torch.rand(2, 5, 4), books], {}
        if op == "rvq_decode":
            return sizes, [torch.ones(2, 3, 5, dtype=torch.int64), books], {}
        return sizes, [torch.rand(2, 5, 12), books, torch.rand(3, 7, 12)], {}
    weights = [t(8), t(8), t(8, 8, 7), t(8), t(8), t(8), t(8, 8, 1), t(8)]
    if op == "residual_unit, stream":
        sizes = {"B": 2, "C": 8, "T": 20, "context": 18}
        return sizes, [t(2, 8, 20), *weights], {"dilation": 3, "context": t(2, 8, 18)}
    return {"B": 2, "C": 8, "T": 20}, [t(2, 8, 20), *weights], {"dilation": 3}


def tensors(values) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("form", FORMS)
def test_forward_bytes_are_those_of_inputs_and_outputs(form):
    op, (sizes, arguments, options) = op_of(form), inputs(form, SINGLE)
    outputs = getattr(ops, op)(*arguments, **options)
    counted = sum(x.nbytes for x in tensors([arguments, options]) + tensors(outputs))
    assert op_cost(op, "forward", SINGLE, **sizes).bytes == counted


@pytest.mark.parametrize("form", [form for form in FORMS if op_of(form) not in NO_GRADIENT])
def test_backward_bytes_are_those_of_incoming_gradients_inputs_and_gradients(form):
    op, (sizes, arguments, options) = op_of(form), inputs(form, SINGLE)
    outputs = tensors(getattr(ops, op)(*arguments, **options))
    read = tensors([arguments, options])
    wanted = [x for x in read if x.requires_grad]
    gradients = torch.autograd.grad(outputs, wanted, [torch.ones_like(x) for x in outputs])
    if op == "elu":  # the output stands for all inputs, and x and residual have one gradient
        read, gradients = outputs, gradients[:2]
    if op == "add_layer_norm":  # the sum stands for x and residual, and the bias of the norm is not needed
        read = [read[0], read[2]]
    if op == "polar_istft_stream":  # the overlap is only added
        read = tensors(arguments)
    if op == "add_harmonics":  # that of the log-magnitude is the one that comes in
        read, gradients = read[2:4], gradients[1:]
    counted = sum(x.nbytes for x in (*outputs, *read, *gradients))
    assert op_cost(op, "backward", SINGLE, **sizes).bytes == counted


@pytest.mark.parametrize("op", NO_GRADIENT)
def test_only_what_returns_integers_or_reads_them_alone_has_no_gradient(op):
    _, arguments, options = inputs(op, SINGLE)
    assert not any(x.requires_grad for x in tensors(getattr(ops, op)(*arguments, **options)))


@pytest.mark.parametrize("form", ["rel_attention, stream", "residual_unit, stream"])
def test_products_of_a_stream_are_those_of_the_reference(form):
    """A query meets the whole cache, and context makes no output."""
    op, (sizes, arguments, options) = op_of(form), inputs(form, SINGLE)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        getattr(ops, op)(*arguments, **options)
    assert op_cost(op, "forward", SINGLE, **sizes).flops == counted.get_total_flops()


def test_a_stream_computes_what_the_whole_does_and_what_its_context_asks_for():
    whole, stream = (
        op_cost("glu_conv_norm_silu", "forward", SINGLE, B=2, T=3, C=8, K=5, context=n_before) for n_before in (0, 4)
    )
    assert stream.flops - whole.flops == 2 * (2 * 4 * 8)  # the gate: a sigmoid and a product
    sizes = {"B": 2, "N": 5, "n_fft": 16, "hop": 4}
    whole, stream = (op_cost(op, "forward", SINGLE, **sizes) for op in ("polar_istft", "polar_istft_stream"))
    assert stream.flops - whole.flops == 2 * (2 * 12)  # one overlap is added, the next is divided by the envelope


def test_half_precision_halves_what_has_the_dtype_of_the_input():
    sizes = {"B": 2, "C": 3, "T": 50}
    assert 2 * op_cost("snake", "forward", HALF, **sizes).bytes == op_cost("snake", "forward", SINGLE, **sizes).bytes
    quantize = op_cost("fsq_quantize", "forward", HALF, N=5, D=7, group_size=7)
    assert quantize.bytes == 5 * 7 * (2 + 4)
    fused = op_cost("snake", "forward", HALF, **sizes, bias=True, residual=True)
    assert fused.bytes == 2 * (3 * 2 * 3 * 50 + 3 * 3)


def test_snake_arithmetic_is_one_per_element_and_operation():
    sizes, (x, alpha, beta), _ = inputs("snake", SINGLE)
    with torch.no_grad(), Elements() as counted:
        ops.snake(x, alpha, beta)
    assert counted.count == op_cost("snake", "forward", SINGLE, **sizes).flops + beta.numel()  # beta + 1e-9


def test_elu_arithmetic_is_that_of_the_sum_a_comparison_and_a_power():
    sizes, arguments, _ = inputs("elu", SINGLE)
    with torch.no_grad(), Elements() as counted:
        ops.elu(*arguments)
    assert counted.count + arguments[0].numel() == op_cost("elu", "forward", SINGLE, **sizes).flops


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_residual_unit_arithmetic_is_that_of_its_convolutions(direction):
    sizes, arguments, options = inputs("residual_unit", SINGLE)
    with FlopCounterMode(display=False) as forward:
        y = ops.residual_unit(*arguments, **options)
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    extended = 20 + 6 * 3  # the reference pads, and the gradient of its input has the padded length
    gradient_of_padding = 2 * 7 * 8 * 8 * 2 * (extended - 20)
    counted = {"forward": forward.get_total_flops(), "backward": backward.get_total_flops()}[direction]
    formula = op_cost("residual_unit", direction, SINGLE, **sizes).flops
    assert formula <= counted <= formula + gradient_of_padding


def test_attention_over_all_pairs_is_three_products_forward_and_eight_backward():
    sizes = {"B": 2, "H": 3, "T": 9, "D": 4, "window": (None, None)}
    product = 2 * 2 * 3 * 9 * 9 * 4
    assert op_cost("rel_attention", "forward", SINGLE, **sizes).flops == 3 * product
    assert op_cost("rel_attention", "backward", SINGLE, **sizes).flops == 8 * product


@pytest.mark.parametrize("window", [(63, 0), (3, 2), (None, 0), (None, None), (0, 0)])
@pytest.mark.parametrize("n_frames", [1, 5, 80])
@pytest.mark.parametrize("n_cached", [0, 3, 63])
def test_visible_pairs_are_those_of_the_mask(n_frames, window, n_cached):
    mask = ops.attention_mask(n_frames, n_cached + n_frames, window)
    assert visible_pairs(n_frames, *window, n_cached) == int(mask.sum())


def test_relative_keys_meet_each_distinct_row_once():
    i = torch.arange(9)
    rows = (i - i[:, None]).clamp(-3, 2)
    n_distinct = sum(len(row.unique()) for row in rows)
    sizes = {"B": 1, "H": 1, "T": 9, "D": 4, "left": 3, "right": 2}
    assert op_cost("rel_key_attention", "forward", SINGLE, **sizes).flops == 2 * 4 * (2 * 81 + n_distinct)


def test_floor_is_the_longer_of_traffic_and_arithmetic():
    machine = Ceilings(100.0, 1000.0, 10.0)  # bytes, products, other operations per second
    assert machine.floor([Cost(200, 500, True)]) == (2.0, "bandwidth")
    assert machine.floor([Cost(200, 5000, True)]) == (5.0, "compute")
    assert machine.floor([Cost(200, 500, False)]) == (50.0, "compute")
