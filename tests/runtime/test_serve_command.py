"""``silk serve`` as a process: it tells where it is, ends in good order, and says what is in its way."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest

from tests.cli.support import silk
from tests.support import SILK


@contextmanager
def process(*arguments: object):
    """A server that has begun to serve, and its address."""
    pytest.importorskip("fastapi", reason="no fastapi: pip install 'silk_fast[serve]'")
    command = [str(part) for part in (SILK, "serve", "--port", 0, "--json", "-q", "--threads", 1, *arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            lines = "".join(iter(server.stdout.readline, "}\n")) + "}"
            yield server, json.loads(lines)["url"]
        finally:
            server.kill()


def status(url: str, host: str) -> int:
    request = urllib.request.Request(f"{url}/health", headers={"host": host})
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code


def slowly(number: signal.Signals):
    return pytest.param(number, marks=pytest.mark.slow)


@pytest.mark.parametrize("number", [signal.SIGTERM, slowly(signal.SIGINT), slowly(signal.SIGHUP)])
def test_serve_answers_to_its_names_and_ends_in_good_order(number, model):
    with process("-m", model, "--slots", 2, "--allow-host", "Speech.example") as (server, url):
        assert url.startswith("http://127.0.0.1:")
        assert json.load(urllib.request.urlopen(f"{url}/health"))["slots"] == 2
        assert json.load(urllib.request.urlopen(f"{url}/v1/models"))["data"][0]["id"] == model.name
        assert [status(url, host) for host in ("speech.example", "localhost", "other.example")] == [200, 200, 403]
        with socket.create_connection(url[7:].split(":")):  # that asks for nothing
            server.send_signal(number)
            assert server.wait(15) == 0
        assert server.stderr.read() == ""


def test_serve_a_port_in_use(model, capsys):
    pytest.importorskip("fastapi", reason="no fastapi: pip install 'silk_fast[serve]'")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert silk("serve", "-m", model, "--port", port) == 1
    why = "Address already in use, expected a free one; --port 0 takes any"
    assert capsys.readouterr().err == f"silk: cannot listen at 127.0.0.1 port {port}: {why}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "192.0.2.1"), "cannot listen at 192.0.2.1 port 0"),
        (("--weights", "x"), "--weights is for codecs of other libraries"),
        (("--codec", "dac"), "--codec dac needs --weights"),
        (("--codec", "dac", "-m", "x"), "--model is for Silk"),
        (("--codec", "oobleck", "--weights", "x"), "latents, no tokens"),
        (("-m", "no/such/folder/x"), "no/such/folder/x"),
    ],
)
def test_serve_what_cannot_be_served(arguments, words, capsys):
    pytest.importorskip("fastapi", reason="no fastapi: pip install 'silk_fast[serve]'")
    assert silk("serve", "--port", 0, *arguments) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_serve_without_its_packages_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert silk("serve", "--port", 0) == 1
    assert "pip install 'silk_fast[serve]'" in capsys.readouterr().err
