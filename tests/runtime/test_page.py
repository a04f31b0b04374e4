"""The page in a browser: a microphone that plays a file is recorded, encoded and decoded; both sounds play."""

import io

import numpy as np
import pytest
import soundfile
import torch

from tests.programs import needs
from tests.runtime.browser import browsing
from tests.runtime.serving import serving
from tests.support import speech

pytestmark = needs("chromium")
READY = "document.body.dataset.state === 'ready'"


@pytest.fixture(scope="module")
def encoded() -> list[torch.Tensor]:
    """What the engine was asked to encode."""
    return []


@pytest.fixture(scope="module")
def server(codec, encoded):
    with serving(codec, max_seconds=30.0) as running:
        submit = running.service.engine.submit

        def noted(direction, item, **options):
            if direction == "encode":
                encoded.append(item)
            return submit(direction, item, **options)

        running.service.engine.submit = noted
        yield running
        running.wait_for((0, 0, 0))


@pytest.fixture(scope="module")
def page(server, tmp_path_factory):
    microphone = tmp_path_factory.mktemp("microphone") / "voice.wav"
    soundfile.write(microphone, speech(96_000)[0, 0].numpy(), 24_000)
    with browsing(server.url, f"--use-file-for-fake-audio-capture={microphone}") as page:
        page.wait_for(READY)
        yield page


def shown_tokens(page) -> np.ndarray:
    return np.array(
        [line.split() for line in page.evaluate("document.querySelector('#numbers').textContent").splitlines()], int
    )


def test_page_records_encodes_and_plays(page, encoded, codec):
    page.press("r")
    page.wait_for("document.body.dataset.state === 'recording'")
    page.wait_for("parseFloat(document.querySelector('#status').textContent.split(', ')[1]) >= 1.2")
    page.press("r")
    page.wait_for(f"{READY} && !document.querySelector('#result').hidden")
    assert page.evaluate("document.querySelector('#error').hidden")
    audio = encoded[-1]
    assert audio.shape[1] > 24_000
    assert audio.abs().max() > 0.05, "the microphone was silent"
    assert np.array_equal(shown_tokens(page), codec.encode(audio[None])[0].numpy())
    for name in ("original", "decoded"):
        length = page.evaluate(f"document.querySelector('#{name}').duration")
        assert length == pytest.approx(audio.shape[1] / 24_000, abs=1e-3)
        page.press({"original": "1", "decoded": "2"}[name])
        page.wait_for(f"document.querySelector('#play-{name}').getAttribute('aria-pressed') === 'true'")
        start = page.evaluate(f"document.querySelector('#{name}').currentTime")
        page.wait_for(f"document.querySelector('#{name}').currentTime > {start + 0.1}")
    assert page.evaluate("document.querySelector('#original').paused"), "both play at once"
    page.press("2")


PIXELS = """(id) => {
  const canvas = document.querySelector(`#${id} canvas`);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(Array.from({ length: data.length / 4 }, (_, i) => data[4 * i] + 256 * data[4 * i + 1])).size;
}"""


def test_page_reads_what_the_server_and_the_browser_read(page, encoded, codec, tmp_path):
    path = tmp_path / "short.flac"
    soundfile.write(path, speech(30_000)[0, 0].numpy(), 24_000)
    n_before = len(encoded)
    page.choose(path)
    page.wait_for(f"{READY} && document.querySelector('#about-original').textContent.includes('short.flac')")
    assert len(encoded) == n_before + 1
    samples, _ = soundfile.read(path, dtype="float32")
    assert np.array_equal(shown_tokens(page), codec.encode(torch.from_numpy(samples)[None, None])[0].numpy())
    for picture in ("seek-original", "seek-tokens", "seek-decoded"):
        assert page.evaluate(f"({PIXELS})({picture!r})") > 20, f"{picture} is empty"
    page.evaluate("document.querySelector('#seek-decoded').focus()")
    page.press("ArrowRight")
    assert page.evaluate("document.querySelector('#decoded').currentTime") == pytest.approx(0.4, abs=0.01)


def test_page_says_in_words_what_is_wrong(page, tmp_path):
    def said(content: bytes) -> str:
        path = tmp_path / f"{len(content)}.wav"
        path.write_bytes(content)
        page.evaluate("document.querySelector('#error').hidden = true")
        page.choose(path)
        page.wait_for(f"{READY} && !document.querySelector('#error').hidden")
        return page.evaluate("document.querySelector('#error').textContent")

    assert said(b"dear diary, " * 50).startswith("The server refused it: body: not audio that libsndfile reads")
    assert "is empty" in said(b"")
    long = io.BytesIO()
    soundfile.write(long, np.zeros(24_000 * 31, np.int16), 24_000, format="WAV")
    assert "longer than 30 s" in said(long.getvalue())
    page.evaluate("navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'))")
    page.press("r")
    page.wait_for("document.querySelector('#error').textContent.includes('Allow it beside the address')")


def test_page_fits_a_telephone(page):
    page.call("Emulation.setDeviceMetricsOverride", width=320, height=640, deviceScaleFactor=2, mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.call("Emulation.clearDeviceMetricsOverride")


def test_page_every_control_has_a_name_and_is_reached_by_the_keyboard(page):
    nameless = """Array.from(document.querySelectorAll("button, a, [tabindex]"))
      .filter((e) => e.offsetParent)
      .filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label")) || e.tabIndex < 0).length"""
    assert page.evaluate(nameless) == 0


def test_page_asks_its_server_alone_and_keeps_to_its_policy(page, server):
    page.evaluate("0")
    assert len(page.requested()) > 8
    others = [url for url in page.requested() if not url.startswith((server.url, f"blob:{server.url}", "data:"))]
    assert others == []
    assert [text for text in page.complaints() if "Content Security Policy" in text or "Uncaught" in text] == []
