"""Codecs of other libraries, seeded and fitted as the tests have them: untouched, by torch.compile, accelerated."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from silk_fast import accelerate_
from silk_fast.benchmark.codec import COMPILE_MODES
from silk_fast.benchmark.costs import Cost
from silk_fast.benchmark.rows import Row, dtype_name
from silk_fast.benchmark.runner import Bench
from silk_fast.cpu.ops import why_no_bfloat16
from tests.codecs.configurations import CODECS

SECONDS = 1.0  # of speech


@dataclass(frozen=True)
class LibraryCase:
    """The library's own ``encode`` or ``decode`` of one configuration, by one provider.

    Args:
        name: of ``tests.codecs.configurations.CODECS``.
        op: ``"encode"`` or ``"decode"``.
        provider: ``"eager"``, ``"compile"``, of encoder and decoder, or ``"ours"``.
        dtype: of the products of convolutions; bfloat16 of ours only.
        threads: of the CPU; None on a GPU.
    """

    name: str
    op: str
    provider: str
    dtype: torch.dtype = torch.float32
    threads: int | None = 1

    def __str__(self) -> str:
        return f"{self.name}-{self.op}-{dtype_name(self.dtype)}-{self.provider}"

    @property
    def costs(self) -> list[Cost]:
        """Weights, audio and latents once, and the products of the untouched model as PyTorch counts them."""
        return [_cost(self.name, self.op)]

    def row(self, **values) -> Row:
        """The row of this case with ``values`` filled in."""
        codec = CODECS[self.name]
        shape = f"1x{codec.n_channels}x{round(SECONDS * codec.rate)}"
        case = f"{self.name}, {SECONDS:g} s, batch 1"
        place = ("libraries", self.op, case, shape, dtype_name(self.dtype), "forward", self.provider, self.threads)
        if "call" in values:
            values |= {"bytes": self.costs[0].bytes, "flops": self.costs[0].flops}
        return Row(*place, seconds=SECONDS, **values)

    def absence(self, bench: Bench) -> str | None:
        """Why it cannot be measured, as the status of its row; None if it can."""
        library = CODECS[self.name].registration.LIBRARY
        for distribution, package in ((library.distribution, library.package), ("soundfile", "soundfile")):
            if find_spec(package.partition(".")[0]) is None:
                return f"absent: {distribution} is not installed"
        if self.dtype == torch.bfloat16 and bench.device.type == "cpu" and (reason := why_no_bfloat16()):
            return f"absent: {reason}"
        return None

    def ready(self, device: torch.device) -> tuple[Callable[[], object], None]:
        """One call, ready to run."""
        codec = CODECS[self.name]
        model, audio = (copy.deepcopy(part).to(device) for part in _example(self.name))
        call = partial(codec.encode, model, audio)
        if self.op == "decode":
            call = partial(codec.decode, model, torch.no_grad()(call)())
        if self.provider == "ours":
            accelerate_(model, dtype=self.dtype)
        elif self.provider in COMPILE_MODES:
            torch.compiler.reset()
            for part in (model.encoder, model.decoder):
                part.compile(mode=COMPILE_MODES[self.provider], dynamic=False)
        return torch.no_grad()(call), None

    def peak_memory(self) -> int | None:
        """None: not of interest for a second."""
        return None


@cache
def _example(name: str) -> tuple[nn.Module, Tensor]:
    """Model and speech."""
    codec = CODECS[name]
    return codec.make(), codec.speech(SECONDS)


@cache
def _cost(name: str, op: str) -> Cost:
    model, audio = _example(name)
    call, _ = LibraryCase(name, op, "eager").ready(torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        call()
    parts = [part for part in model.children() if part is not (model.decoder if op == "encode" else model.encoder)]
    weights = sum(p.numel() for part in parts for p in part.parameters())
    return Cost(4 * (weights + audio.numel()), counter.get_total_flops(), True)


def library_cases(device: torch.device, threads: int | None) -> list[LibraryCase]:
    """Every configuration, both ways, by every provider, and by ours in half precision; what must be compiled last."""
    half = torch.bfloat16 if device.type == "cpu" else torch.float16
    plain = (("eager", torch.float32), ("ours", torch.float32), ("ours", half))
    return [
        LibraryCase(name, op, provider, dtype, threads)
        for group in (plain, (("compile", torch.float32),))
        for name in CODECS
        for op in ("encode", "decode")
        for provider, dtype in group
    ]
