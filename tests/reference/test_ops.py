"""The specification against independent peers: vector-quantize-pytorch, torch.istft, transformers, diffusers."""

import math
from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import Snake1d as OobleckSnake
from snac.vq import ResidualVectorQuantize as SnacQuantizer
from torch import Tensor, nn
from transformers import DacConfig, EncodecConfig, MimiConfig, Wav2Vec2BertConfig, Wav2Vec2ConformerConfig
from transformers.models.dac.modeling_dac import DacResidualUnit, DacResidualVectorQuantizer
from transformers.models.dac.modeling_dac import Snake1d as DacSnake
from transformers.models.encodec.modeling_encodec import EncodecResidualVectorQuantizer
from transformers.models.mimi.modeling_mimi import MimiResidualVectorQuantizer
from transformers.models.wav2vec2_bert import modeling_wav2vec2_bert as bert
from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer as conformer
from vector_quantize_pytorch import FSQ

from silk_fast import SilkInputError
from silk_fast.reference import ops
from silk_fast.reference.conformer import RelativeAttention
from silk_fast.reference.layers import ResidualUnit

SILK_LEVELS = (8,) * 128


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# ---------------------------------------------------------------- Snake and the residual unit


def test_snake_equals_dac():
    x, peer = torch.randn(2, 5, 63), DacSnake(5)
    peer.alpha.data.uniform_(0.2, 3)
    alpha = peer.alpha.data.flatten()
    torch.testing.assert_close(ops.snake(x, alpha, alpha), peer(x))


def test_snake_equals_oobleck():
    x, peer = torch.randn(2, 5, 63), OobleckSnake(5)
    peer.alpha.data.uniform_(-1, 1)
    peer.beta.data.uniform_(-1, 1)
    ours = ops.snake(x, peer.alpha.data.flatten().exp(), peer.beta.data.flatten().exp())
    torch.testing.assert_close(ours, peer(x))


def test_elu_equals_torch_and_its_definition():
    x, residual, bias = 3 * torch.randn(2, 5, 63), torch.randn(2, 5, 63), torch.randn(5)
    for arguments, v in (([x], x), ([x, bias], x + bias[:, None]), ([x, bias, residual], x + bias[:, None] + residual)):
        torch.testing.assert_close(ops.elu(*arguments), torch.nn.functional.elu(v))
        torch.testing.assert_close(ops.elu(*arguments), torch.where(v > 0, v, torch.expm1(v)))
    small = -torch.logspace(-12, -3, 100)[None, None]
    torch.testing.assert_close(ops.elu(small), small + small.square() / 2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dilation", [1, 3, 9])
def test_residual_unit_equals_dac_with_its_weights(dilation):
    peer = DacResidualUnit(16, dilation)
    for snake in (peer.snake1, peer.snake2):
        snake.alpha.data.uniform_(0.2, 3)
    unit = ResidualUnit(16, dilation, padding="symmetric")
    for mine, theirs in ((unit.snake1, peer.snake1), (unit.snake2, peer.snake2)):
        mine.log_alpha.data = mine.log_beta.data = theirs.alpha.data.flatten().log()
    unit.conv1.load_state_dict(peer.conv1.state_dict())
    unit.conv2.load_state_dict(peer.conv2.state_dict())
    x = torch.randn(2, 16, 200)
    torch.testing.assert_close(unit(x), peer(x), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- FSQ


@cache  # it lists its whole codebook when it is made
def peer_quantizer(levels: tuple[int, ...]) -> FSQ:
    return FSQ(levels=list(levels))


def peer_tokens(z: torch.Tensor, levels: tuple[int, ...], group_size: int) -> torch.Tensor:
    groups = ops.group_levels(levels, group_size)
    parts = z.split([len(group) for group in groups], dim=-1)
    return torch.stack([peer_quantizer(tuple(g))(p[None])[1][0] for g, p in zip(groups, parts, strict=True)], dim=-1)


def test_fsq_tokens_equal_vector_quantize_pytorch_on_100_000_latents():
    z = torch.randn(100_000, 128) * 2
    tokens = ops.fsq_pack(z, SILK_LEVELS, 7)
    assert tokens.shape == (100_000, 19)
    assert tokens.dtype == torch.int32
    assert torch.equal(tokens, peer_tokens(z, SILK_LEVELS, 7))
    assert tokens[:, :18].max() < 8**7
    assert tokens[:, 18].max() < 64


def test_fsq_saturated_latents_take_the_outer_levels():
    z = torch.full((2, 128), 1e4)
    z[1] = -1e4
    tokens = ops.fsq_pack(z, SILK_LEVELS, 7)
    assert torch.equal(tokens, peer_tokens(z, SILK_LEVELS, 7))
    assert tokens[0].tolist() == [8**7 - 1] * 18 + [63]
    assert tokens[1].tolist() == [0] * 19


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (3, 7, 16, 4, 6), (3,), (5,) * 9])
def test_fsq_any_level_list_equals_the_peer(levels):
    z = torch.randn(2000, len(levels)) * 2
    assert torch.equal(ops.fsq_pack(z, levels, 4), peer_tokens(z, levels, 4))


