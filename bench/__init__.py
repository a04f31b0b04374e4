"""Benchmarks and the gates before them. The package notes when it was imported, which is before torch is."""

import time

STARTED = time.monotonic()
