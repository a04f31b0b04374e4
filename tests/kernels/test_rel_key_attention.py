"""`rel_key_attention` against its specification, and against the Wav2Vec2-BERT of transformers."""

from functools import partial

import pytest
import torch
from silk_fast.kernels import rel_key_attention
from silk_fast.kernels.attention.launch import attention_forward

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

BERT = (64, 8)


def make_inputs(n_batch, n_heads, n_frames, head_dim, left, right):
    """Random q, k, v, distance_embedding."""
    torch.manual_seed(0)
    heads = (n_batch, n_heads, n_frames, head_dim)
    return [torch.randn(s) for s in (heads, heads, heads, (left + right + 1, head_dim))]


def on_device(tensors, dtype=torch.float32):
    return [x.to(DEVICE, dtype) for x in tensors]


# With extents 34 and 33 the last distance that is not clipped falls on the corner of a tile.
@pytest.mark.parametrize(
    ("sizes", "dtype"),
    single_and_half(
        [(1, 64, BERT), (7, 64, BERT), (63, 24, (0, 0)), (63, 64, BERT), (100, 16, (34, 33)), (63, 128, (5, 0))]
    ),
    ids=str,
)
def test_matches_reference_forward_and_backward(sizes, dtype):
    n_frames, head_dim, extents = sizes
    inputs = [*make_inputs(1, 2, n_frames, head_dim, *extents), *extents]
    grads = [torch.randn(inputs[0].shape)]
    assert_op_matches(rel_key_attention, ops.rel_key_attention, inputs, grads, dtype)


