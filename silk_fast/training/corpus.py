"""A corpus of synthetic speech: random sentences in many languages and voices, by eSpeak NG, Flite and Festival.

Clip ``index`` of a corpus is a function of the seed, the index, the languages and the engines alone: neither the number
of processes, nor an interruption, nor a longer corpus changes it. What it holds is drawn in three steps: who speaks
what (:func:`plan_clip`), the sound of the engine, and the room, noise and level that are laid over it.

Splits, so that held-out means held out:

* ``train``: :data:`TRAIN_VARIANTS` and :data:`TRAIN_SPEAKERS` in the training languages;
* ``validation``: the same voices and languages, other clips;
* ``heldout-voice``: voices that are never in ``train``, in the training languages;
* ``heldout-language``: voices of ``train`` in :data:`HELDOUT_LANGUAGES`, which are never in ``train``.

All variants of eSpeak NG share one synthesiser and its phoneme data: a held-out variant has another vocal tract, pitch
and voice source, not other recordings. A held-out speaker of Flite was never heard at all. Festival's voices, each
built from the recordings of one speaker, are in ``train`` and ``validation`` only; so what is held out is the same
with Festival and without it.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import unicodedata
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np

from silk_fast.audio import resample_blocks, save
from silk_fast.errors import SilkAudioError, SilkError, SilkInputError
from silk_fast.files import atomic_file, cannot_write

VERSION = 1  # of what the same settings make
RATE = 24_000  # Hz
SECONDS = (4.0, 15.0)  # a clip's shortest and longest duration
MANIFEST, SUMMARY, JOURNAL = "manifest.jsonl", "corpus.json", "manifest.partial.jsonl"
SPLITS = ("train", "validation", "heldout-voice", "heldout-language")
HELDOUT_LANGUAGES = ("pl", "sv")
WORDS = Path(__file__).resolve().parents[1] / "assets" / "words"

# fmt: off
DIALECTS = {  # language: eSpeak NG's voices for it
    "de": ("de",), "en": ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029"), "es": ("es", "es-419"),
    "fi": ("fi",), "fr": ("fr-fr", "fr-be"), "it": ("it",), "nl": ("nl",), "pl": ("pl",), "pt": ("pt", "pt-br"),
    "sv": ("sv",),
}
TRAIN_VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m7", "f1", "f2", "f3", "f5", "klatt", "klatt2", "klatt4", "adam", "Alex", "Alicia",
    "Andy", "Annie", "Diogo", "Hugo", "Gene", "Jacky", "Lee", "Marco", "Mike", "Storm", "anika", "antonio", "aunty",
    "benjamin", "boris", "croak", "david", "ed", "edward", "grandma", "gustave", "iven", "john", "kaukovalta",
    "marcelo", "max", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph",
    "travis", "whisper", "whisperf", "zac",
)
HELDOUT_VARIANTS = ("m6", "f4", "Andrea", "Denis", "Mario", "belinda", "grandpa", "victor")
# fmt: on
TRAIN_SPEAKERS = ("kal16", "rms", "slt")  # of Flite; English only
HELDOUT_SPEAKERS = ("awb",)
FESTIVAL_VOICES = {  # voice: language and charset of its text, which need not be its own: the speaker is what counts
    "ked_diphone": ("en", "ascii"),
    "suo_fi_lj_diphone": ("fi", "latin-1"),
    "hy_fi_mv_diphone": ("fi", "latin-1"),
    "lp_diphone": ("it", "latin-1"),
    "pc_diphone": ("it", "latin-1"),
    "upc_ca_ona_hts": ("es", "ascii"),
    "czech_dita": ("it", "ascii"),
    "czech_krb": ("it", "ascii"),
    "czech_machac": ("es", "ascii"),
    "czech_ph": ("es", "ascii"),
    "msu_ru_nsh_clunits": ("it", "ascii"),
}
FESTIVAL_PACKAGES = (  # of Debian, which hold them
    "festival festvox-kdlpc16k festvox-suopuhe-lj festvox-suopuhe-mv festvox-italp16k festvox-itapc16k "
    "festvox-ca-ona-hts festvox-czech-dita festvox-czech-krb festvox-czech-machac festvox-czech-ph festvox-ru"
)

LICENCE = (
    "The sound was made by eSpeak NG and, where the manifest says so, Flite or Festival, from words of the lists in "
    "silk_fast (MIT licence) in random order. eSpeak NG is a program under the GNU GPL, version 3 or later; no part of "
    "the program is in this corpus, though some consonants are played from short samples in its data. That licence "
    "covers the output of a program only if the output itself is a work based on the program (its section 2). Flite is "
    "under a permissive, BSD-like licence of Carnegie Mellon University; its voices were built from recordings of "
    "speakers. Festival's voices join pieces of recordings of speakers, or are models of them; the data of the Finnish "
    "ones and of the Catalan one are under the GNU LGPL, of the Italian and Czech ones under the GNU GPL, of the "
    "American and the Russian one under BSD-like licences. These are facts for whoever decides, not legal advice."
)

_CHUNK = 8  # clips per task of a process
_TRIES = 12  # texts per clip, each made longer or shorter than the one before
_FESTIVAL_SHARE = 0.4  # of the clips of voices that are not held out
_FLITE_SHARE = 0.2  # of the other clips of a split that has English
_SLOTS = {39: "validation", 9: "heldout-voice", 29: "heldout-voice", 19: "heldout-language", 34: "heldout-language"}


@dataclass(frozen=True)
class CorpusSettings:
    """What, beside its index, decides a clip.

    ``engines`` gives the version of each engine in use by its name, ``"espeak-ng"`` and possibly ``"flite"`` and
    ``"festival"``.
    """

    seed: int
    languages: tuple[str, ...]
    engines: dict[str, str]

    @property
    def train_languages(self) -> tuple[str, ...]:
        return tuple(language for language in self.languages if language not in HELDOUT_LANGUAGES)

    @property
    def heldout_languages(self) -> tuple[str, ...]:
        return tuple(language for language in self.languages if language in HELDOUT_LANGUAGES)


@dataclass(frozen=True)
class ClipPlan:
    """Who speaks a clip, and how.

    ``speed`` is in words per minute for eSpeak NG and a stretch of durations for the others; ``pitch`` is eSpeak NG's
    0..99, Flite's mean in Hz, or for Festival the percentage of its speed at which the voice is played, formants and
    all; ``gap`` is the pause between words in steps of 10 ms at eSpeak NG's default speed;
    ``target_seconds`` is about what the first text is to last.
    """

    index: int
    split: str
    engine: str
    voice: str
    language: str
    dialect: str
    speed: float
    pitch: int
    gap: int
    target_seconds: float


# ---------------------------------------------------------------- who speaks what


def plan_clip(settings: CorpusSettings, index: int) -> ClipPlan:
    """Draw split, engine, voice and manner of clip ``index``; the split depends on the index alone."""
    random = np.random.default_rng([settings.seed, index, 0])
    split = _SLOTS.get(index % 40, "train")
    if split == "heldout-language" and not settings.heldout_languages:
        split = "train"
    is_heldout_voice = split == "heldout-voice"
    languages = settings.heldout_languages if split == "heldout-language" else settings.train_languages
    readers = [voice for voice, (language, _) in FESTIVAL_VOICES.items() if language in languages]
    has_festival = "festival" in settings.engines and split in ("train", "validation") and readers
    use_festival = has_festival and random.random() < _FESTIVAL_SHARE
    has_flite = "flite" in settings.engines and "en" in languages
    use_flite = not use_festival and has_flite and random.random() < _FLITE_SHARE
    target_seconds = round(random.uniform(3.0, 12.0), 2)
    common = {"index": index, "split": split, "target_seconds": target_seconds}
    if use_festival:
        voice = str(random.choice(readers))
        language = FESTIVAL_VOICES[voice][0]
        return ClipPlan(
            **common,
            engine="festival",
            voice=voice,
            language=language,
            dialect=language,
            speed=round(random.uniform(0.8, 1.3), 2),
            pitch=int(random.integers(85, 119)),
            gap=0,
        )
    if use_flite:
        return ClipPlan(
            **common,
            engine="flite",
            voice=str(random.choice(HELDOUT_SPEAKERS if is_heldout_voice else TRAIN_SPEAKERS)),
            language="en",
            dialect="en",
            speed=round(random.uniform(0.8, 1.3), 2),
            pitch=int(random.integers(80, 251)),
            gap=0,
        )
    language = str(random.choice(languages))
    return ClipPlan(
        **common,
        engine="espeak-ng",
        voice=str(random.choice(HELDOUT_VARIANTS if is_heldout_voice else TRAIN_VARIANTS)),
        language=language,
        dialect=str(random.choice(DIALECTS[language])),
        speed=int(random.integers(120, 241)),
        pitch=int(random.integers(10, 91)),
        gap=int(random.choice([0, 0, 0, 2, 5])),
    )


@lru_cache
def word_list(language: str) -> tuple[str, ...]:
    """The words of a language that sentences are drawn from."""
    return tuple((WORDS / f"{language}.txt").read_text(encoding="utf-8").split())


def _sentence(words: tuple[str, ...], random: np.random.Generator) -> list[str]:
    """3 to 14 words, numbers among them, with a capital, commas and a full stop, question or exclamation mark."""
    drawn = [
        str(random.integers(2000)) if random.random() < 0.06 else str(random.choice(words))
        for _ in range(random.integers(3, 15))
    ]
    drawn[0] = drawn[0][0].upper() + drawn[0][1:]
    drawn[:-1] = [word + "," if random.random() < 0.1 else word for word in drawn[:-1]]
    drawn[-1] += str(random.choice([".", ".", ".", "?", "!"]))
    return drawn


# ---------------------------------------------------------------- the engines


def find_engines(notice: Callable[[str], None] | None = None) -> dict[str, str]:
    """The version of each engine that is installed, by name.

    Args:
        notice: called with one line of text where Flite, or Festival or a voice of it, is missing.

    Raises:
        SilkInputError: eSpeak NG is missing, or lacks a variant that the corpus uses.
    """
    if not shutil.which("espeak-ng"):
        raise SilkInputError("the program espeak-ng is missing, expected it on the path: install Debian's espeak-ng")
    listed = _output(["espeak-ng", "--voices=variant"]).decode()
    there = {line.split("!v/")[1].split()[0] for line in listed.splitlines() if "!v/" in line}
    if missing := sorted({*TRAIN_VARIANTS, *HELDOUT_VARIANTS} - there):
        raise SilkInputError(
            f"espeak-ng has no variants {' '.join(missing)}, expected those of version 1.51 or later: "
            "install Debian's espeak-ng-data"
        )
    engines = {"espeak-ng": _output(["espeak-ng", "--version"]).decode().split(" Data at")[0].strip()}
    if shutil.which("flite"):
        version = subprocess.run(["flite", "--version"], capture_output=True, check=False).stdout.decode()
        engines["flite"] = version.split("version:")[-1].split("(")[0].strip()
    elif notice:
        notice("the program flite is missing (Debian's flite): it does not speak")
    if not (lacking := lacking_of_festival()):
        engines["festival"] = _output(["festival", "--version"]).decode().split("System:")[-1].split(":")[0].strip()
    elif notice:
        notice(f"{lacking} missing (Debian's {FESTIVAL_PACKAGES}): Festival does not speak")
    return engines


def lacking_of_festival() -> str:
    """What of Festival is not there, in words with their verb; empty if nothing."""
    if not (shutil.which("festival") and shutil.which("text2wave")):
        return "the program festival is"
    listed = _output(["festival", "-b", "(print (voice.list))"]).decode().strip("() \n").split()
    missing = [voice for voice in FESTIVAL_VOICES if voice not in listed]
    return f"of Festival the voices {' '.join(missing)} are" if missing else ""


def _output(command: list[str], text: bytes = b"") -> bytes:
    """Standard output of a command that must succeed, and is given a text."""
    try:
        return subprocess.run(command, input=text, capture_output=True, check=True, timeout=120).stdout
    except (subprocess.SubprocessError, OSError) as error:
        raise SilkAudioError(f"{' '.join(command[:3])} failed, expected speech: {error}") from error


def speak(plan: ClipPlan, text: str) -> np.ndarray:
    """Text to float32 ``[n]`` at 24 kHz, dry.

    Raises:
        SilkAudioError: the engine fails or gives something else than 16-bit speech.
    """
    if plan.engine == "flite":
        manner = [f"duration_stretch={plan.speed}", f"int_f0_target_mean={plan.pitch}"]
        command = ["flite", "-voice", plan.voice, "--setf", manner[0], "--setf", manner[1], "-t", text]
        wav = _output([*command, "-o", "/dev/stdout"])
    elif plan.engine == "festival":
        manner = [f"(voice_{plan.voice})", f"(Parameter.set 'Duration_Stretch {plan.speed})"]
        command = ["text2wave", "-o", "/dev/stdout", "-eval", manner[0], "-eval", manner[1]]
        wav = _output(command, _in_charset(text, FESTIVAL_VOICES[plan.voice][1]))
    else:
        command = ["espeak-ng", "-b", "1", "-v", f"{plan.dialect}+{plan.voice}", "-s", str(plan.speed)]
        wav = _output([*command, "-p", str(plan.pitch), "-g", str(plan.gap), "--stdout", text])
    if wav[:4] != b"RIFF" or wav[36:40] != b"data":
        raise SilkAudioError(
            f"{plan.engine}: its output starts with {wav[:4]!r}, expected a WAV file of 16-bit samples"
        )
    samples = np.frombuffer(wav, "<i2", offset=44, count=(len(wav) - 44) // 2).astype(np.float32) / 32768
    if not np.any(samples):
        raise SilkAudioError(f"{plan.engine}: voice {plan.voice} is silent for {text!r}, expected speech")
    rate = int.from_bytes(wav[24:28], "little")
    if plan.engine == "festival":  # another speaker, of another size
        rate = rate * plan.pitch // 100
    return np.concatenate(list(resample_blocks([samples], rate, RATE)))


def _in_charset(text: str, charset: str) -> bytes:
    """A text in a charset; letters that it lacks lose their accents."""
    if charset == "ascii":
        text = unicodedata.normalize("NFKD", text)
    return text.encode(charset, "ignore")


def _speak_to_length(plan: ClipPlan, random: np.random.Generator) -> tuple[str, np.ndarray]:
    """A random text and its speech, which lasts from 4 to 15 s."""
    source = word_list(plan.language)
    # eSpeak NG measures speed in short words.
    words_per_minute = 0.7 * plan.speed if plan.engine == "espeak-ng" else 170 / plan.speed
    words: list[str] = []
    while len(words) < plan.target_seconds * words_per_minute / 60:
        words += _sentence(source, random)
    for _ in range(_TRIES):
        samples = speak(plan, text := " ".join(words))
        seconds = len(samples) / RATE
        if seconds > SECONDS[1] - 0.5:  # half a second is for the lead and the room
            words = words[: max(1, int(len(words) * 0.9 * SECONDS[1] / seconds))]
            words[-1] = words[-1].rstrip(".,?!") + "."
        elif seconds < SECONDS[0]:
            words += _sentence(source, random)
        else:
            return text, samples
    raise SilkAudioError(f"{plan.engine}: {seconds:.1f} s for {text!r}, expected {SECONDS[0]:g} to {SECONDS[1]:g} s")


# ---------------------------------------------------------------- room, noise and level


def room_response(random: np.random.Generator, rt60: float, direct_db: float) -> np.ndarray:
    """Impulse response of a made-up room, float64 ``[n]``: direct sound, early reflections, a decaying tail.

    Args:
        rt60: seconds in which the tail falls by 60 dB.
        direct_db: energy of the direct sound (1.0 at sample 0) above that of all the rest.
    """
    time = np.arange(int(rt60 * RATE)) / RATE
    rest = random.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    rest[: int(0.004 * RATE)] = 0  # nothing returns before 4 ms
    n_early = int(random.integers(6, 13))
    at = random.integers(int(0.004 * RATE), int(0.04 * RATE), n_early)
    rest[at] += random.choice([-1, 1], n_early) * random.uniform(4, 12, n_early)
    rest *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(rest**2))
    rest[0] = 1
    return rest


def convolve(samples: np.ndarray, response: np.ndarray, n_out: int) -> np.ndarray:
    """The first ``n_out`` samples of the convolution of ``[n]`` and ``[m]``, float64."""
    n_fft = -(-(len(samples) + len(response)) // 4096) * 4096
    spectrum = np.fft.rfft(samples, n_fft) * np.fft.rfft(response, n_fft)
    return np.fft.irfft(spectrum, n_fft)[:n_out]


def coloured_noise(random: np.random.Generator, n: int, slope: float) -> np.ndarray:
    """Noise of rms 1, float64 ``[n]``, whose power falls as ``frequency ** -slope`` above 40 Hz."""
    n_fft = -(-n // 4096) * 4096
    frequencies = np.maximum(np.fft.rfftfreq(n_fft, 1 / RATE), 40.0)
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(n_fft)) * frequencies ** (-slope / 2), n_fft)[:n]
    return noise / np.sqrt(np.mean(noise**2))


def augment(speech: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, dict]:
    """Lay a lead-in, possibly a room and noise, and a level over dry speech.

    Args:
        speech: float32 ``[n]`` at 24 kHz.
        random: decides everything.

    Returns:
        float64 ``[m]`` with peak below 1, and what was done: ``lead_seconds``; ``room`` (``rt60_seconds``,
        ``direct_to_reverberant_db``) or None; ``noise`` (``snr_db``, ``slope``) or None; ``level_db``, the rms in dBFS.
    """
    lead = round(random.uniform(0, 0.25), 3)
    samples = np.concatenate([np.zeros(int(lead * RATE)), speech.astype(np.float64)])
    room = noise = None
    if random.random() < 0.4:
        room = {
            "rt60_seconds": round(random.uniform(0.1, 0.6), 3),
            "direct_to_reverberant_db": round(random.uniform(0, 15), 1),
        }
        samples = convolve(samples, room_response(random, *room.values()), len(samples) + int(0.2 * RATE))
    rms = np.sqrt(np.mean(samples**2))
    if random.random() < 0.3:
        noise = {"snr_db": round(random.uniform(25, 45), 1), "slope": round(random.uniform(0, 2), 2)}
        samples = samples + coloured_noise(random, len(samples), noise["slope"]) * rms * 10 ** (-noise["snr_db"] / 20)
    samples *= 10 ** (random.uniform(-35, -12) / 20) / np.sqrt(np.mean(samples**2))
    samples *= min(1.0, 0.98 / np.abs(samples).max())
    level = round(float(10 * np.log10(np.mean(samples**2))), 2)
    return samples, {"lead_seconds": lead, "room": room, "noise": noise, "level_db": level}


# ---------------------------------------------------------------- clips and the corpus


def clip_path(index: int) -> str:
    """Where clip ``index`` lies below the corpus folder."""
    return f"clips/{index // 1000:03d}/{index:06d}.flac"


def make_clip(folder: str | os.PathLike, settings: CorpusSettings, index: int) -> dict:
    """Speak, augment and write clip ``index``; returns its line of the manifest.

    Raises:
        SilkAudioError: an engine fails.
        SilkFileError: the file cannot be written.
    """
    plan = plan_clip(settings, index)
    text, speech = _speak_to_length(plan, np.random.default_rng([settings.seed, index, 1]))
    samples, augmentation = augment(speech, np.random.default_rng([settings.seed, index, 2]))
    path = Path(folder, clip_path(index))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(str(path.parent), error) from error
    save(path, samples, RATE)
    row = {"path": clip_path(index), **asdict(plan), "text": text, "seconds": len(samples) / RATE, **augmentation}
    del row["target_seconds"]
    return {**row, "crc32": zlib.crc32(path.read_bytes())}


def _is_intact(folder: str | os.PathLike, row: dict) -> bool:
    try:
        return zlib.crc32(Path(folder, row["path"]).read_bytes()) == row["crc32"]
    except OSError:
        return False


def _make_chunk(folder: str, settings: CorpusSettings, start: int, known: dict[int, dict]) -> list[dict]:
    """Lines of the manifest for ``_CHUNK`` clips from ``start``; those that are known and intact are not made again."""
    return [
        known[index] if index in known and _is_intact(folder, known[index]) else make_clip(folder, settings, index)
        for index in range(start, start + _CHUNK)
    ]


def _chunks(folder: str, settings: CorpusSettings, known: dict[int, dict], workers: int) -> Iterator[list[dict]]:
    """The chunks in order, without end; ``workers`` processes make them."""

    def task(start: int) -> tuple:
        return folder, settings, start, {i: known[i] for i in range(start, start + _CHUNK) if i in known}

    starts = itertools.count(0, _CHUNK)
    if workers == 1:
        yield from (_make_chunk(*task(start)) for start in starts)
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_obey_parent)
    try:
        pending = deque(pool.submit(_make_chunk, *task(next(starts))) for _ in range(2 * workers))
        while True:
            yield pending.popleft().result()
            pending.append(pool.submit(_make_chunk, *task(next(starts))))
    except BrokenProcessPool as error:
        raise SilkError("a process that makes clips was killed, expected it to finish; run again to go on") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _obey_parent() -> None:
    """In a worker: interrupts are the parent's affair, and a parent that was killed is not outlived."""

    def follow() -> None:
        parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, daemon=True).start()


