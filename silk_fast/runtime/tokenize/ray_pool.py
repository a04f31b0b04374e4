"""Units by the machines of a Ray cluster, to all of which sources and shards are the same files.

Ray Data gives every unit to an actor, which writes the shard itself and returns what it came to: a unit that is made
again, because an actor or its machine was lost, becomes the same file. Ray's own writer would leave two.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from silk_fast.errors import SilkError, SilkInputError
from silk_fast.runtime.tokenize.encoding import Encoder
from silk_fast.runtime.tokenize.units import Job, UnitReport, tokenize_unit


class _Worker:
    """An actor: one thread, one codec, a unit at a time."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(1)
        pa.set_cpu_count(1)
        self.job, self.encoder = job, Encoder(job.open_codec())

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        reports = [asdict(tokenize_unit(self.job, self.encoder, int(unit), _tell_nobody)) for unit in batch["unit"]]
        return {name: [report[name] for report in reports] for name in reports[0]}


def _tell_nobody(seconds: float) -> None:
    pass


def actors_and_cpus(workers: int | None, n_cpus: float) -> tuple[int, float]:
    """Say how many actors there are to be, and how much of a CPU each is to ask for.

    Ray Data reads and moves blocks with tasks that ask for a CPU as well: actors that take them all would wait for such
    tasks, which wait for a CPU, without a word.

    Args:
        workers: asked for; None for as many as suit the cluster.
        n_cpus: of the cluster.

    Raises:
        SilkInputError: more workers than CPUs.
    """
    n_whole = math.floor(n_cpus)
    n_actors = workers or max(1, n_whole - 1 if n_whole > 3 else n_whole)
    if n_actors > n_whole:
        raise SilkInputError(f"workers must be at most {n_whole}, the CPUs of the Ray cluster, got {n_actors}")
    return n_actors, 1.0 if n_actors < n_whole else 0.5


def run_ray(job: Job, units: Sequence[int], workers: int | None) -> Iterator[UnitReport]:
    """Make units with actors, and yield each when it is done, in any order.

    A cluster that the program is connected to is used, or that of ``RAY_ADDRESS``, else one on this machine is begun.

    Raises:
        SilkInputError: more workers than CPUs, or Ray is not installed.
        SilkError: a unit could not be made.
    """
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise SilkInputError(f"--engine ray needs the package ray: pip install silk_fast[ray] ({error})") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    n_actors, n_cpus = actors_and_cpus(workers, ray.cluster_resources().get("CPU", 0))
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    dataset = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units)).map_batches(
        _Worker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(n_actors, len(units))),
        fn_constructor_args=(job,),
        num_cpus=n_cpus,
    )
    try:
        for row in dataset.iter_rows():
            yield UnitReport(**row)
    except ray.exceptions.RayError as error:
        raise SilkError(f"Ray: {str(error).strip().splitlines()[-1]}; run again to go on") from error
