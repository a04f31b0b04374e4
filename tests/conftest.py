"""Where no GPU is present, kernels run in Triton's interpreter; this must be said before triton is imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
