"""The Silk codec in plain PyTorch, and the specification of every kernel (``ops``)."""
