"""The engines that speak: which are installed, and text to speech with each."""

import shutil
import subprocess
from collections.abc import Callable

import numpy as np

from silk_fast.audio import resample_blocks
from silk_fast.corpus import RATE
from silk_fast.corpus.plan import ClipPlan
from silk_fast.corpus.text import in_charset
from silk_fast.corpus.voices import FESTIVAL_VOICES, HELDOUT_VARIANTS, PACKAGES, TRAIN_VARIANTS
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.programs import run_program


def find_engines(notice: Callable[[str], None] | None = None) -> dict[str, str]:
    """Find the version of each engine that is installed, by name.

    Args:
        notice: called with one line of text where Flite, or Festival or a voice of it, is missing.

    Raises:
        SilkInputError: eSpeak NG is missing, or lacks a variant that a corpus uses.
    """
    check_espeak()
    listed = run_program(["espeak-ng", "--voices=variant"]).decode()
    there = {line.split("!v/")[1].split()[0] for line in listed.splitlines() if "!v/" in line}
    if missing := sorted({*TRAIN_VARIANTS, *HELDOUT_VARIANTS} - there):
        raise SilkInputError(
            f"espeak-ng has no variants {' '.join(missing)}, expected those of version 1.51 or later: "
            "install Debian's espeak-ng-data"
        )
    engines = {"espeak-ng": run_program(["espeak-ng", "--version"]).decode().split(" Data at")[0].strip()}
    if shutil.which("flite"):
        version = subprocess.run(["flite", "--version"], capture_output=True, check=False).stdout.decode()
        engines["flite"] = version.split("version:")[-1].split("(")[0].strip()
    elif notice:
        notice(f"the program flite is missing (Debian's {PACKAGES['flite']}): it does not speak")
    if not (lacking := lacking_of_festival()):
        version = run_program(["festival", "--version"]).decode()
        engines["festival"] = version.split("System:")[-1].split(":")[0].strip()
    elif notice:
        notice(f"{lacking} missing (Debian's {PACKAGES['festival']}): Festival does not speak")
    return engines


def check_espeak() -> None:
    """Check that eSpeak NG is installed.

    Raises:
        SilkInputError: it is missing; the message says which package has it.
    """
    if shutil.which("espeak-ng") is None:
        package = PACKAGES["espeak-ng"]
        raise SilkInputError(f"the program espeak-ng is missing, expected it on the path: install Debian's {package}")


def lacking_of_festival() -> str:
    """Say what of Festival is not there, in words with their verb; empty if nothing."""
    if not (shutil.which("festival") and shutil.which("text2wave")):
        return "the program festival is"
    listed = run_program(["festival", "-b", "(print (voice.list))"]).decode().strip("() \n").split()
    missing = [voice for voice in FESTIVAL_VOICES if voice not in listed]
    return f"of Festival the voices {' '.join(missing)} are" if missing else ""


def speak(plan: ClipPlan, text: str) -> np.ndarray:
    """Speak a text as planned: float32 ``[T]`` at 24 kHz, dry.

    Raises:
        SilkAudioError: the engine fails, or gives something else than 16-bit speech.
    """
    if plan.engine == "flite":
        return speak_with_flite(text, plan.voice, plan.speed, plan.pitch)
    if plan.engine == "festival":
        return speak_with_festival(text, plan.voice, plan.speed, plan.pitch)
    return speak_with_espeak(text, f"{plan.dialect}+{plan.voice}", plan.speed, plan.pitch, plan.gap)


def speak_with_espeak(text: str, voice: str, speed: float, pitch: int, gap: int = 0) -> np.ndarray:
    """Speak a text with eSpeak NG: float32 ``[T]`` at 24 kHz.

    Args:
        text: in the voice's language.
        voice: such as ``"en-us+m3"``, with a variant.
        speed: words per minute.
        pitch: 0 to 99.
        gap: pause between words, in steps of 10 ms at the default speed.

    Raises:
        SilkAudioError: there is no such voice, or no sound.
    """
    command = ["espeak-ng", "-b", "1", "-v", voice, "-s", str(speed), "-p", str(pitch), "-g", str(gap)]
    return _speech(run_program([*command, "--stdout", text]), f"espeak-ng: voice {voice}", text)


def speak_with_flite(text: str, voice: str, stretch: float, pitch: int) -> np.ndarray:
    """Speak an English text with Flite: float32 ``[T]`` at 24 kHz.

    Args:
        text: what to say.
        voice: such as ``"slt"``.
        stretch: factor of durations.
        pitch: mean, Hz.

    Raises:
        SilkAudioError: there is no such voice, or no sound.
    """
    manner = ["--setf", f"duration_stretch={stretch}", "--setf", f"int_f0_target_mean={pitch}"]
    wav = run_program(["flite", "-voice", voice, *manner, "-t", text, "-o", "/dev/stdout"])
    return _speech(wav, f"flite: voice {voice}", text)


def speak_with_festival(text: str, voice: str, stretch: float, percent: int) -> np.ndarray:
    """Speak a text with Festival: float32 ``[T]`` at 24 kHz.

    Args:
        text: letters that the voice's charset lacks lose their accents.
        voice: of :data:`FESTIVAL_VOICES`.
        stretch: factor of durations.
        percent: speed at which it is played, formants and all: another speaker, of another size.

    Raises:
        SilkAudioError: there is no such voice, or no sound.
    """
    manner = ["-eval", f"(voice_{voice})", "-eval", f"(Parameter.set 'Duration_Stretch {stretch})"]
    wav = run_program(["text2wave", "-o", "/dev/stdout", *manner], in_charset(text, FESTIVAL_VOICES[voice][1]))
    return _speech(wav, f"festival: voice {voice}", text, percent)


def _speech(wav: bytes, speaker: str, text: str, percent: int = 100) -> np.ndarray:
    """Read float32 ``[T]`` at 24 kHz from a WAV file, played at a percentage of its speed."""
    if wav[:4] != b"RIFF" or wav[36:40] != b"data":
        raise SilkAudioError(f"{speaker}: its output starts with {wav[:4]!r}, expected a WAV file of 16-bit samples")
    samples = np.frombuffer(wav, "<i2", offset=44, count=(len(wav) - 44) // 2).astype(np.float32) / 32768
    if not np.any(samples):
        raise SilkAudioError(f"{speaker} is silent for {text!r}, expected speech")
    rate = int.from_bytes(wav[24:28], "little") * percent // 100
    return np.concatenate(list(resample_blocks([samples], rate, RATE)))
