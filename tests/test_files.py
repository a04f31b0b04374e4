"""Atomic files: devices, permissions, links."""

import os

import pytest

from silk_fast.errors import SilkFileError
from silk_fast.files import atomic_file


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
