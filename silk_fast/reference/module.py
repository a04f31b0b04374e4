"""The base of every module that calls an operation which has a kernel."""

from typing import Any

from torch import nn

from silk_fast.reference import ops


class OpsModule(nn.Module):
    """Calls its operations as ``self.ops.name(...)``.

    ``ops`` is the reference here; a subclass may set another object with the same functions, such
    as kernels. Parameters, names and states do not depend on it.
    """

    ops: Any = ops  # a module or a class
