"""Checks of what users hand to the codec: each raises :class:`SilkInputError` before anything is computed."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from silk_fast.arguments import shown, whole_number
from silk_fast.errors import SilkInputError

AUDIO_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
TOKEN_DTYPES = (torch.int32, torch.int64)
INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
LOUD = 10.0  # no recording within [-1, 1] reaches it, even one that a filter made overshoot
LOUDEST = 2.0**31  # what 32-bit integers reach; far beyond it the network overflows


def is_exporting() -> bool:
    """Say whether ``torch.export`` traces, which cannot look at values."""
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def described(value: Any) -> str:
    """Describe an argument that should be a tensor of some kind."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {'nested' if value.is_nested else tuple(value.shape)}"
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if name == "numpy.ndarray":
        return f"numpy.ndarray {value.dtype} {value.shape}; torch.from_numpy() makes a tensor of it"
    return f"{name} {shown(value)}"


def check_values(name: str, tensor: Tensor) -> None:
    """Raise unless ``tensor`` holds values that can be computed with."""
    if tensor.layout != torch.strided or tensor.device.type == "meta" or tensor.is_quantized or tensor.is_nested:
        kind = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else tensor.layout
        kind = f"{kind} on {tensor.device}"
        raise SilkInputError(f"{name} must be a dense tensor with values, got one that is {kind}")


def check_audio(audio: Tensor, batch_size: int | None = None) -> None:
    """Raise unless ``audio`` is a floating-point tensor ``[B, 1, T]``; ``batch_size`` None allows any."""
    if not isinstance(audio, Tensor) or audio.dtype not in AUDIO_DTYPES:
        raise SilkInputError(
            f"audio must be a floating-point tensor, got {described(audio)}; expected samples in [-1, 1], [B, 1, T]"
        )
    check_values("audio", audio)
    if audio.ndim != 3 or audio.shape[1] != 1 or batch_size not in (None, audio.shape[0]):
        expected = "B" if batch_size is None else batch_size
        raise SilkInputError(f"audio must be [{expected}, 1, T], got shape {tuple(audio.shape)}")


def peak(audio: Tensor) -> float:
    """Measure the largest magnitude in ``audio`` ``[B, 1, T]``.

    Raises:
        SilkInputError: a sample is NaN, infinite or above ``2 ** 31``.
    """
    if audio.numel() == 0:
        return 0.0
    lowest, highest = torch.stack((audio.amin(), audio.amax())).tolist()
    largest = max(-lowest, highest)
    if largest <= LOUDEST:
        return largest
    rows = (~(audio.abs() <= LOUDEST)).flatten(1).any(1).nonzero().flatten().tolist()
    where = f"in {'row' if len(rows) == 1 else 'rows'} {', '.join(map(str, rows[:8]))}"
    if largest < float("inf"):
        raise SilkInputError(f"audio must be in [-1, 1], got samples of magnitude {largest:.3g} {where}")
    raise SilkInputError(f"audio must be finite, got NaN or infinite samples {where}")


def check_tokens(tokens: Tensor, sizes: Sequence[int], batch_size: int | None = None) -> None:
    """Raise unless ``tokens`` is int32 or int64 ``[B, F, G]`` with values below ``sizes`` ``[G]``."""
    n_rows = "B" if batch_size is None else batch_size
    if not isinstance(tokens, Tensor):
        raise SilkInputError(
            f"tokens must be a tensor int32 or int64 [{n_rows}, F, {len(sizes)}]"
            f"{' or what encode returned' if batch_size is None else ''}, got {described(tokens)}"
        )
    check_values("tokens", tokens)
    if tokens.ndim != 3 or tokens.shape[-1] != len(sizes) or tokens.dtype not in TOKEN_DTYPES:
        raise SilkInputError(f"tokens must be int32 or int64 [{n_rows}, F, {len(sizes)}], got {described(tokens)}")
    if batch_size not in (None, tokens.shape[0]):
        raise SilkInputError(f"tokens must have batch size {batch_size}, got shape {tuple(tokens.shape)}")
    if is_exporting():
        return
    wrong = (tokens < 0) | (tokens >= torch.tensor(sizes, device=tokens.device))
    if wrong.any():
        b, f, g = (int(i) for i in wrong.nonzero()[0])
        raise SilkInputError(
            f"token {g} of frame {f}, sample {b}, must be in 0 .. {sizes[g] - 1}, got {int(tokens[b, f, g])}"
        )


