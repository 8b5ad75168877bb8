"""Folders on the way to a file are private, and made by whoever comes first."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gproxy.config import folders


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="folders have no modes there")
def test_each_that_is_made_is_private_and_the_others_stay_as_they_are(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir(0o755)
    folders.make(there / "a" / "b" / "c")
    assert [mode(there / name) for name in ("", "a", "a/b", "a/b/c")] == [0o755, 0o700, 0o700, 0o700]


def test_one_that_is_there_is_enough(tmp_path: Path) -> None:
    folders.make(tmp_path)
    folders.make(tmp_path / "link" / "..")
    (tmp_path / "other").symlink_to(tmp_path)
    folders.make(tmp_path / "other")
    assert (tmp_path / "other").is_symlink()


def test_what_another_process_makes_at_the_same_moment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of it was there when this process looked."""
    (tmp_path / "a").mkdir()
    real = Path.is_dir
    looks: list[Path] = []

    def is_dir(self: Path) -> bool:
        looks.append(self)
        return len(looks) > 2 and real(self)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    folders.make(tmp_path / "a" / "b")
    monkeypatch.undo()
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("below", ["", "b"])
def test_a_file_in_the_place_of_one_is_an_error(tmp_path: Path, below: str) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(FileExistsError):
        folders.make(tmp_path / "a" / below)
