"""Models and calls of the end-to-end benchmark: what each provider does when it encodes or decodes.

The model is a preset with seeded weights, and the signals are noise: time and memory do not depend on either.
Providers: ``eager`` is the reference with plain weights, ``ours`` the same after ``accelerate_``; ``compile`` and
``compile-max`` (with CUDA graphs) are ``torch.compile`` of encoder, Conformer and decoder. On a GPU compiled parts take
whole signals without state, for a CUDA graph cannot be replayed where states move; all else is called as users call it.
"""

import copy
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

from silk_fast import accelerate_
from silk_fast.config import SilkConfig
from silk_fast.errors import SilkInputError
from silk_fast.reference.codec import SilkCodec
from silk_fast.reference.state import State

COMPILE_MODES = {"compile": "default", "compile-max": "max-autotune"}


@lru_cache
def _seeded_codec(preset: str) -> SilkCodec:
    return SilkCodec(SilkConfig.preset(preset), weight_norm=False, seed=0).eval()


def build_codec(preset: str, dtype: torch.dtype, provider: str, device: torch.device | str) -> SilkCodec:
    """A seeded codec, ready for inference by ``provider``.

    Compiling begins anew: what was compiled before would count as recompilations, too many of which end in silent
    eager execution.

    Raises:
        SilkInputError: ``ours`` on a GPU where no kernel can be used.
    """
    codec = copy.deepcopy(_seeded_codec(preset)).to(device)
    if provider == "ours":
        report = accelerate_(codec, dtype=dtype)
        if torch.device(device).type == "cuda" and len(report.refused) == len(report.swaps):
            raise SilkInputError(f"no kernel can be used: {'; '.join(sorted(set(report.refused.values())))}")
        return codec
    codec = codec.to(dtype)
    if provider in COMPILE_MODES:
        torch.compiler.reset()
        for part in (codec.encoder, codec.conformer, codec.decoder):
            part.compile(mode=COMPILE_MODES[provider], dynamic=False)
    return codec


def codec_call(
    provider: str, op: str, preset: str, dtype: torch.dtype, source: Tensor, device: torch.device
) -> Callable[[], object]:
    """One encode or decode of ``source``, ready to run: whole signals, or the next frame of a stream.

    Args:
        op: ``"encode"``, ``"decode"``, ``"encode_frame"`` or ``"decode_frame"``.
        source: audio float32 ``[B, 1, T]`` or tokens int32 ``[B, F, G]`` on the device.

    Raises:
        SilkInputError: see :func:`build_codec`.
    """
    direction, is_frame = op.removesuffix("_frame"), op.endswith("_frame")
    codec = build_codec(preset, dtype, provider, device)
    if is_frame:
        stream = codec.streaming(len(source))
        if provider == "compile-max":
            _keep_addresses(stream.state)
        return partial(getattr(stream, direction), source)
    if provider in COMPILE_MODES and device.type == "cuda":
        return torch.no_grad()(partial(_whole, codec, direction, source))
    return partial(getattr(codec, direction), source)


def example_input(config: SilkConfig, direction: str, batch: int, n_samples: int) -> Tensor:
    """Audio float32 ``[B, 1, T]`` to encode, tokens int32 ``[B, F, G]`` to decode; the same at every call."""
    generator = torch.Generator().manual_seed(0)
    if direction == "encode":
        return 0.08 * torch.randn(batch, 1, n_samples, generator=generator)
    smallest = config.levels ** (config.latent_dim % config.group_size or config.group_size)
    shape = (batch, config.n_frames(n_samples), config.tokens_per_frame)
    return torch.randint(smallest, shape, generator=generator, dtype=torch.int32)


def _whole(codec: SilkCodec, direction: str, source: Tensor) -> Tensor:
    """Encode or decode whole frames without state; what follows the last whole frame of audio is padded."""
    dtype = codec.decoder.head.weight.dtype
    if direction == "decode":
        return codec.decoder(codec.quantizer.decode(source).to(dtype))
    n_missing = -source.shape[-1] % codec.config.frame_samples
    return codec.quantizer.encode(codec.latents(torch.nn.functional.pad(source, (0, n_missing)).to(dtype)))


def _keep_addresses(state: State) -> None:
    """Promise a compiler that the tensors of ``state`` stay where they are, so that its CUDA graphs may update them."""
    for value in vars(state).values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, State):
                _keep_addresses(item)
            elif isinstance(item, Tensor):
                torch._dynamo.mark_static_address(item)
