"""Atomic files: devices, permissions, links."""

import os

import pytest

from silk_fast.errors import SilkFileError
from silk_fast.files import atomic_file, descriptor_of, is_stream, printable


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_device_gets_a_copy_and_stays_a_device(tmp_path):
    with (
        pytest.raises(SilkFileError, match="/dev/full: cannot be written: No space left"),
        atomic_file("/dev/full") as f,
    ):
        f.write(b"x")
    assert not os.path.isfile("/dev/full")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_open_or_of_the_file_replaced(tmp_path, umask):
    before = os.umask(umask)
    try:
        for name in ("new", "old"):
            with atomic_file(tmp_path / name) as file:
                file.write(b"1")
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o666 & ~umask
        (tmp_path / "old").chmod(0o640)
        with atomic_file(tmp_path / "old") as file:
            file.write(b"2")
    finally:
        os.umask(before)
    assert (tmp_path / "old").read_bytes() == b"2"
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o640


def test_link_is_followed_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_file(tmp_path / "link") as file:
        file.write(b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"1"


def test_descriptors_have_many_names(tmp_path):
    (tmp_path / "folder").symlink_to("/dev/fd")
    (tmp_path / "link").symlink_to("folder/2")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "1").touch()
    for name in ("/dev/stdout", "/dev/fd/1", "/dev/../dev//fd/1", "/proc/self/fd/1", f"/proc/{os.getpid()}/fd/1"):
        assert descriptor_of(name) == 1
        assert is_stream(name)
    assert descriptor_of(tmp_path / "link") == descriptor_of("/dev/stderr") == 2
    for name in (tmp_path / "1", tmp_path / "circle", "/dev/null", "/dev/fd/x", tmp_path, "", "a\0b", "\ud800"):
        assert descriptor_of(name) is None
    assert is_stream("-")
    assert is_stream("/dev/null")
    assert not is_stream(tmp_path / "1")
    assert not is_stream(tmp_path)


def test_nothing_is_written_to_a_descriptor_after_an_exception(tmp_path):
    with open(tmp_path / "log", "w+b") as log:
        log.write(b"earlier")
        log.flush()
        with pytest.raises(ZeroDivisionError), atomic_file(f"/dev/fd/{log.fileno()}") as file:
            file.write(b"half" * (1 // 0))
        with atomic_file(f"/dev/fd/{log.fileno()}") as file:
            file.write(b" later")
    assert (tmp_path / "log").read_bytes() == b"earlier later"
    assert os.listdir(tmp_path) == ["log"]


def test_names_are_shown_as_text_of_one_line():
    assert printable("a $x\n\x1b\udcff é ☃") == "a $x\\n\\x1b\\udcff é ☃"
