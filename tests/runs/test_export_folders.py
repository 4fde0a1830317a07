"""An empty folder that is written into: all of an export ends up there, or nothing."""

import errno
import os
from pathlib import Path

import pytest

from genseg import GensegError
from genseg.files import whole_folder


def write_two(path: Path) -> None:
    with whole_folder(path) as folder:
        for name in ("a", "b"):
            (folder / name).touch()


def test_a_folder_that_was_empty_is_so_again_when_an_export_fails(tmp_path, monkeypatch):
    (tmp_path / ".genseg-folder-killed").mkdir()
    rename, moved = Path.rename, []

    def fail_at_the_second(path: Path, target: Path) -> Path:
        moved.append(target)
        if len(moved) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail_at_the_second)
        with pytest.raises(GensegError, match="No space left"):
            write_two(tmp_path)
    assert not list(tmp_path.iterdir())
    write_two(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_another_program_has_written_meanwhile_is_kept(tmp_path):
    def write() -> None:
        with whole_folder(tmp_path) as folder:
            (folder / "mine").touch()
            (tmp_path / "mine").write_text("of another program")

    with pytest.raises(GensegError, match="is there already"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_text() == "of another program"
