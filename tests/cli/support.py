"""The silk command within this process, and what it leaves in a folder."""

from pathlib import Path

from silk_fast.cli import main


def silk(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
