"""Delay compensation, Ogg packets, and the other codecs where their programs are installed."""

import io
import shutil
import stat

import numpy as np
import pytest

from silk_fast import SilkAudioError
from silk_fast.audio import load
from silk_fast.evaluation.anchors import ANCHORS, Anchor, aligned, measure_delay, run_anchor
from silk_fast.evaluation.scores import estoi, resample
from silk_fast.ogg import packet_sizes
from tests.programs import needs
from tests.support import VOICES

SPEECH = load(VOICES)[:120_000]


@pytest.mark.parametrize("delay", [-240, 0, 24, 480, 1992])
def test_a_known_delay_is_measured_and_taken_back(delay):
    late = aligned(SPEECH, -delay, len(SPEECH))
    noise = np.random.default_rng(0).standard_normal(len(late)).astype(np.float32)
    found = measure_delay([(SPEECH, late + 0.005 * noise)])
    assert found == delay
    inside = slice(2000, -2000)
    np.testing.assert_array_equal(aligned(late, found, len(SPEECH))[inside], SPEECH[inside])


def test_delay_is_measured_where_phases_are_not_kept():
    spectrum = np.fft.rfft(SPEECH)
    turned = np.fft.irfft(spectrum * np.exp(1j * np.pi / 2)).astype(np.float32)
    assert measure_delay([(SPEECH, aligned(turned, -480, len(SPEECH)))]) == 480


def test_aligned_is_as_long_as_asked():
    ramp = np.arange(1, 6, dtype=np.float32)
    assert aligned(ramp, 2, 4).tolist() == [3, 4, 5, 0]
    assert aligned(ramp, -2, 4).tolist() == [0, 0, 1, 2]
    assert aligned(ramp, 9, 2).tolist() == [0, 0]


def ogg_page(lacing: bytes) -> bytes:
    return b"OggS" + bytes(22) + bytes([len(lacing)]) + lacing + bytes(sum(lacing))


def test_ogg_packets_may_span_segments_and_pages():
    pages = ogg_page(bytes([19])) + ogg_page(bytes([255, 10, 7])) + ogg_page(bytes([255])) + ogg_page(bytes([255, 0]))
    assert packet_sizes(io.BytesIO(pages)) == [19, 265, 7, 510]


@pytest.mark.parametrize(
    "anchor", [pytest.param(anchor, marks=needs(*anchor.programs), id=anchor.name) for anchor in ANCHORS]
)
def test_anchor_codes_speech_at_its_rate_and_aligned(anchor: Anchor):
    delay = measure_delay([(SPEECH, run_anchor(anchor, SPEECH).samples)])
    coded = run_anchor(anchor, SPEECH, delay)
    nominal = {"Codec2 1200": 1200, "Codec2 2400": 2400, "Codec2 3200": 3200, "Opus 6 kbit/s": 6000}[anchor.name]
    assert coded.bits_per_second == pytest.approx(nominal, rel=0.15 if nominal == 6000 else 0.02)
    assert coded.samples.shape == SPEECH.shape
    assert coded.samples.dtype == np.float32
    intelligible = [estoi(*(resample(s, 24_000, 16_000) for s in (SPEECH, s))) for s in _shifted(coded.samples)]
    assert intelligible[1] == max(intelligible) > 0.6


def _shifted(samples: np.ndarray) -> list[np.ndarray]:
    return [aligned(samples, shift, len(samples)) for shift in (-360, 0, 360)]


def test_an_absent_program_is_named_with_its_package():
    anchor = Anchor("X", ("c2enc", "surely-not-there"), "codec2", ANCHORS[0].code)
    missing = "surely-not-there" if shutil.which("c2enc") else "c2enc and surely-not-there"
    assert anchor.absence == f"absent: no {missing}; apt-get install codec2"


def test_a_program_that_fails_is_reported(tmp_path, monkeypatch):
    program = tmp_path / "c2enc"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho unknown mode >&2\nexit 3\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SilkAudioError, match="c2enc 1200 - - failed, expected it to code the clip: unknown mode"):
        run_anchor(ANCHORS[0], SPEECH[:24_000])
