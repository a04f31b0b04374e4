"""The table of what replaces what, by the class of a module; :func:`register` adds to it.

The modules of another library enter by one file, which ``silk_fast/acceleration/__init__.py`` imports beside
``silk.py``. It names the library, the versions it was tested with, and the replacements, in a function that is called
only once a program has imported that library in such a version::

    def replacements() -> list[Replacement]:
        from library.modules import Activation  # only here: a program that does without the library never imports it
        from library_forms import InPlaceActivation  # class InPlaceActivation(Form, Activation)
        return [Replacement(Activation, "snake", fallback=InPlaceActivation)]

    register(replacements, Library("its-distribution", "library.modules", tested=("1.2", "1.4")))
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from torch import nn

from silk_fast.acceleration.forms import Form, Policy, replaced_class
from silk_fast.errors import SilkInputError


def _serves_all(module: nn.Module, policy: Policy) -> str:
    return ""


@dataclass(frozen=True)
class Replacement:
    """What takes the place of the modules of one class.

    Args:
        module: the class of the modules; not their subclasses.
        op: by which name ``accelerate_(model, ops=...)`` selects it; several classes may share one.
        kernel: returns the form that computes by kernels. Called for models that Triton can serve, so that nothing
            else imports triton.
        fallback: the form that needs no kernel.
        why_not: returns why the kernel form cannot serve one module under a policy; empty if it can.
        why_unfit: returns why no form can take the place of one module, which is an error; empty if one can. None
            for what Silk defines itself.

    Raises:
        SilkInputError: ``fallback`` is no form of ``module``.
    """

    module: type[nn.Module]
    op: str
    kernel: Callable[[], type[nn.Module]] | None = None
    fallback: type[nn.Module] | None = None
    why_not: Callable[[Any, Policy], str] = _serves_all
    why_unfit: Callable[[Any], str] | None = None

    def __post_init__(self) -> None:
        if self.fallback:
            self._check(self.fallback)

    def kernel_form(self) -> type[nn.Module] | None:
        """Load the form that computes by kernels; None where there is none.

        Raises:
            SilkInputError: it is no form of ``module``.
        """
        return None if self.kernel is None else self._check(self.kernel())

    def _check(self, form: type[nn.Module]) -> type[nn.Module]:
        if not issubclass(form, Form) or replaced_class(form) is not self.module:
            raise SilkInputError(f"{form.__name__} must derive from Form and, after that, from {self.module.__name__}")
        return form


@dataclass(frozen=True)
class Library:
    """Another library whose modules have replacements.

    Args:
        distribution: the name that pip installs it by.
        package: the package or module of Python that defines the classes.
        tested: the oldest and the newest version that the replacements are right for; ``"5.24"`` is every 5.24.x.
    """

    distribution: str
    package: str
    tested: tuple[str, str]

    @property
    def is_imported(self) -> bool:
        return self.package in sys.modules

    def installed(self) -> str:
        """The version that is installed; empty if that is unknown."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return ""

    def why_not(self) -> str:
        """Why the installed version is left alone; empty for a tested one."""
        oldest, newest = map(release_of, self.tested)
        tested = f"tested are {self.tested[0]} to {self.tested[1]}"
        if not (installed := self.installed()):
            return f"the version of {self.distribution} is unknown; {tested}"
        release = release_of(installed)
        if oldest <= release and release[: len(newest)] <= newest:
            return ""
        return f"{self.distribution} {installed} is not a tested version; {tested}"

    def defines(self, module: nn.Module) -> bool:
        """Whether the class of a module, or one that it derives from, is of this library."""
        return any(f"{base.__module__}.".startswith(f"{self.package}.") for base in type(module).__mro__)


def release_of(version: str) -> tuple[int, ...]:
    """The numbers of a released version, ``(5, 24, 0)``; none for one before its release, such as ``5.24.0.dev1``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)*)(?:\.post\d+)?(?:\+.*)?", version)
    return tuple(map(int, match[1].split("."))) if match else ()


_entered: dict[type[nn.Module], Replacement] = {}
_waiting: list[tuple[Library, Callable[[], Iterable[Replacement]]]] = []  # for a program to import the library


def register(replacements: Callable[[], Iterable[Replacement]], library: Library | None = None) -> None:
    """Enter replacements in the table that :func:`~silk_fast.accelerate_` reads.

    Args:
        replacements: returns them. With a ``library``, called when a model is accelerated after the library was
            imported, and only if its version is among the tested; a model of another version stays as it is, whole.
        library: whose modules they are; None for what is always there, which is entered at once.

    Raises:
        SilkInputError: a class has a replacement already; for a library, when the table is read.
    """
    if library is None:
        _enter(replacements())
    else:
        _waiting.append((library, replacements))


def _enter(replacements: Iterable[Replacement]) -> None:
    """All of them or, if a class is there already, none."""
    table = dict(_entered)
    for entry in replacements:
        if entry.module in table:
            raise SilkInputError(f"{entry.module.__module__}.{entry.module.__qualname__} has a replacement already")
        table[entry.module] = entry
    _entered.update(table)


def known_replacements() -> dict[type[nn.Module], Replacement]:
    """The table: replacements by class, with those of every library that was imported in a tested version."""
    for library, replacements in list(_waiting):
        if library.is_imported and not library.why_not():
            _enter(replacements())
            _waiting.remove((library, replacements))
    return _entered


def untested_libraries() -> dict[Library, str]:
    """Libraries that were imported in a version that was not tested, and why they are left alone."""
    return {library: reason for library, _ in _waiting if library.is_imported and (reason := library.why_not())}


def known_ops() -> tuple[str, ...]:
    """Names of the operations that can be swapped."""
    return tuple(dict.fromkeys(entry.op for entry in known_replacements().values()))
