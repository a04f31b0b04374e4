"""``docs/evaluation.md`` from an :class:`Evaluation`: tables and sentences that follow from the numbers."""

import math
import os
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from silk_fast.evaluation.anchors import ANCHORS
from silk_fast.evaluation.clips import GROUPS, PAUSE_SECONDS, RECORDED
from silk_fast.evaluation.codebook import COLLAPSED_BITS, LEVELS_USED_TARGET, CodebookUse, codebook_use
from silk_fast.evaluation.evaluate import BITS, CLIP_MEAN, CORPUS_MEAN, ORIGINAL, SILK, Evaluation, missing_packages
from silk_fast.evaluation.scores import METRICS, N_RESAMPLES, Mean
from silk_fast.history import TRAINING_FILE, read_history
from silk_fast.markdown import LEFT, UNKNOWN, bullets, fixed, table
from silk_fast.reference.codec import SilkCodec
from silk_fast.reference.pretrained import find_model

ESTOI_TARGET = 0.67
LOG_MEL_TARGET = 0.4
LANGUAGE_METRICS = ("estoi", "pesq_wb", "log_mel_db")
PACKAGES = ("silk_fast", "torch", "numpy", "soxr", "pystoi", "pesq", "praat-parselmouth")
PROGRAMS = ("codec2", "opus-tools", "espeak-ng")


@dataclass(frozen=True)
class Setting:
    """What was evaluated on what, without a word of the machine.

    Args:
        facts: name to value, for the table at the top.
        levels: of the codec's FSQ.
        frame_rate: frames per second.
        bitrate: nominal bits per second.
    """

    facts: dict[str, str]
    levels: int
    frame_rate: float
    bitrate: float


def setting_of(codec: SilkCodec, name: str, sha256: str, corpus: dict[str, Any]) -> Setting:
    """Describe a codec and a corpus.

    Args:
        name: that the codec was loaded by; of a directory only its own name is kept.
        sha256: of its weights.
        corpus: what :func:`silk_fast.evaluation.clips.corpus_facts` gave.
    """
    facts = {
        "model": os.path.basename(os.path.normpath(name)),
        "weights, SHA-256": sha256,
        "parameters": f"{sum(p.numel() for p in codec.parameters()):,}",
        "training": _training_line(name),
        "corpus": ", ".join(
            f"{key} {corpus[key]:.2f}" if isinstance(corpus[key], float) else f"{key} {corpus[key]}"
            for key in ("seed", "hours", "clips", "version")
            if key in corpus
        )
        or "without description",
        "Python packages": ", ".join(f"{package} {_package_version(package)}" for package in PACKAGES),
        "Debian packages": ", ".join(f"{program} {_program_version(program)}" for program in PROGRAMS),
    }
    config = codec.config
    return Setting(facts, config.levels, config.frame_rate, config.bitrate)


def _training_line(name: str) -> str:
    """Say how many steps the model was trained for, as its files tell."""
    runs = read_history(find_model(name))
    if not runs:
        return f"no {TRAINING_FILE}"
    stages = " and ".join(sorted({run["stage"].lower().replace("stage", "stage ") for run in runs}))
    return f"{sum(run['steps'] for run in runs)} steps in {len(runs)} run{'s' * (len(runs) > 1)} of {stages}"


def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _program_version(package: str) -> str:
    try:
        command = ["dpkg-query", "-W", "-f=${Version}", package]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout or "unknown"
    except (OSError, subprocess.SubprocessError):
        return "unknown"


# ---------------------------------------------------------------- cells


def cell(mean: Mean, digits: int) -> str:
    """Write a mean and its interval."""
    text = fixed(mean.value, digits)
    return text if math.isnan(mean.low) else f"{text} [{fixed(mean.low, digits)}, {fixed(mean.high, digits)}]"


