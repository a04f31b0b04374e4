"""`rel_attention` against its specification, and against the Wav2Vec2-Conformer of transformers."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from silk_fast.kernels import rel_attention

from silk_fast.reference import ops
from tests.kernels.support import (
    ATOL,
    DEVICE,
    DTYPES,
    MANY_KEYS,
    assert_matches,
    assert_op_matches,
    assert_same_bits,
    head_layouts,
    of_pytorch,
    single_and_half,
)

SILK = (63, 0)
ALL = (None, None)


def make_inputs(n_batch, n_heads, n_queries, n_keys, head_dim, window, seed=0):
    """Random q, k, v, pos, u, v_bias."""
    torch.manual_seed(seed)
    left, right = (n_keys - 1 if extent is None else extent for extent in window)
    shapes = [(n_batch, n_heads, n_queries, head_dim)] + 2 * [(n_batch, n_heads, n_keys, head_dim)]
    return [torch.randn(s) for s in (*shapes, (n_heads, left + right + 1, head_dim), *2 * [(n_heads, head_dim)])]


def on_device(tensors, dtype=torch.float32):
    return [x.to(DEVICE, dtype) for x in tensors]


def check(inputs, *options, dtype, backward=True):
    grads = [torch.randn(inputs[0].shape)] if backward else []
    assert_op_matches(rel_attention, ops.rel_attention, [*inputs, *options], grads, dtype)


# With a window of (33, 0) the farthest visible key falls on the corner of a tile.
@pytest.mark.parametrize(
    ("sizes", "dtype"),
    single_and_half(
        [
            (1, 16, SILK),
            (7, 24, ALL),
            (40, 16, (33, 0)),
            (63, 64, ALL),
            (100, 16, SILK),
            (63, 128, (None, 0)),
            (70, 64, (13, 4)),
        ]
    ),
    ids=str,
)
def test_matches_reference_forward_and_backward(sizes, dtype):
    n_frames, head_dim, window = sizes
    check(make_inputs(1, 2, n_frames, n_frames, head_dim, window), window, dtype=dtype)


@pytest.mark.parametrize(("n_frames", "dtype"), [*((500, dtype) for dtype in DTYPES), (1000, torch.float16)], ids=str)
def test_long_sequences_match_reference(n_frames, dtype):
    check(make_inputs(1, 1, n_frames, n_frames, 16, SILK), SILK, dtype=dtype, backward=False)


@pytest.mark.parametrize(("rows", "dtype"), single_and_half([(1, 64), (7, 70), (40, 63)]), ids=str)
def test_queries_at_the_end_of_the_keys_and_masked_keys(rows, dtype):
    n_queries, n_keys = rows
    lengths, starts = torch.tensor([n_keys, 0, n_keys - 5]), torch.tensor([3, 0, n_keys - 9], dtype=torch.int32)
    check(make_inputs(3, 1, n_queries, n_keys, 8, (20, 2)), (20, 2), lengths, starts, dtype=dtype)


def test_a_query_without_keys_gives_zeros_and_no_gradient():
    tensors = [x.requires_grad_() for x in on_device(make_inputs(2, 1, 20, 20, 8, ALL))]
    out = rel_attention(*tensors, ALL, torch.tensor([0, 20], device=DEVICE))
    assert torch.equal(out[0], torch.zeros_like(out[0]))
    for grad in torch.autograd.grad(out[0].sum(), tensors):
        assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [SILK, ALL], ids=str)
def test_a_sample_alone_and_padded_in_a_batch_agree_bit_for_bit(window, dtype):
    q, k, v, pos, u, v_bias = on_device(make_inputs(2, 2, 90, 90, 16, window), dtype)
    padded = rel_attention(q, k, v, pos, u, v_bias, window, torch.tensor([37, 90], device=DEVICE))
    middle = pos if window == SILK else pos[:, 89 - 36 : 89 + 37]
    alone = rel_attention(*(x[:1, :, :37] for x in (q, k, v)), middle, u, v_bias, window)
    assert torch.equal(padded[:1, :, :37], alone)


def test_chunks_with_a_cache_of_keys_equal_the_whole():
    inputs = make_inputs(1, 2, 80, 80, 16, SILK)
    q, k, v, *rest = on_device(inputs)
    whole = rel_attention(q, k, v, *rest, SILK)
    ends = [0, 1, 8, 50, 80]
    chunks = [
        rel_attention(q[:, :, a:b], *(x[:, :, max(0, a - 63) : b] for x in (k, v)), *rest, SILK)
        for a, b in pairwise(ends)
    ]
    exact = ops.rel_attention(*(x.double() for x in inputs), SILK)
    assert_matches(torch.cat(chunks, dim=2), whole, exact, torch.float32)


def test_non_contiguous_inputs_and_gradients():
    def function(f, q, k, v, pos, u, v_bias):
        q, k = q.transpose(2, 3), k.transpose(1, 2)  # last dimension not dense; heads inside frames
        pos = pos.transpose(0, 1)
        return f(q, k, v[:, :1].expand(-1, 2, -1, -1), pos, u.T, v_bias, (5, 0))

    shapes = [(1, 2, 8, 19), (1, 19, 2, 8), (1, 2, 19, 8), (6, 2, 8), (8, 2), (2, 8)]
    inputs, grad = [torch.randn(s) for s in shapes], torch.randn(1, 2, 8, 19).transpose(2, 3)
    assert_op_matches(
        partial(function, rel_attention), partial(function, ops.rel_attention), inputs, [grad], torch.float32
    )


@pytest.mark.parametrize(("layout", "dtype"), single_and_half(["joined", "unaligned", "projections"]), ids=str)
def test_any_strides_give_the_same_bits(layout, dtype):
    inputs = on_device(make_inputs(2, 2, 40, 40, 16, (13, 2)), dtype)
    others = [head_layouts(x)[layout] for x in inputs[:3]] + inputs[3:]
    assert_same_bits(lambda *x: rel_attention(*x, (13, 2)), inputs, others, head_layouts(inputs[2])[layout])


@pytest.mark.parametrize(("n_batch", "n_queries", "n_keys"), [(0, 5, 5), (2, 0, 5)])
def test_empty(n_batch, n_queries, n_keys):
    tensors = [x.requires_grad_() for x in on_device(make_inputs(n_batch, 2, n_queries, n_keys, 8, (3, 0)))]
    out = rel_attention(*tensors, (3, 0))
    assert out.shape == (n_batch, 2, n_queries, 8)
    for grad in torch.autograd.grad(out.sum(), tensors):
        assert torch.equal(grad, torch.zeros_like(grad))


def test_the_ends_of_float16_stay_finite():
    tensors = on_device(make_inputs(1, 1, 40, 40, 16, SILK), torch.float16)
    tensors = [(x.sign() * 65504).requires_grad_() for x in tensors]
    out = rel_attention(*tensors, SILK)
    assert out.isfinite().all()
    for grad in torch.autograd.grad(out, tensors, torch.ones_like(out)):
        assert not grad.isnan().any()


def test_nothing_that_is_read_is_written_and_gradients_are_reproducible():
    tensors = [x.requires_grad_() for x in on_device(make_inputs(2, 2, 40, 40, 16, SILK))]
    lengths = torch.tensor([40, 23], device=DEVICE)
    before = [x.detach().clone() for x in (*tensors, lengths)]
    out = rel_attention(*tensors, SILK, lengths)
    kept, grad = out.detach().clone(), torch.randn_like(out)
    kept_grad = grad.clone()
    first, second = (torch.autograd.grad(out, tensors, grad, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    after = (*tensors, lengths, out, grad)
    assert all(torch.equal(a, b) for a, b in zip(after, (*before, kept, kept_grad), strict=True))


def test_biases_may_be_float32_beside_float16():
    *heads, u, v_bias = on_device(make_inputs(1, 2, 20, 20, 16, SILK))
    tensors = [*(x.half() for x in heads), u, v_bias]
    tensors = [x.requires_grad_() for x in tensors]
    out = rel_attention(*tensors, SILK)
    assert [x.dtype for x in torch.autograd.grad(out.sum(), tensors)] == [x.dtype for x in tensors]
    exact = ops.rel_attention(*(x.detach().double() for x in tensors), SILK)
    eager = ops.rel_attention(*(x.detach().half() for x in tensors), SILK)
    assert_matches(out.detach(), eager, exact, torch.float16)


def test_gradcheck():
    tensors = [x.requires_grad_() for x in on_device(make_inputs(1, 1, 3, 4, 2, (1, 1)), torch.float64)]
    assert torch.autograd.gradcheck(lambda *t: rel_attention(*t, (1, 1)), tensors)


@of_pytorch
def test_registration_is_sound():
    tensors = [x.requires_grad_() for x in on_device(make_inputs(2, 2, 5, 7, 8, (3, 1)))]
    lengths = torch.tensor([7, 4], device=DEVICE)
    torch.library.opcheck(torch.ops.silk_fast.rel_attention.default, (*tensors, 3, 1, lengths, None))
    arguments = (*(x.detach() for x in tensors), 3, 1, lengths, torch.tensor([0, 2], device=DEVICE))
    out, lse = torch.ops.silk_fast.rel_attention.default(*arguments)
    backward = torch.ops.silk_fast.rel_attention_backward.default
    torch.library.opcheck(backward, (torch.randn_like(out), *arguments, out, lse))


@pytest.mark.parametrize("window", [ALL, SILK, (3 * MANY_KEYS // 4, 2)], ids=str)
def test_a_few_queries_over_many_keys(window):
    """Softmax and positions of many tiles, counted from the end."""
    check(make_inputs(1, 1, 3, MANY_KEYS, 8, window), window, dtype=torch.float32, backward=window == SILK)


@of_pytorch
def test_compiles_as_one_graph():
    tensors = [x.requires_grad_() for x in on_device(make_inputs(1, 2, 9, 9, 8, SILK))]
    out = rel_attention(*tensors, SILK)
    compiled = torch.compile(rel_attention, fullgraph=True, backend="aot_eager")(*tensors, SILK)
    assert torch.equal(out, compiled)
    for a, b in zip(*(torch.autograd.grad(y.sum(), tensors) for y in (out, compiled)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({0: (2, 5, 8)}, (SILK,), ValueError, r"q must be \[B, H, T, D\]"),
        ({0: (1, 2, 5, 200)}, (SILK,), ValueError, r"D in 1 .. 128"),
        (
            {1: (1, 2, 4, 8), 2: (1, 2, 4, 8)},
            (SILK,),
            ValueError,
            "q must have no more rows than k, which has 4, got 5",
        ),
        ({2: (1, 2, 4, 8)}, (SILK,), ValueError, r"v must be \[1, 2, 5, 8\], got \[1, 2, 4, 8\]"),
        ({3: (2, 63, 8)}, (SILK,), ValueError, r"pos must be \[2, left \+ right \+ 1 = 64, 8\], got \[2, 63, 8\]"),
        ({4: (2, 7)}, (SILK,), ValueError, r"u must be \[2, 8\], got \[2, 7\]"),
        ({5: (8,)}, (SILK,), ValueError, r"v_bias must be \[2, 8\], got \[8\]"),
        ({}, ((63, -1),), ValueError, "window must hold extents >= 0 or None"),
        ({}, (SILK, torch.ones(2, dtype=torch.int64)), ValueError, r"lengths must be \[1\]"),
        ({}, (SILK, torch.ones(1)), TypeError, "lengths must be int32 or int64, got torch.float32"),
        ({}, (SILK, None, torch.ones(1)), TypeError, "starts must be int32 or int64"),
        ({1: torch.float16}, (SILK,), TypeError, "k must be torch.float32 as q, got torch.float16"),
        ({3: torch.float16}, (SILK,), TypeError, "pos must be torch.float32 as q, got torch.float16"),
        ({4: torch.int32}, (SILK,), TypeError, "u must be float32, float16, bfloat16 or float64, got torch.int32"),
        ({0: torch.int32}, (SILK,), TypeError, "q must be float32, float16, bfloat16 or float64, got torch.int32"),
    ],
    ids=str,
)
def test_bad_input_is_refused_by_name(change, options, error, message):
    tensors = make_inputs(1, 2, 5, 5, 8, SILK)
    for i, new in change.items():
        tensors[i] = tensors[i].to(new) if isinstance(new, torch.dtype) else torch.zeros(new)
    tensors, options = [x.to(DEVICE) for x in tensors], [x.to(DEVICE) if torch.is_tensor(x) else x for x in options]
    with pytest.raises(error, match=message):
        rel_attention(*tensors, *options)


def test_equals_the_wav2vec2_conformer_of_transformers():
    from transformers import Wav2Vec2ConformerConfig
    from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer as peer

    torch.manual_seed(0)
    config = Wav2Vec2ConformerConfig(hidden_size=128, num_attention_heads=2, position_embeddings_type="relative")
    config._attn_implementation = "eager"
    module = peer.Wav2Vec2ConformerSelfAttention(config).double().eval()
    torch.nn.init.normal_(module.pos_bias_u)
    torch.nn.init.normal_(module.pos_bias_v)
    x, lengths = torch.randn(2, 63, 128, dtype=torch.float64), torch.tensor([63, 40])
    positions = peer.Wav2Vec2ConformerRelPositionalEmbedding(config)(x)
    mask = torch.zeros(2, 1, 1, 63, dtype=torch.float64).masked_fill(
        torch.arange(63) >= lengths[:, None, None, None], -torch.inf
    )
    with torch.no_grad():
        theirs = module(x, mask, positions)[0]

        def heads(linear):
            return linear(x).unflatten(-1, (2, 64)).transpose(1, 2)

        # Their rows descend from distance +(T - 1) to -(T - 1); ours ascend.
        pos = module.linear_pos(positions.double())[0].flip(0).unflatten(-1, (2, 64)).transpose(0, 1)
        tensors = [heads(module.linear_q), heads(module.linear_k), heads(module.linear_v), pos]
        tensors = on_device([*tensors, module.pos_bias_u, module.pos_bias_v])
        ours = rel_attention(*tensors, lengths=lengths.to(DEVICE)).transpose(1, 2).flatten(2).cpu().double()
        error = (module.linear_out(ours) - theirs).abs().max()
    assert error <= 10 * ATOL[torch.float32], f"{error:.2e}"
