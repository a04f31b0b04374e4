"""Fused operations for a CPU, in C: ``ops`` has the functions of ``silk_fast.reference.ops``, ``library`` loads it."""