@pytest.mark.parametrize("levels", [(8,) * 7, (8, 5, 5, 5)])
def test_fsq_codes_and_gradient_equal_the_peer(levels):
    z = torch.randn(500, len(levels), requires_grad=True)
    theirs, _ = FSQ(levels=list(levels))(z[None])
    mine = ops.fsq_quantize(z, levels)
    torch.testing.assert_close(mine, theirs[0])
    weight = torch.randn_like(mine)
    (g_mine,) = torch.autograd.grad((mine * weight).sum(), z)
    (g_theirs,) = torch.autograd.grad((theirs[0] * weight).sum(), z)
    torch.testing.assert_close(g_mine, g_theirs)


@pytest.mark.parametrize(("levels", "group_size"), [(SILK_LEVELS, 7), ((8, 5, 5, 5), 3), ((2, 3, 7), 1)])
def test_fsq_unpack_inverts_pack(levels, group_size):
    z = torch.randn(3, 50, len(levels)) * 3
    tokens = ops.fsq_pack(z, levels, group_size)
    torch.testing.assert_close(ops.fsq_unpack(tokens, levels, group_size), ops.fsq_quantize(z, levels))
    assert torch.equal(ops.unpack_digits(tokens, levels, group_size), ops.fsq_digits(z, levels))


def test_packing_is_little_endian_mixed_radix():
    assert ops.pack_digits(torch.tensor([[1, 2, 3, 4]]), (8, 5, 5, 5), 3).tolist() == [[1 + 2 * 8 + 3 * 40, 4]]


# ---------------------------------------------------------------- attention


def test_rel_attention_equals_wav2vec2_conformer():
    config = Wav2Vec2ConformerConfig(
        hidden_size=48,
        num_attention_heads=4,
        position_embeddings_type="relative",
        max_source_positions=64,
        attention_dropout=0.0,
        attn_implementation="eager",
    )
    peer = conformer.Wav2Vec2ConformerSelfAttention(config).eval()
    torch.nn.init.normal_(peer.pos_bias_u)
    torch.nn.init.normal_(peer.pos_bias_v)
    ours = RelativeAttention(48, 4, window=(None, None))
    names = {"query": "q", "key": "k", "value": "v", "output": "out", "position": "pos"}
    for mine, theirs in names.items():
        getattr(ours, mine).load_state_dict(getattr(peer, f"linear_{theirs}").state_dict())
    ours.u.data, ours.v_bias.data = peer.pos_bias_u.data, peer.pos_bias_v.data
    x, lengths = torch.randn(2, 30, 48), torch.tensor([30, 17])
    positions = conformer.Wav2Vec2ConformerRelPositionalEmbedding(config)(x)
    keys = torch.arange(30)[None] < lengths[:, None]
    mask = torch.zeros(2, 1, 30, 30).masked_fill(~keys[:, None, None], torch.finfo(torch.float32).min)
    expected, _ = peer(x, attention_mask=mask, relative_position_embeddings=positions)
    torch.testing.assert_close(ours(x, lengths), expected, rtol=1e-4, atol=1e-5)