def checked_lengths(lengths: Any, batch_size: int, n_samples: int) -> Tensor:
    """Give the samples of each signal as int64 ``[B]`` on the CPU; None means ``n_samples`` for all.

    Raises:
        SilkInputError: not ``batch_size`` integers in ``1 .. n_samples``.
    """
    if lengths is None:
        return torch.full((batch_size,), n_samples, dtype=torch.int64, device="cpu")
    expected = f"lengths must be {batch_size} integer{'s' * (batch_size > 1)}, one a signal"
    if isinstance(lengths, Tensor):
        check_values("lengths", lengths)
    try:
        given = torch.as_tensor(lengths, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise SilkInputError(f"{expected}, got {described(lengths)}") from error
    if given.shape != (batch_size,) or given.dtype not in INTEGER_DTYPES:
        raise SilkInputError(f"{expected}, got {described(lengths)}")
    given = given.to(torch.int64)
    if given.min() < 1 or given.max() > n_samples:
        raise SilkInputError(f"lengths must be in 1 .. {n_samples}, got {shown(given.tolist())}")
    return given


def checked_rows(rows: Any, batch_size: int) -> list[int]:
    """Give row numbers of a batch: one integer, several, or None for all.

    Raises:
        SilkInputError: not integers in ``0 .. batch_size - 1``.
    """
    if rows is None:
        return list(range(batch_size))
    if isinstance(rows, Tensor):
        check_values("rows", rows)
        rows = rows.tolist()
    try:
        given = list(rows) if hasattr(rows, "__iter__") and not isinstance(rows, str | bytes) else [rows]
    except Exception:  # an array without dimensions, a file that was closed
        given = [rows]
    return [whole_number("rows", row, 0, batch_size - 1) for row in given]


def checked_device(device: Any) -> torch.device:
    """Give a device that tensors can be put on.

    Raises:
        SilkInputError: no such device, or it is not present on this machine.
    """
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    except Exception as error:  # of many kinds: each backend has its own, such as a module that is not installed
        present = ["cpu", *(["mps"] if torch.backends.mps.is_available() else [])]
        present += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        reason = str(error).strip().split("\n")[0]
        raise SilkInputError(
            f"device {shown(device)} cannot be used: {reason}; expected one of {', '.join(present)}"
        ) from error
    if found.type == "meta":
        raise SilkInputError("device 'meta' holds no values; expected one that computes, such as cpu, cuda or mps")
    return found


def check_weights(model: nn.Module) -> torch.dtype | None:
    """Say which half precision the weights of ``model`` are in, if any.

    Raises:
        SilkInputError: they have no values, several devices or dtypes, or one that nothing is computed in.
    """
    tensors = [*model.parameters(), *model.buffers()]
    devices = {tensor.device for tensor in tensors}
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()}
    if len(devices) > 1 or torch.device("meta") in devices:
        names = ", ".join(sorted(map(str, devices)))
        raise SilkInputError(f"the codec must be on one device that computes, its weights are on {names}")
    if len(dtypes) > 1 and not any(_is_autocast_on(device.type) for device in devices):
        names = ", ".join(sorted(map(str, dtypes)))
        raise SilkInputError(f"the codec must have weights of one dtype, they are {names}; codec.float() mends it")
    if other := dtypes.difference(AUDIO_DTYPES):
        names = ", ".join(sorted(map(str, other)))
        raise SilkInputError(f"the codec computes in float32, its weights are {names}; load it anew")
    return next((dtype for dtype in dtypes if dtype in (torch.float16, torch.bfloat16)), None)


def without_autocast(model: nn.Module) -> AbstractContextManager:
    """Compute in the dtype that all weights of ``model`` have, whatever autocast would choose.

    If they have several, autocast is what makes them fit, and stays.
    """
    weight = next(model.parameters())
    if not _is_autocast_on(weight.device.type) or any(other.dtype != weight.dtype for other in model.parameters()):
        return nullcontext()
    return torch.autocast(weight.device.type, enabled=False)


def _is_autocast_on(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
