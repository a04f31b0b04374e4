"""Where no GPU is present, kernels run in Triton's interpreter; this must be said before triton is imported."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # workers share the cores, and their threads would wait for each other
    n_workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // n_workers)))

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# Tolerances are those of IEEE float32; on a GPU the reference would run convolutions in TF32.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False

# A shell starts background jobs with interrupts ignored, and processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

NOBODY = 65534

pytest_plugins = ["tests.ptx.plugin"]  # --emulate


def pytest_collection_finish() -> None:
    """Spare Triton's interpreter to patch its language at every call of a device function, most of its time.

    A launch has patched ``triton.language`` already; ``triton.language.core``, which the functions of Triton's own
    library see, stays patched.
    """
    if "triton" not in sys.modules or os.environ.get("TRITON_INTERPRET") != "1":
        return
    from triton.language import sum as library_function
    from triton.runtime import interpreter

    interpreter._patch_lang(library_function.fn)
    interpreter.InterpretedFunction.__call__ = lambda self, *args, **kwargs: self.rewrite()(*args, **kwargs)


@pytest.fixture(scope="module")
def espeak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """espeak-ng on the path: the program itself or, where it is not installed, one that buzzes in its place."""
    from tests.programs import absence, write_espeak

    with pytest.MonkeyPatch.context() as patch:
        if absence("espeak-ng"):
            folder = tmp_path_factory.mktemp("programs")
            write_espeak(folder, sys.executable)
            patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the smallest codec, untrained; not to be changed."""
    from tests.support import make_codec

    path = tmp_path_factory.mktemp("model")
    make_codec().save_pretrained(path)
    return path


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A temporary directory that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def unprivileged() -> Callable[[], AbstractContextManager]:
    """Inside, permissions of files apply, even where the tests run as root."""

    @contextmanager
    def drop() -> Iterator[None]:
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(user)

    return drop
