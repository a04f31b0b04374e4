"""Triton kernels, one op a file, importing torch and triton only. Installed as ``silk_fast.kernels``."""