# In float32 1000 frames are 4000 tiles of 16 x 16, too many for the interpreter.
@pytest.mark.parametrize(("n_frames", "dtype"), [*((500, dtype) for dtype in DTYPES), (1000, torch.float16)], ids=str)
def test_long_sequences_match_reference(n_frames, dtype):
    inputs = [*make_inputs(1, 1, n_frames, 64, *BERT), *BERT]
    assert_op_matches(rel_key_attention, ops.rel_key_attention, inputs, [], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masked_keys(dtype):
    inputs = [*make_inputs(3, 1, 50, 8, 10, 3), 10, 3, torch.tensor([50, 0, 21], dtype=torch.int32)]
    grads = [torch.randn(inputs[0].shape)]
    assert_op_matches(rel_key_attention, ops.rel_key_attention, inputs, grads, dtype)


def test_a_query_without_keys_gives_zeros_and_no_gradient():
    tensors = [x.requires_grad_() for x in on_device(make_inputs(2, 1, 20, 8, 3, 3))]
    out = rel_key_attention(*tensors, 3, 3, torch.tensor([0, 20], device=DEVICE))
    assert torch.equal(out[0], torch.zeros_like(out[0]))
    for grad in torch.autograd.grad(out[0].sum(), tensors):
        assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_sample_alone_and_padded_in_a_batch_agree_bit_for_bit(dtype):
    q, k, v, embedding = on_device(make_inputs(2, 2, 90, 16, 20, 8), dtype)
    padded = rel_key_attention(q, k, v, embedding, 20, 8, torch.tensor([37, 90], device=DEVICE))
    alone = rel_key_attention(*(x[:1, :, :37] for x in (q, k, v)), embedding, 20, 8)
    assert torch.equal(padded[:1, :, :37], alone)


@pytest.mark.parametrize(("layout", "dtype"), single_and_half(["joined", "unaligned", "projections"]), ids=str)
def test_any_strides_give_the_same_bits(layout, dtype):
    inputs = on_device(make_inputs(2, 2, 40, 16, 10, 3), dtype)
    others = [head_layouts(x)[layout] for x in inputs[:3]] + inputs[3:]
    assert_same_bits(lambda *x: rel_key_attention(*x, 10, 3), inputs, others, head_layouts(inputs[2])[layout])


def test_non_contiguous_inputs_and_gradients():
    def function(f, q, k, v, embedding):
        return f(q.transpose(2, 3), k.transpose(1, 2), v[:, :1].expand(-1, 2, -1, -1), embedding.T, 5, 2)

    shapes = [(1, 2, 8, 19), (1, 19, 2, 8), (1, 2, 19, 8), (8, 8)]
    inputs, grad = [torch.randn(s) for s in shapes], torch.randn(1, 2, 8, 19).transpose(2, 3)
    ours, reference = partial(function, rel_key_attention), partial(function, ops.rel_key_attention)
    assert_op_matches(ours, reference, inputs, [grad], torch.float32)


@pytest.mark.parametrize(("n_batch", "n_frames"), [(0, 5), (2, 0)])
def test_empty(n_batch, n_frames):
    tensors = [x.requires_grad_() for x in on_device(make_inputs(n_batch, 2, n_frames, 8, 3, 1))]
    out = rel_key_attention(*tensors, 3, 1)
    assert out.shape == (n_batch, 2, n_frames, 8)
    for grad in torch.autograd.grad(out.sum(), tensors):
        assert torch.equal(grad, torch.zeros_like(grad))


def test_the_ends_of_float16_stay_finite():
    tensors = [(x.sign() * 65504).requires_grad_() for x in on_device(make_inputs(1, 1, 40, 16, 8, 2), torch.float16)]
    out = rel_key_attention(*tensors, 8, 2)
    assert out.isfinite().all()
    for grad in torch.autograd.grad(out, tensors, torch.ones_like(out)):
        assert not grad.isnan().any()


def test_nothing_that_is_read_is_written_and_gradients_are_reproducible():
    tensors = [x.requires_grad_() for x in on_device(make_inputs(2, 1, 40, 16, 8, 2))]
    lengths = torch.tensor([40, 23], device=DEVICE)
    before = [x.detach().clone() for x in (*tensors, lengths)]
    out = rel_key_attention(*tensors, 8, 2, lengths)
    kept, grad = out.detach().clone(), torch.randn_like(out)
    kept_grad = grad.clone()
    first, second = (torch.autograd.grad(out, tensors, grad, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    after = (*tensors, lengths, out, grad)
    assert all(torch.equal(a, b) for a, b in zip(after, (*before, kept, kept_grad), strict=True))


def test_gradcheck():
    tensors = [x.requires_grad_() for x in on_device(make_inputs(1, 1, 4, 2, 1, 1), torch.float64)]
    assert torch.autograd.gradcheck(lambda *t: rel_key_attention(*t, 1, 1), tensors)


@of_pytorch
def test_registration_is_sound():
    tensors = [x.requires_grad_() for x in on_device(make_inputs(2, 2, 5, 8, 3, 1))]
    lengths = torch.tensor([5, 4], device=DEVICE)
    torch.library.opcheck(torch.ops.silk_fast.rel_key_attention.default, (*tensors, 3, 1, lengths))
    arguments = (*(x.detach() for x in tensors), 3, 1, lengths)
    out, lse = torch.ops.silk_fast.rel_key_attention.default(*arguments)
    backward = torch.ops.silk_fast.rel_key_attention_backward.default
    torch.library.opcheck(backward, (torch.randn_like(out), *arguments, out, lse))


def test_a_few_queries_over_many_keys():
    """The last 3 rows of many frames, by the kernel alone: the op wants as many queries as keys."""
    q, k, v, table = make_inputs(1, 1, MANY_KEYS, 8, *BERT)
    inputs = [q[:, :, -3:], k, v, table]
    ours, _ = attention_forward(*on_device(inputs), (None, None), *BERT, True, None, None)
    eager, exact = (last_rows(*(x.to(dtype) for x in inputs), *BERT) for dtype in (torch.float32, torch.float64))
    assert_matches(ours, eager, exact, torch.float32)


def last_rows(q, k, v, table, left, right):
    """The formula for queries that stand at the last keys."""
    i_key = torch.arange(k.shape[2])
    row = (i_key - i_key[-q.shape[2] :, None]).clamp(-left, right) + left
    scores = q @ k.transpose(2, 3) + (q[..., None, :] * table[row]).sum(-1)
    return torch.softmax(scores / q.shape[3] ** 0.5, -1) @ v


@of_pytorch
def test_compiles_as_one_graph():
    tensors = [x.requires_grad_() for x in on_device(make_inputs(1, 2, 9, 8, 3, 1))]
    out = rel_key_attention(*tensors, 3, 1)
    compiled = torch.compile(rel_key_attention, fullgraph=True, backend="aot_eager")(*tensors, 3, 1)
    assert torch.equal(out, compiled)
    for a, b in zip(*(torch.autograd.grad(y.sum(), tensors) for y in (out, compiled)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({0: (2, 5, 8)}, (3, 1), ValueError, r"q must be \[B, H, T, D\]"),
        ({0: (1, 2, 4, 8)}, (3, 1), ValueError, "k must have as many rows as q, 4, got 5"),
        ({1: (1, 1, 5, 8)}, (3, 1), ValueError, r"k must be \[1, 2, 5, 8\], got \[1, 1, 5, 8\]"),
        ({3: (5, 7)}, (3, 1), ValueError, r"distance_embedding must be \[left \+ right \+ 1 = 5, 8\], got \[5, 7\]"),
        ({}, (4, 1), ValueError, r"distance_embedding must be \[left \+ right \+ 1 = 6, 8\]"),
        ({}, (5, -1), ValueError, "left and right must be >= 0, got 5 and -1"),
        ({}, (3, 1, torch.ones(2, dtype=torch.int64)), ValueError, r"lengths must be \[1\]"),
        ({}, (3, 1, torch.ones(1)), TypeError, "lengths must be int32 or int64, got torch.float32"),
        ({3: torch.float16}, (3, 1), TypeError, "distance_embedding must be torch.float32 as q, got torch.float16"),
    ],
    ids=str,
)
def test_bad_input_is_refused_by_name(change, options, error, message):
    tensors = make_inputs(1, 2, 5, 8, 3, 1)
    for i, new in change.items():
        tensors[i] = tensors[i].to(new) if isinstance(new, torch.dtype) else torch.zeros(new)
    tensors, options = [x.to(DEVICE) for x in tensors], [x.to(DEVICE) if torch.is_tensor(x) else x for x in options]
    with pytest.raises(error, match=message):
        rel_key_attention(*tensors, *options)


def test_equals_the_wav2vec2_bert_of_transformers():
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

    torch.manual_seed(0)
    config = Wav2Vec2BertConfig(hidden_size=128, num_attention_heads=2, position_embeddings_type="relative_key")
    config._attn_implementation = "eager"
    module = Wav2Vec2BertSelfAttention(config).double().eval()
    x, lengths = torch.randn(2, 100, 128, dtype=torch.float64), torch.tensor([100, 80])
    mask = torch.zeros(2, 1, 1, 100, dtype=torch.float64).masked_fill(
        torch.arange(100) >= lengths[:, None, None, None], -torch.inf
    )
    with torch.no_grad():
        theirs = module(x, mask)[0]

        def heads(linear):
            return linear(x).unflatten(-1, (2, 64)).transpose(1, 2)

        tensors = [heads(module.linear_q), heads(module.linear_k), heads(module.linear_v)]
        tensors = on_device([*tensors, module.distance_embedding.weight])
        ours = rel_key_attention(*tensors, 64, 8, lengths.to(DEVICE)).transpose(1, 2).flatten(2).cpu().double()
        error = (module.linear_out(ours) - theirs).abs().max()
    assert error <= 10 * ATOL[torch.float32], f"{error:.2e}"
