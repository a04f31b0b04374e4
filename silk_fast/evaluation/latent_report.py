"""``docs/latent.md`` from the latent studies: what was expected, what was measured, and sentences that follow."""

import math
from dataclasses import dataclass

import numpy as np

from silk_fast.evaluation.clips import GROUPS
from silk_fast.evaluation.evaluate import SILK, Evaluation
from silk_fast.evaluation.latent import (
    GAINS_DB,
    NEIGHBOURS,
    PITCH_VOICES,
    PITCHES,
    REFERENCE_PITCH,
    SENTENCES,
    SPEECH_LEVEL_DB,
    STAGES,
    VOICES,
    PitchStudy,
    Purity,
    TimbreStudy,
    VolumeStudy,
)
from silk_fast.evaluation.report import Setting, cell, language_table
from silk_fast.evaluation.scores import METRICS, Mean, gap_of, mean_of
from silk_fast.markdown import bullets, fixed, table

SEEN, UNSEEN = "validation", "heldout-language"


@dataclass(frozen=True)
class Studies:
    """All that the page needs."""

    volume: VolumeStudy
    pitch: PitchStudy
    timbre: TimbreStudy


def latent_page(evaluation: Evaluation, studies: Studies, setting: Setting, pictures: dict[str, str]) -> str:
    """Write the whole page; ``pictures`` has a path for ``volume``, ``pitch`` and ``timbre``."""
    facts = {name: setting.facts[name] for name in ("model", "weights, SHA-256", "training", "corpus")}
    return "\n".join(
        [
            "# What the latent space means\n",
            "Made by `silk eval --latent`, tables and sentences alike; not to be edited. The idea behind Silk is that\n"
            "a latent space learned by prediction orders speech by itself: volume as magnitude, pitch as direction,\n"
            "timbre as neighbourhood. Here is what this model does; the line on training says whether prediction,\n"
            "stage 1, had a part in it.\n",
            bullets(facts),
            _volume_section(studies.volume, pictures["volume"]),
            _pitch_section(studies.pitch, pictures["pitch"]),
            _timbre_section(studies.timbre, pictures["timbre"]),
            _language_section(evaluation),
        ]
    )


# ---------------------------------------------------------------- volume


def _volume_section(study: VolumeStudy, picture: str) -> str:
    rows = []
    for stage in STAGES:
        values = study.correlations(stage)
        low, high = np.quantile(values, (0.1, 0.9))
        rows.append(
            [stage, cell(mean_of(values), 2), f"{low:.2f} to {high:.2f}", f"{100 * study.growth(stage) - 100:+.1f} %"]
        )
    head = [
        "where",
        "correlation, mean",
        "10th to 90th percentile",
        f"magnitude from {GAINS_DB[0]} to {GAINS_DB[-1]} dB",
    ]
    return f"""## Is volume magnitude?

{len(study.turned)} clips of held-out voices, set to an rms level of {SPEECH_LEVEL_DB:g} dB and then scaled by
{", ".join(map(str, GAINS_DB))} dB. Magnitude is the Euclidean norm of a frame's latent, averaged over the frames that
hold speech. The correlation is that of gain in dB and magnitude, per clip. The last layer of the encoder's Conformer is
a LayerNorm, which holds the magnitude of its output nearly still, whatever the gain; so the encoder's convolutions
before it are shown too.

{table(head, rows)}
{volume_sentence(study)}

![volume]({picture})
"""


def volume_sentence(study: VolumeStudy) -> str:
    """Say what the volume study shows."""
    stage = STAGES[1]
    correlation, growth = float(study.correlations(stage).mean()), study.growth(stage)
    factor = 10 ** ((GAINS_DB[-1] - GAINS_DB[0]) / 20)
    size = f"the magnitude changes by {100 * abs(growth - 1):.1f} % while the amplitude grows {factor:.0f}-fold"
    if abs(correlation) < 0.5:
        text = f"Volume is not magnitude before standardisation: the correlation is {correlation:.2f}, and {size}."
    else:
        way = "rises" if correlation > 0 else "falls"
        strength = "closely" if abs(correlation) >= 0.9 else "loosely"
        text = f"Before standardisation the magnitude {way} {strength} with the gain ({correlation:.2f}), but {size}."
        if growth >= 1.5 or growth <= 1 / 1.5:
            text = text.replace(", but ", ": ")
    return f"{text} {_turn_sentence(study)}"


def _turn_sentence(study: VolumeStudy) -> str:
    turned = float(study.turned[:, 0].mean())
    share = turned / study.unrelated
    if share >= 0.9:
        effect = "moves the direction as much as other words do"
    elif share >= 0.3:
        effect = "is partly in the direction"
    else:
        effect = "leaves the direction nearly alone"
    return (
        f"The direction, standardised, turns by {turned:.0f} degrees from 0 to {GAINS_DB[0]} dB, {100 * share:.0f} % "
        f"of the {study.unrelated:.0f} degrees between frames of different clips: gain {effect}."
    )


# ---------------------------------------------------------------- pitch


def _pitch_section(study: PitchStudy, picture: str) -> str:
    rows = [
        [f"same text and voice, pitch {pitch}", cell(mean_of(study.turned[:, i]), 1)]
        for i, pitch in enumerate(PITCHES)
        if pitch != REFERENCE_PITCH
    ]
    rows.append(["other text, same voice and pitch", cell(mean_of(study.unrelated), 1)])
    return f"""## Is pitch direction?

{len(SENTENCES)} English sentences, spoken by espeak-ng with the held-out voices {" and ".join(PITCH_VOICES)} at pitches
{", ".join(map(str, PITCHES))} (of 0 to 99), all at one level. An utterance is the mean of its standardised latents; the
angle is to the same utterance at pitch {REFERENCE_PITCH}. The null is the angle between different sentences.

{table(["against", "degrees"], rows)}
{pitch_sentence(study)}

![pitch]({picture})
"""