def read_manifest(path: str | os.PathLike) -> list[dict]:
    """The lines of a manifest, each a clip; the last line may be torn, as an interruption leaves it.

    Raises:
        SilkInputError: another line is not a clip, or the file cannot be read.
    """
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SilkInputError(f"{path}: cannot be read as a manifest: {error}") from error
    for i, line in enumerate(lines):
        try:
            row = json.loads(line)
            rows.append({**row, "path": str(row["path"]), "split": str(row["split"])})
        except (ValueError, KeyError, TypeError) as error:
            if i == len(lines) - 1:
                break
            raise SilkInputError(f"{path}: line {i + 1} is no clip, expected JSON with path and split") from error
    return rows


def make_corpus(
    folder: str | os.PathLike,
    hours: float,
    seed: int = 0,
    workers: int = 1,
    languages: Sequence[str] | None = None,
    progress: Callable[[float, float], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> dict:
    """Make a corpus of synthetic speech, or go on with one that was interrupted or is to be longer.

    Clips are mono 16-bit FLAC at 24 kHz below ``folder/clips``. ``manifest.jsonl`` has one line for each, and appears
    when all are there; until then ``manifest.partial.jsonl`` keeps what is done. ``corpus.json`` describes the whole.
    Clips that are there and whose checksum holds are not made again. A corpus never becomes shorter.

    Args:
        folder: to make or to continue.
        hours: of speech, all splits together; the first clip to reach it is the last.
        seed: decides everything but the duration.
        workers: processes. Where the calling program is a script, its main part needs the usual guard
            ``if __name__ == "__main__":`` for more than one.
        languages: of :data:`DIALECTS`; None for all.
        progress: called with the seconds done and to do.
        notice: called with one line of text.

    Returns:
        What ``corpus.json`` holds.

    Raises:
        SilkInputError: an argument is impossible, eSpeak NG is missing, or the folder holds another corpus.
        SilkAudioError: an engine fails.
        SilkFileError: something cannot be written. Run again to go on.
    """
    languages = _checked(hours, seed, workers, languages)
    settings = CorpusSettings(seed, languages, find_engines(notice))
    folder = os.fspath(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        known = _known_clips(folder, settings)
        rows = _make_rows(folder, settings, known, 3600 * hours, workers, progress)
    except OSError as error:
        raise cannot_write(folder, error) from error
    summary = _summary(settings, rows)
    _write(folder, MANIFEST, "".join(map(_line, rows)))
    _write(folder, SUMMARY, json.dumps(summary, indent=2) + "\n")
    surplus = range(len(rows), len(rows) + _CHUNK * (2 * workers + 1))  # made ahead, in vain
    for path in (*map(clip_path, surplus), JOURNAL):
        Path(folder, path).unlink(missing_ok=True)
    return summary


def _make_rows(
    folder: str,
    settings: CorpusSettings,
    known: dict[int, dict],
    wanted: float,
    workers: int,
    progress: Callable[[float, float], None] | None,
) -> list[dict]:
    """Lines of the manifest for ``wanted`` seconds, and for no fewer clips than are known; keeps the journal."""
    rows, seconds, n_known = [], 0.0, max(known, default=-1) + 1
    _write(folder, JOURNAL, "".join(map(_line, known.values())))
    with (
        open(os.path.join(folder, JOURNAL), "a", encoding="utf-8") as journal,
        closing(_chunks(folder, settings, known, workers)) as chunks,
    ):
        for row in itertools.chain.from_iterable(chunks):
            rows.append(row)
            seconds += row["seconds"]
            if known.get(row["index"]) != row:
                journal.write(_line(row))
                journal.flush()
            if progress:
                progress(min(seconds, wanted), wanted)
            if seconds >= wanted and len(rows) >= n_known:
                return rows


def _checked(hours: float, seed: int, workers: int, languages: Sequence[str] | None) -> tuple[str, ...]:
    """The languages, sorted; raises SilkInputError for an impossible argument."""
    if not 0 < hours < float("inf"):
        raise SilkInputError(f"hours must be finite and > 0, got {hours}")
    if seed < 0 or workers < 1:
        raise SilkInputError(f"seed must be >= 0 and workers >= 1, got {seed} and {workers}")
    chosen = tuple(sorted(set(DIALECTS if languages is None else languages)))
    if unknown := [language for language in chosen if language not in DIALECTS]:
        raise SilkInputError(f"languages {' '.join(unknown)} are unknown, expected some of {' '.join(DIALECTS)}")
    if not set(chosen) - set(HELDOUT_LANGUAGES):
        expected = " ".join(language for language in DIALECTS if language not in HELDOUT_LANGUAGES)
        raise SilkInputError(
            f"languages {' '.join(chosen) or '(none)'} leave none to train on, expected any of {expected}"
        )
    return chosen


def _known_clips(folder: str, settings: CorpusSettings) -> dict[int, dict]:
    """Lines of an earlier run by index; records the settings where there was none.

    Raises:
        SilkInputError: the folder holds a corpus with other settings.
    """
    path = Path(folder, SUMMARY)
    if not path.exists():
        _write(folder, SUMMARY, json.dumps(_summary(settings, []), indent=2) + "\n")
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name, value in _settings_row(settings).items() if found.get(name) != value]
    except (ValueError, AttributeError) as error:
        raise SilkInputError(f"{path}: does not describe a corpus, expected that of an earlier run") from error
    if differing:
        name = differing[0]
        wanted = _settings_row(settings)[name]
        raise SilkInputError(
            f"{folder}: holds a corpus with {name} {found.get(name)}, expected {wanted} or a new folder"
        )
    paths = [Path(folder, name) for name in (MANIFEST, JOURNAL)]
    rows = itertools.chain.from_iterable(read_manifest(path) for path in paths if path.exists())
    return {row["index"]: row for row in rows}


def _settings_row(settings: CorpusSettings) -> dict:
    return {"version": VERSION, **asdict(settings), "languages": list(settings.languages)}


def _summary(settings: CorpusSettings, rows: list[dict]) -> dict:
    """What corpus.json holds; no rows: the corpus is not complete."""
    seconds, voices = Counter(), {split: set() for split in SPLITS}
    for row in rows:
        seconds[row["split"]] += row["seconds"]
        voices[row["split"]].add(f"{row['engine']} {row['voice']}")
    splits = {
        split: {
            "clips": sum(row["split"] == split for row in rows),
            "hours": seconds[split] / 3600,
            "languages": sorted({row["language"] for row in rows if row["split"] == split}),
            "voices": sorted(voices[split]),
        }
        for split in SPLITS
    }
    return {
        **_settings_row(settings),
        "complete": bool(rows),
        "sample_rate": RATE,
        "clips": len(rows),
        "hours": sum(seconds.values()) / 3600,
        "splits": splits,
        "licence": LICENCE,
    }


def _line(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write(folder: str, name: str, text: str) -> None:
    with atomic_file(os.path.join(folder, name)) as file:
        file.write(text.encode())