def verdict(lead: Mean, digits: int) -> str:
    """Say whether Silk is ahead, and by how much."""
    if not math.isfinite(lead.value):
        return UNKNOWN
    gap = fixed(abs(lead.value), digits)
    if math.isnan(lead.low):
        return f"{'ahead' if lead.value > 0 else 'behind'} by {gap} (one clip)"
    span = f"[{fixed(lead.low, digits)}, {fixed(lead.high, digits)}]"
    if lead.low > 0:
        return f"ahead by {gap} {span}"
    return f"**behind** by {gap} {span}" if lead.high < 0 else f"open, {fixed(lead.value, digits)} {span}"


# ---------------------------------------------------------------- sections


def group_table(evaluation: Evaluation, group: str) -> str:
    """Show all systems on one group."""
    rows = []
    for system in evaluation.systems:
        bits = evaluation.mean(group, system, BITS).value
        means = [(evaluation.mean(group, system, metric.key), metric.digits) for metric in METRICS]
        name = f"**{system}**" if system == SILK else system
        if system in evaluation.absences:
            rows.append([f"{name} ({evaluation.absences[system]})", *[UNKNOWN] * (len(METRICS) + 1)])
        elif any(mean.n for mean, _ in means):
            rows.append([name, fixed(bits, 0), *(cell(mean, digits) for mean, digits in means)])
    return table(["codec", "bit/s", *(metric.title for metric in METRICS)], rows)


def lead_table(evaluation: Evaluation, group: str) -> str:
    """Compare Silk with every anchor that was there, metric by metric."""
    compared = [metric for metric in METRICS if metric.sign]
    rows = [
        [name, *(verdict(evaluation.lead(group, name, metric), metric.digits) for metric in compared)]
        for name in _present(evaluation)
    ]
    return table(["Silk against", *(metric.title for metric in compared)], rows)


def _present(evaluation: Evaluation) -> list[str]:
    return [anchor.name for anchor in ANCHORS if anchor.name in evaluation.delays]


def standing_table(evaluation: Evaluation) -> str:
    """Say for each group and anchor on what Silk is behind, by the means."""
    rows = []
    for group, title in GROUPS.items():
        for name in _present(evaluation) if evaluation.of(group) else ():
            leads = {metric.title: evaluation.lead(group, name, metric).value for metric in METRICS if metric.sign}
            behind = [metric for metric, lead in leads.items() if lead < 0]
            others = [metric for metric, lead in leads.items() if lead >= 0]
            rows.append([title, name, ", ".join(behind) or "nothing", ", ".join(others) or "nothing"])
    return table(["clips", "against", "behind on", "not behind on"], rows, LEFT)


def target_rows(evaluation: Evaluation, use: CodebookUse) -> list[list[str]]:
    """List each target, what was found, and whether it is met."""
    group = "heldout-voice"
    estoi = evaluation.mean(group, SILK, "estoi")
    rows = [_target(f"ESTOI on held-out voices >= {ESTOI_TARGET}", cell(estoi, 3), estoi.value, ESTOI_TARGET)]
    silk = evaluation.mean(group, SILK, "log_mel_db").value
    for system in (CORPUS_MEAN, CLIP_MEAN):
        below = 1 - silk / evaluation.mean(group, system, "log_mel_db").value
        wish = f"log-mel distance on held-out voices >= {LOG_MEL_TARGET:.0%} below: {system.lower()}"
        rows.append(_target(wish, f"{100 * below:.0f} %", below, LOG_MEL_TARGET))
    for anchor in ANCHORS:
        leads = [
            evaluation.lead(name, anchor.name, m).value
            for name in GROUPS
            if evaluation.of(name)
            for m in METRICS
            if m.sign
        ]
        known = [lead for lead in leads if not math.isnan(lead)]
        ahead = sum(lead > 0 for lead in known)
        found = f"on {ahead} of {len(known)}"
        share = ahead / len(known) if known else math.nan
        rows.append(_target(f"ahead of {anchor.name} on every metric of every group", found, share, 1.0))
    used = float(use.share_of_levels.min())
    rows.append(
        _target(
            f">= {LEVELS_USED_TARGET:.0%} of the levels in every dimension",
            f"at least {used:.0%}",
            used,
            LEVELS_USED_TARGET,
        )
    )
    n_collapsed = len(use.collapsed)
    rows.append(_target("no collapsed dimension", f"{n_collapsed} collapsed", -float(n_collapsed), 0.0))
    return rows


