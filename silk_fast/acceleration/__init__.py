"""Swap faster modules into a model, in place, and undo it. The one place that knows reference and kernels.

A module is swapped by changing the class of that instance: its parameters, their names and the
state dict stay as they are, and no other instance is touched. What replaces what is one table
(``table.py``), which ``silk.py`` fills for Silk; the modules of another library enter it the same way.
"""

from silk_fast.acceleration import silk  # noqa: F401  its import fills the table
from silk_fast.acceleration.forms import FollowsPolicy, Form, Policy
from silk_fast.acceleration.swap import Report, Swap, accelerate_, restore_
from silk_fast.acceleration.table import Library, Replacement, known_ops, register
from silk_fast.codecs import dac, descript, encodec, mimi, oobleck, seanet, snac  # noqa: F401  and so do those of libraries, once imported

__all__ = [
    "FollowsPolicy",
    "Form",
    "Library",
    "Policy",
    "Replacement",
    "Report",
    "Swap",
    "accelerate_",
    "known_ops",
    "register",
    "restore_",
]
