"""Every error that silk_fast raises on purpose, and the class of its warnings.

All errors derive from :class:`SilkError`; those about a value also derive from ``ValueError``. A message
names the value at fault and what was expected. The command line prints it on one line.
"""


class SilkError(Exception):
    """Base class of the errors that silk_fast raises on purpose."""


class SilkInputError(SilkError, ValueError):
    """A tensor or an argument has the wrong shape, dtype, range or content."""


class SilkLimitError(SilkInputError):
    """A request is larger, or its sound longer, than a server takes."""


class SilkConfigError(SilkError, ValueError):
    """A model configuration is impossible, incomplete or has unknown fields."""


class SilkModelError(SilkError, ValueError):
    """A model is unknown, or its weights do not fit its configuration."""


class SilkFileError(SilkError):
    """A file cannot be written: no permission, no such directory, a full disk, or it exists already."""


class SilkAudioError(SilkError, ValueError):
    """An audio file is missing, empty, damaged, or holds samples that are not finite."""


class SilkFormatError(SilkError, ValueError):
    """A ``.silk`` file, or one of codes, is damaged, truncated or of another format version."""


class SilkTrainingError(SilkError):
    """Training cannot go on: a loss that is not finite, collapsed latents, or a checkpoint that cannot be used."""


class SilkBusyError(SilkError):
    """An engine has as much waiting as its queue holds, or was closed."""


class SilkTimeoutError(SilkError, TimeoutError):
    """What was asked of an engine took longer than the caller would wait."""


class SilkWarning(UserWarning):
    """What goes on, but is hardly meant: samples far beyond [-1, 1], or weights in half precision."""