def _target(wish: str, found: str, value: float, limit: float) -> list[str]:
    return [wish, found, "unknown" if math.isnan(value) else ("met" if value >= limit else "**not met**")]


def language_table(evaluation: Evaluation) -> str:
    """Show Silk, and the nearest anchors' ESTOI, per group and language."""
    titles = {metric.key: metric for metric in METRICS}
    anchors = [name for name in ("Codec2 1200", "Opus 6 kbit/s") if name in evaluation.delays]
    head = ["group", "language", "clips", *(f"Silk {titles[key].title}" for key in LANGUAGE_METRICS)]
    rows = []
    for group, title in GROUPS.items():
        for language in sorted({result.clip.language for result in evaluation.of(group)} - {""}):
            means = [(evaluation.mean(group, SILK, key, language), titles[key].digits) for key in LANGUAGE_METRICS]
            others = [evaluation.mean(group, name, "estoi", language) for name in anchors]
            n_clips = str(len(evaluation.of(group, language)))
            row = [cell(mean, digits) for mean, digits in means] + [fixed(mean.value, 3) for mean in others]
            rows.append([title, language, n_clips, *row])
    return table([*head, *(f"{name} ESTOI" for name in anchors)], rows)


def codebook_table(evaluation: Evaluation, setting: Setting) -> str:
    """Show the codebook use of every group and of all clips."""
    groups = {title: evaluation.of(group) for group, title in GROUPS.items() if evaluation.of(group)}
    rows = []
    for title, results in {**groups, "All": evaluation.results}.items():
        use = codebook_use(np.concatenate([r.digits for r in results]), setting.levels, setting.frame_rate)
        rows.append(
            [
                title,
                str(use.n_frames),
                f"{use.entropy.mean():.3f}",
                f"{use.entropy.min():.3f}",
                f"{use.levels_used.min()} of {setting.levels}",
                f"{100 * use.saturation.mean():.1f} %",
                str(len(use.collapsed)),
                f"{use.effective_bits_per_second:.0f} of {setting.bitrate:.0f}",
            ]
        )
    head = [
        "clips",
        "frames",
        "bits, mean",
        "bits, least",
        "levels, least",
        "saturated",
        "collapsed",
        "effective bit/s",
    ]
    return table(head, rows)


def _clip_counts(evaluation: Evaluation) -> str:
    rows: list[list[object]] = []
    for group, title in GROUPS.items():
        results = evaluation.of(group)
        seconds = sum(result.seconds for result in results)
        voices = {result.clip.voice for result in results} - {""}
        languages = sorted({result.clip.language for result in results} - {""})
        rows.append(
            [title, str(len(results)), f"{seconds:.0f}", str(len(voices) or UNKNOWN), " ".join(languages) or UNKNOWN]
        )
    return table(["group", "clips", "seconds", "voices", "languages"], rows)


def overall_use(evaluation: Evaluation, setting: Setting) -> CodebookUse:
    """Count the codebook use over all clips."""
    return codebook_use(np.concatenate([r.digits for r in evaluation.results]), setting.levels, setting.frame_rate)


def evaluation_page(evaluation: Evaluation, setting: Setting, pictures: dict[str, str]) -> str:
    """Write the whole page.

    Args:
        pictures: caption to path beside the page; ``scores`` and ``codebook`` are expected among them.
    """
    use = overall_use(evaluation, setting)
    parts = [
        "# Evaluation\n\nMade by `silk eval`, tables and sentences alike; not to be edited.\n",
        bullets(setting.facts),
        _clip_counts(evaluation),
        "## What was aimed at\n",
        table(["target", "found", ""], target_rows(evaluation, use)),
        "## Where Silk is behind\n\nBy the means; whether a difference is more than chance is in the tables below.\n",
        standing_table(evaluation),
        "## Scores\n\nMeans over clips with bootstrap 95 % intervals. " + _metric_notes() + "\n",
        f"![scores]({pictures['scores']})\n",
    ]
    for group, title in GROUPS.items():
        parts.append(f"### {title}\n")
        if evaluation.of(group):
            parts += [group_table(evaluation, group), lead_table(evaluation, group)]
        else:
            parts.append("No clips.\n")
    parts += [
        "## Languages\n",
        language_table(evaluation),
        "## Codebook\n",
        codebook_table(evaluation, setting),
        f"![codebook]({pictures['codebook']})\n",
        "## Pictures\n",
        *(f"{name}:\n\n![{name}]({path})\n" for name, path in pictures.items() if name not in ("scores", "codebook")),
        _method(evaluation),
    ]
    return "\n".join(parts)