def test_rel_key_attention_equals_wav2vec2_bert():
    config = Wav2Vec2BertConfig(
        hidden_size=48,
        num_attention_heads=4,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=6,
        right_max_position_embeddings=3,
        attention_dropout=0.0,
        attn_implementation="eager",
    )
    peer = bert.Wav2Vec2BertSelfAttention(config).eval()
    x = torch.randn(2, 30, 48)
    q, k, v = (
        layer(x).unflatten(-1, (4, 12)).transpose(1, 2) for layer in (peer.linear_q, peer.linear_k, peer.linear_v)
    )
    ours = ops.rel_key_attention(q, k, v, peer.distance_embedding.weight, 6, 3)
    torch.testing.assert_close(peer.linear_out(ours.transpose(1, 2).flatten(2)), peer(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [(3, 0), (3, 2), (None, 0), (0, 0)])
def test_window_hides_what_is_outside(window):
    q, k, v = torch.randn(3, 1, 2, 9, 8).unbind(0)
    left, right = (8 if extent is None else extent for extent in window)
    pos, u, v_bias = torch.randn(2, left + right + 1, 8), torch.randn(2, 8), torch.randn(2, 8)
    y = ops.rel_attention(q, k, v, pos, u, v_bias, window)
    for i in range(9):
        first, last = max(0, i - left), min(9, i + right + 1)
        scores = ((q[0, :, i] + u)[:, None] * k[0, :, first:last]).sum(-1)
        for j in range(first, last):
            scores[:, j - first] += ((q[0, :, i] + v_bias) * pos[:, i - j + right]).sum(-1)
        expected = torch.softmax(scores / math.sqrt(8), -1)[:, None] @ v[0, :, first:last]
        torch.testing.assert_close(y[0, :, i], expected[:, 0])


def test_last_queries_against_cached_keys_equal_all_queries():
    q, k, v = torch.randn(3, 2, 2, 12, 8).unbind(0)
    pos, u, v_bias = torch.randn(2, 6, 8), torch.randn(2, 8), torch.randn(2, 8)
    whole = ops.rel_attention(q, k, v, pos, u, v_bias, (5, 0))
    torch.testing.assert_close(ops.rel_attention(q[:, :, 9:], k, v, pos, u, v_bias, (5, 0)), whole[:, :, 9:])
    padded = [torch.nn.functional.pad(t, (0, 0, 4, 0), value=99.0) for t in (k, v)]
    starts = torch.tensor([4, 4])
    late = ops.rel_attention(q, *padded, pos, u, v_bias, (5, 0), starts=starts)
    torch.testing.assert_close(late, whole)


def test_query_without_keys_gives_zeros_and_finite_gradients():
    q = torch.randn(1, 1, 4, 8, requires_grad=True)
    k = torch.randn(1, 1, 4, 8)
    pos, u = torch.randn(1, 1, 8), torch.zeros(1, 8)
    y = ops.rel_attention(q, k, k, pos, u, u, (0, 0), lengths=torch.tensor([2]))
    assert y[0, 0, 2:].eq(0).all()
    assert y[0, 0, :2].ne(0).any()
    y.sum().backward()
    assert q.grad.isfinite().all()


def test_positions_of_the_wrong_size_are_refused():
    q = torch.randn(1, 1, 4, 8)
    with pytest.raises(SilkInputError, match="pos must have left \\+ right \\+ 1 = 4 rows, got 3"):
        ops.rel_attention(q, q, q, torch.randn(1, 3, 8), torch.zeros(1, 8), torch.zeros(1, 8), (3, 0))


def test_glu_conv_norm_silu_equals_wav2vec2_bert():
    config = Wav2Vec2BertConfig(hidden_size=24, conv_depthwise_kernel_size=5, hidden_act="swish")
    peer = bert.Wav2Vec2BertConvolutionModule(config).eval()
    x = torch.randn(2, 20, 24)
    hidden = peer.pointwise_conv1(peer.layer_norm(x).transpose(1, 2)).transpose(1, 2)
    norm = peer.depthwise_layer_norm
    y = ops.glu_conv_norm_silu(
        hidden, peer.depthwise_conv.weight[:, 0], torch.zeros(24), norm.weight, norm.bias, norm.eps
    )
    ours = peer.pointwise_conv2(y.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours, peer(x), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- inverse STFT


def polar(n_frames: int, n_fft: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = (2, n_frames, n_fft // 2 + 1)
    return torch.randn(shape), torch.randn(shape) * 4, torch.hann_window(n_fft)


def spectrum_of(log_magnitude: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
    return torch.polar(log_magnitude.clamp(max=math.log(100)).exp(), phase)


def overlap_add(log_magnitude: torch.Tensor, phase: torch.Tensor, window: torch.Tensor, hop: int):
    """Independent overlap-add in numpy: (sum of windowed frames, sum of squared windows)."""
    frames = np.fft.irfft(spectrum_of(log_magnitude, phase).numpy(), axis=-1) * window.numpy()
    n_frames, n_fft = frames.shape[1:]
    total, envelope = np.zeros((2, (n_frames - 1) * hop + n_fft)), np.zeros((n_frames - 1) * hop + n_fft)
    for f in range(n_frames):
        total[:, f * hop : f * hop + n_fft] += frames[:, f]
        envelope[f * hop : f * hop + n_fft] += window.numpy() ** 2
    return total, envelope


@pytest.mark.parametrize(("n_fft", "hop"), [(1280, 320), (16, 4), (64, 32)])
def test_istft_center_equals_torch(n_fft, hop):
    log_magnitude, phase, window = polar(9, n_fft)
    ours = ops.polar_istft(log_magnitude, phase, window, hop, "center")
    spectrum = spectrum_of(log_magnitude, phase).transpose(1, 2)
    torch.testing.assert_close(ours, torch.istft(spectrum, n_fft, hop, window=window), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n_fft", "hop"), [(1280, 320), (16, 4)])
def test_istft_same_and_causal_equal_an_independent_overlap_add(n_fft, hop):
    log_magnitude, phase, window = polar(9, n_fft)
    total, envelope = overlap_add(log_magnitude, phase, window, hop)
    cut = (n_fft - hop) // 2
    same = ops.polar_istft(log_magnitude, phase, window, hop, "same")
    expected = (total / np.maximum(envelope, 1e-30))[:, cut:-cut]
    assert same.shape == (2, 9 * hop)
    np.testing.assert_allclose(same.numpy(), expected, rtol=1e-4, atol=1e-5)
    causal = ops.polar_istft(log_magnitude, phase, window, hop)
    assert causal.shape == (2, 9 * hop)
    np.testing.assert_allclose(causal.numpy(), total[:, : 9 * hop] / envelope[n_fft], rtol=1e-4, atol=1e-5)


def test_magnitude_is_limited_to_one_hundred():
    log_magnitude, phase, window = polar(3, 16)
    limited = ops.polar_istft(log_magnitude.fill_(50.0), phase, window, 4)
    torch.testing.assert_close(limited, ops.polar_istft(log_magnitude.fill_(math.log(100)), phase, window, 4))


def test_unknown_alignment_is_refused():
    with pytest.raises(SilkInputError, match="alignment must be center, same or causal, got 'left'"):
        ops.polar_istft(*polar(3, 16), 4, "left")


# ---------------------------------------------------------------- vector quantisation


def test_rvq_equals_encodec():
    config = EncodecConfig(codebook_size=32, codebook_dim=12, hidden_size=12, target_bandwidths=[6.0])
    peer = EncodecResidualVectorQuantizer(config)
    for layer in peer.layers:
        layer.codebook.embed.normal_()
    x = torch.randn(2, 12, 20)
    codes = peer.encode(x)
    codebooks = torch.stack([layer.codebook.embed for layer in peer.layers])
    indices = ops.rvq_encode(x.transpose(1, 2), codebooks[: len(codes)])
    assert torch.equal(indices.transpose(0, 1), codes)
    assert torch.equal(ops.rvq_decode(indices, codebooks).transpose(1, 2), peer.decode(codes))


def test_euclidean_rvq_equals_mimi():
    config = MimiConfig(codebook_size=32, codebook_dim=12, hidden_size=12, vector_quantization_hidden_dimension=12)
    peer = MimiResidualVectorQuantizer(config, 5)
    for layer in peer.layers:
        layer.codebook.embed_sum.normal_()
    x = torch.randn(2, 12, 20)
    codebooks = torch.stack([layer.codebook.embed for layer in peer.layers])
    assert torch.equal(ops.rvq_encode(x.transpose(1, 2), codebooks, True).transpose(0, 1), peer.encode(x))


def factorized(quantizers: Iterable[nn.Module], x: Tensor, **options) -> tuple[Tensor, Tensor]:
    """Indices and latents of the quantisers of DAC or SNAC, of ``x`` [B, C, T], by projections and tables."""
    stages = [
        [q.in_proj.weight, q.in_proj.bias, q.codebook.weight, q.out_proj.weight, q.out_proj.bias] for q in quantizers
    ]
    in_weights, in_biases, codebooks, out_weights, out_biases = map(torch.stack, zip(*stages, strict=True))
    tables = ops.factorized_tables(in_weights[..., 0], codebooks, out_weights[..., 0], out_biases)
    projections = x.transpose(1, 2) @ in_weights[..., 0].flatten(0, 1).T + in_biases.flatten()
    return ops.factorized_rvq_encode(projections, codebooks, tables, **options)


def test_factorized_rvq_equals_dac():
    config = DacConfig(n_codebooks=4, codebook_dim=4, codebook_size=32, decoder_hidden_size=16, upsampling_ratios=[2])
    config.hidden_size = 16
    peer = DacResidualVectorQuantizer(config).double().eval()
    x = torch.randn(2, 16, 30, dtype=torch.float64)
    _, codes, latents, *_ = peer(x)
    indices, ours = factorized(peer.quantizers, x)
    assert torch.equal(indices, codes)
    torch.testing.assert_close(ours.transpose(1, 2), latents)


def test_factorized_rvq_equals_snac():
    peer = SnacQuantizer(16, 32, 4, [4, 2, 1]).double().eval()
    x = torch.randn(2, 16, 24, dtype=torch.float64)
    _, codes = peer(x)
    indices, _ = factorized(peer.quantizers, x, strides=[4, 2, 1], score="snac")
    for index, code, stride in zip(indices.unbind(1), codes, (4, 2, 1), strict=True):
        assert torch.equal(index, code.repeat_interleave(stride, dim=1))
