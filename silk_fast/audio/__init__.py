"""Audio files in and out: read, write and resample block by block, in memory that does not grow with duration.

libsndfile (package ``soundfile``) decodes and encodes, soxr (HQ) resamples; both are imported when first used.
Samples are float32 in the nominal range [-1, 1], mono unless channels are asked for. A path of ``"-"`` is standard
input or output.

What libsndfile passes over in silence is checked here and raised as :class:`~silk_fast.SilkAudioError`: files cut
short, joined files of which it would decode only the first, samples that are not finite, and (as
:class:`~silk_fast.SilkFileError`) writes that fail.
"""

from silk_fast.audio.formats import FORMATS, SUFFIXES
from silk_fast.audio.reader import AudioReader, load
from silk_fast.audio.resampling import resample_blocks, resampled_length
from silk_fast.audio.writer import AudioWriter, save

__all__ = ["FORMATS", "SUFFIXES", "AudioReader", "AudioWriter", "load", "resample_blocks", "resampled_length", "save"]