def pitch_sentence(study: PitchStudy) -> str:
    """Say what the pitch study shows."""
    ends = float(study.turned[:, [0, -1]].mean())
    null = float(study.unrelated.mean())
    share = ends / null
    turned = "more than" if share > 1.1 else "about as much as" if share > 0.9 else "less than"
    one_way = study.direction > study.direction_chance
    way = (
        "so pitch has a direction of its own, shared by texts and voices to that degree"
        if one_way
        else "so no direction of pitch is shared by texts and voices"
    )
    return (
        f"The highest and the lowest pitch turn an utterance by {ends:.0f} degrees, {turned} another text does "
        f"({null:.0f}). The ways from the lowest to the highest pitch of different utterances have a mean cosine of "
        f"{study.direction:.2f} with each other; chance stays below {study.direction_chance:.2f}, {way}."
    )


# ---------------------------------------------------------------- timbre


def _timbre_section(study: TimbreStudy, picture: str) -> str:
    rows = [
        ["same voice, among other texts", *_purity_cells(study.by_voice)],
        ["same text, among other voices", *_purity_cells(study.by_text)],
    ]
    return f"""## Is timbre neighbourhood?

The same {len(SENTENCES)} sentences by the {len(VOICES)} voices that `silk train corpus` holds out of training
({", ".join(VOICES)}), at one pitch setting and level. Purity is the share of an utterance's {NEIGHBOURS} nearest
neighbours, by angle of mean standardised latents, that have its voice; utterances of the same text, itself among them,
do not count as neighbours, so that a voice cannot be found by its words. The second row asks the same of texts. The
voices of espeak-ng differ in formants, and some in pitch and breath as well.

{table(["neighbours with", "purity", "chance", "97.5 % of permutations below"], rows)}
{timbre_sentence(study)}

![timbre]({picture})
"""


def _purity_cells(purity: Purity) -> list[str]:
    return [fixed(value, 3) for value in (purity.value, purity.chance, purity.limit)]


def timbre_sentence(study: TimbreStudy) -> str:
    """Say what the timbre study shows."""
    voice, text = study.by_voice, study.by_text
    if voice.value <= voice.limit:
        return f"Voices are no neighbourhoods: {100 * voice.value:.0f} % where chance gives {100 * voice.chance:.0f} %."
    strength = "clearly" if voice.value >= 0.8 else "partly" if voice.value >= 0.4 else "barely"
    compared = "more than" if voice.value > text.value else "less than"
    found = f"{100 * voice.value:.0f} % where chance gives {100 * voice.chance:.0f} %"
    return (
        f"Voices are {strength} neighbourhoods: {found}. "
        f"Utterances gather by voice {compared} by text ({100 * text.value:.0f} %)."
    )


# ---------------------------------------------------------------- languages


def _language_section(evaluation: Evaluation) -> str:
    text = f"""## How are languages served that training has not heard?

Scores of the evaluation per language. "{GROUPS[SEEN]}" and "{GROUPS[UNSEEN]}" are both
by voices of the training split; the languages of the second are not in it. Some languages are harder to code than
others, so the gap of codecs that were not trained on either shows what the clips alone account for.

{language_table(evaluation)}
"""
    if not evaluation.of(SEEN) or not evaluation.of(UNSEEN):
        return text + "One of the two groups has no clips: nothing can be said.\n"
    systems = [SILK, *evaluation.delays]
    metrics = [metric for metric in METRICS if metric.key in ("estoi", "pesq_wb", "log_mel_db")]
    gaps = {s: [_gap(evaluation, s, m.key) for m in metrics] for s in systems}
    rows = [[system, *(cell(g, m.digits) for g, m in zip(row, metrics, strict=True))] for system, row in gaps.items()]
    head = ["held-out languages less training languages", *(metric.title for metric in metrics)]
    return f"{text}\n{table(head, rows)}\n{language_sentence(gaps[SILK][0], _own_gap(evaluation))}\n"


def _gap(evaluation: Evaluation, system: str, key: str) -> Mean:
    return gap_of(evaluation.values(UNSEEN, system, key), evaluation.values(SEEN, system, key))


def _own_gap(evaluation: Evaluation) -> Mean:
    """Compute the gap in ESTOI of Silk less the mean of the other codecs, clip by clip."""
    excess = []
    for group in (UNSEEN, SEEN):
        silk = np.asarray(evaluation.values(group, SILK, "estoi"))
        others = np.asarray([evaluation.values(group, name, "estoi") for name in evaluation.delays])
        excess.append(silk - others.mean(0) if len(others) else np.full(len(silk), math.nan))
    return gap_of(*excess)


def language_sentence(gap: Mean, own: Mean) -> str:
    """Say what the gaps in ESTOI show.

    Args:
        gap: of Silk.
        own: of Silk less the other codecs; NaN if there was none.
    """
    if math.isnan(gap.value):
        return "ESTOI is not known for two clips or more of each group: nothing can be said."
    size = f"ESTOI of Silk is {abs(gap.value):.3f} {'lower' if gap.value < 0 else 'higher'} on held-out languages"
    text = f"{size}, {_chance(gap)}."
    if math.isnan(own.value):
        return f"{text} No other codec was there to compare with."
    return f"{text} Less the mean of the other codecs on the same clips, it is {cell(own, 3)}, {_chance(own)}."


def _chance(mean: Mean) -> str:
    return "no more than chance" if mean.low <= 0 <= mean.high else "more than chance"