def _metric_notes() -> str:
    absent = [f"{title} (pip install {package})" for package, title in missing_packages().items()]
    return f"Absent: {', '.join(absent)}." if absent else "Level is that of the decoded clip over the original's."


def _method(evaluation: Evaluation) -> str:
    delays = ", ".join(
        f"{name} {samples} samples ({samples / 24:.0f} ms)" for name, samples in evaluation.delays.items()
    )
    joined = [r.clip.name for r in evaluation.of(RECORDED) if len(r.clip.paths) > 1]
    text = f"""## How the figures are computed

- Every codec gets the same clip at 24 kHz and is scored against it. The room, noise and gain of a synthetic clip are
  part of it. Levels are as the codecs give them; nothing is normalised before a score.
- **ESTOI**: `pystoi`, extended, of both signals at 16 kHz. **PESQ-wb**: `pesq`, P.862.2, at 16 kHz. Clips that these
  refuse (too little speech) are left out of that mean.
- **log-mel**: mean absolute difference in dB of 80-band log-mel spectrograms at 24 kHz (window 1024, hop 256, floor
  -100 dB re full scale), over the whole clip, pauses included. Codec2 codes 0-4 kHz: its output is resampled to
  24 kHz, so the upper bands count as lost. **log-mel < 4 kHz** is the same over the bands that end below 4 kHz.
- **SI-SDR**: of the waveforms. A vocoder such as Codec2 does not keep the phases, so it has none to speak of.
- **voiced kept**: of the frames of 10 ms in which Praat finds a pitch of 60 to 400 Hz in the original, the share in
  which it finds one in the decoded clip. **F0 correlation**: of the logarithms of both pitches, where there are both.
- **bit/s**: what was used, without container: Silk 384 bits for each frame begun, so a little over 960 for a clip that
  ends within one; Codec2 the bytes of `c2enc`; Opus the bytes of its packets without headers and Ogg pages, divided by
  the duration. `opusenc --bitrate 6` is its lowest target; the rate is variable, frames have 20 ms.
- **{CORPUS_MEAN}**: no codec. Every frame of every clip is predicted by the mean log-mel spectrum of up to 64 training
  clips. **{CLIP_MEAN}**: by the clip's own mean, which no codec is told: a stricter bound.
- **{ORIGINAL}**: the clip against itself, 16-bit: the best there can be.
- **Delay**: that of Codec2 and Opus is measured once, on up to eight clips, by cross-correlation of mel spectrograms to
  1 ms, and taken back: {delays or "none was there"}. Silk's output is aligned by construction, nothing is shifted.
- **Intervals**: percentiles of {N_RESAMPLES} resamplings of the clips, with a fixed seed; "ahead" and "behind" compare
  clip by clip, and say **behind** or ahead only where the interval leaves 0 out. Clips of one group share voices and
  engines, so the intervals tell of more clips like these, not of all speech.
- **Codebook**: every dimension alone; "effective" is the sum of the entropies times the frame rate, an upper bound of
  what the tokens say. Collapsed is below {COLLAPSED_BITS} bit; saturated are digits at the lowest or highest level.
"""
    if joined:
        how = f"{PAUSE_SECONDS} s of silence between"
        text += f"- **Recordings** too short alone were joined, {how}: {', '.join(joined)}.\n"
    return text
