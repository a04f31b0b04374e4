"""The C library in a process: threads of PyTorch's pool, forked children, what is said where it is not there."""

import ctypes
import os
import signal
import sys
import threading
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from silk_fast.cpu import checks, library, ops

LARGE = 4 * checks.SMALL
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def two_threads(built):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    (torch.ones(10**6) * torch.ones(10**6)).sum()  # PyTorch's pool is there
    yield
    torch.set_num_threads(n_threads)


def threads_of_process() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/task")}


def threads_that_run(n_threads: int) -> set[int]:
    """Native ids of the threads that take units of work, each of which takes a while."""
    seen = set()

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    def loop(job, first, last):
        seen.add(threading.get_native_id())
        time.sleep(0.01)

    loops = (ctypes.c_void_p * len(library.LEVELS))(*[ctypes.cast(loop, ctypes.c_void_p)] * len(library.LEVELS))
    run = library.load().silk_run
    run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int)
    run(loops, None, 50, 1, n_threads)
    return seen


@on_linux
def test_threads_are_those_of_pytorch(two_threads):
    before = threads_of_process()
    seen = threads_that_run(2)
    assert len(seen) == 2
    assert threading.get_native_id() in seen
    assert seen <= before
    ops.snake(torch.ones(1, 1, LARGE), torch.ones(1), torch.ones(1))
    assert threads_of_process() <= before


def test_one_thread_is_the_callers(built):
    assert threads_that_run(1) == {threading.get_native_id()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded before", "loaded by the child"])
def test_a_forked_child_does_not_wait_for_threads_that_stayed_behind(loaded, two_threads):
    x = torch.ones(1, 1, LARGE)
    expected = ops.snake(x, torch.ones(1), torch.ones(1))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if not loaded:
                library.load.cache_clear()
            y = ops.snake(x, torch.ones(1), torch.ones(1))  # PyTorch's own operations on so much would hang
            status = int(y.numpy().tobytes() != expected.numpy().tobytes())
        finally:
            os._exit(status)
    for _ in range(300):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert status == 0
    assert len(threads_that_run(2)) == 2  # the parent's are still there


class Snakes(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        return ops.snake(torch.full((1, 1, LARGE), float(i)), torch.ones(1), torch.ones(1))[0]


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_data_loader_call_operations(method, two_threads):
    loader = DataLoader(Snakes(), batch_size=2, num_workers=2, multiprocessing_context=method, timeout=100)
    whole = torch.cat(list(loader))
    assert torch.equal(whole, torch.stack([Snakes()[i] for i in range(4)]))


def test_many_threads_of_python_call_at_once(two_threads):
    x = torch.randn(1, 8, LARGE)
    expected, results = ops.snake(x, torch.ones(8), torch.ones(8)), []

    def call() -> None:
        results.extend(ops.snake(x, torch.ones(8), torch.ones(8)) for _ in range(5))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 15
    assert all(torch.equal(y, expected) for y in results)


def test_without_an_openmp_runtime_one_thread_serves(two_threads):
    expected = ops.snake(torch.ones(1, 1, LARGE), torch.ones(1), torch.ones(1))
    library.load().silk_use_parallel(None)
    try:
        assert threads_that_run(2) == {threading.get_native_id()}
        assert torch.equal(ops.snake(torch.ones(1, 1, LARGE), torch.ones(1), torch.ones(1)), expected)
    finally:
        library.load().silk_use_parallel(library._parallel())


# ---------------------------------------------------------------- where it is not there


@pytest.fixture
def why_not(monkeypatch):
    """What is said after a change to ``library``."""

    def say(name: str, value: object) -> str:
        monkeypatch.setattr(library, name, lambda: value)
        return library.why_not.__wrapped__()

    return say


def test_absent(why_not, monkeypatch):
    assert "was not built: install a C compiler" in why_not("_path", None)
    monkeypatch.setattr(library, "why_not", lambda: "it was not built")
    assert not library.available()
    with pytest.raises(RuntimeError, match="it was not built"):
        library.load.__wrapped__()


@pytest.mark.parametrize("content", [b"", b"no library"], ids=str)
def test_damaged(content, why_not, tmp_path):
    path = tmp_path / "library.so"
    path.write_bytes(content)
    assert "does not load" in why_not("_path", path)


def test_built_from_other_sources(built, why_not):
    assert "from other sources" in why_not("_sources", 1)
