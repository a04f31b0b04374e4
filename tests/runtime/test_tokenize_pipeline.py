"""A corpus costs what reading and encoding cost, and hardly more."""

import os
import statistics
import subprocess
import sys

import pytest

from tests.support import ROOT

pytest.importorskip("pyarrow")


@pytest.mark.slow
def test_pipeline_takes_at_most_five_percent_more_than_reading_and_encoding(tmp_path):
    """In a process of its own, where Triton's interpreter is not on and the model is accelerated as it is for users."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.runtime.pipeline", str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    shares = [float(line.split()[0]) for line in done.stdout.splitlines()]
    assert len(shares) > 2
    assert statistics.median(shares) <= 1.05, done.stdout
