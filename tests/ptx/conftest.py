"""Without a compiler for the machine, and nothing in the cache, its tests are skipped."""

import pytest

from tests.ptx.library import NoCompiler, library


@pytest.fixture(scope="session", autouse=True)
def compiled_machine():
    try:
        library()
    except NoCompiler as error:
        pytest.skip(str(error))
