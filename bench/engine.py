"""What an engine of slots costs and saves on this CPU, with the bundled model: ``python -m bench.engine``.

Everything is called in turn, several rounds of it, on one thread of PyTorch's; the least processor time is taken.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from silk_fast.audio import load
from silk_fast.audio.reader import mixed_down
from silk_fast.benchmark.provenance import cpu_name
from silk_fast.cli.inspect import DEMO_SPEECH
from silk_fast.runtime.codec import open_codec
from silk_fast.runtime.engine import Engine

N_CLIPS, ROUNDS = 16, 3


def clips_of(rate: int) -> list[Tensor]:
    """Clips ``[1, T]`` of 1 to 12 seconds."""
    speech = torch.from_numpy(load(DEMO_SPEECH, rate)).repeat(8)
    lengths = np.random.default_rng(0).integers(rate, 12 * rate, N_CLIPS)
    return [speech[None, 1000 * i : 1000 * i + n] for i, n in enumerate(lengths)]


def seconds_of(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Least seconds of processor time of each call, all called in turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            found[name].append(time.process_time() - start)
    return {name: min(times) for name, times in found.items()}


def through(engine: Engine, way: str, items: list[Tensor]) -> list[Tensor]:
    return [future.result() for future in [engine.submit(way, item) for item in items]]


def main() -> None:
    torch.set_num_threads(1)
    codec = open_codec()
    clips = clips_of(codec.sample_rate)
    tokens = [codec.encode(clip[None])[0] for clip in clips]
    stereo = np.random.default_rng(0).uniform(-1, 1, (48_000 * 60, 2)).astype(np.float32)
    with torch.no_grad():
        alone = {
            "encode alone": lambda: [codec.encode(clip[None]) for clip in clips],
            "decode alone": lambda: [codec.decode(one[None]) for one in tokens],
            "mean of a minute of stereo": lambda: stereo.mean(axis=1, dtype=np.float32),
            "the same by columns": lambda: mixed_down(stereo),
        }
        engines: dict[str, Callable[[], object]] = {}
        for n_slots, step_frames in ((1, None), (8, None), (1, 1), (4, 1), (8, 1), (16, 1)):
            engine = Engine(codec, n_slots=n_slots, step_frames=step_frames, max_queue=N_CLIPS)
            name = f"{n_slots} slots, {step_frames or 'any'} frames"
            engines[f"encode, {name}"] = lambda engine=engine: through(engine, "encode", clips)
            engines[f"decode, {name}"] = lambda engine=engine: through(engine, "decode", tokens)
        times = seconds_of(alone | engines)
    total = sum(clip.shape[-1] for clip in clips) / codec.sample_rate
    print(f"{cpu_name()}, torch {torch.__version__}; {N_CLIPS} clips, {total:.1f} s")
    for name, seconds in times.items():
        print(f"{name:>34}: {1000 * seconds:9.1f} ms, {total / seconds:7.1f} x real time")


if __name__ == "__main__":
    main()
