"""Which files each command takes for images: of folders, patterns, links and lists, and what it says of the rest."""

import os
import shutil
from pathlib import Path

import pytest
from commands import QUICK, assert_refused, run

from genseg.cli.files import split_inputs
from genseg.images.files import SUFFIXES
from genseg.runs.plan import items_of


def taken(*arguments: object) -> list[str]:
    """Names of the images that arguments of a command stand for."""
    return [path.name for path in split_inputs(map(str, arguments))[0]]


def planned(given: Path) -> list[str]:
    """Keys of the images that the input of a run stands for."""
    return [key for key, _ in items_of(str(given))]


@pytest.fixture
def tree(tmp_path) -> Path:
    for name in ("1.png", "a/2.png", "a/b/3.png", "c/4.JPG", "c/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_every_suffix_is_taken_from_a_folder(tmp_path):
    for suffix in SUFFIXES:
        (tmp_path / f"x{suffix[1:]}{suffix.upper()}").touch()
    assert len(taken(tmp_path)) == len(planned(tmp_path)) == len(SUFFIXES)
    assert {".heic", ".jfif", ".jp2", ".jpe", ".mpo", ".pbm", ".pnm", ".tga"} <= set(SUFFIXES)


def test_two_stars_reach_every_folder(tree):
    assert taken(tree / "**" / "*.png") == ["1.png", "2.png", "3.png"]
    with pytest.warns(UserWarning, match=r"1 file was skipped.*notes\.txt"):
        assert sorted(taken(tree / "**")) == ["1.png", "2.png", "3.png", "4.JPG"]
    with pytest.warns(UserWarning, match=r"1 file was skipped.*notes\.txt"):
        assert sorted(planned(tree / "**")) == ["1.png", "a/2.png", "a/b/3.png", "c/4.JPG"]


def test_links_of_several_names_to_one_file_are_several_images(tmp_path):
    (tmp_path / "annex").mkdir()
    (tmp_path / "annex" / "object").touch()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).symlink_to("annex/object")
    (tmp_path / "broken.jpg").symlink_to("annex/gone")
    assert taken(tmp_path, tmp_path / "a.jpg", tmp_path / "annex" / ".." / "b.jpg") == ["a.jpg", "b.jpg", "broken.jpg"]
    assert planned(tmp_path / "*.jpg") == ["a.jpg", "b.jpg", "broken.jpg"]


def test_files_that_genseg_wrote_are_no_images_and_others_called_so_are(tmp_path):
    for name in ("a.png", "a.labels.png", "a.overlay.png", "a.labels.labels.png", "cat.image.png", "dog.labels.png"):
        (tmp_path / name).touch()
    (tmp_path / "a.npz").touch()
    images = ["a.png", "cat.image.png", "dog.labels.png"]
    for given in (tmp_path, tmp_path / "*.png"):
        with pytest.warns(UserWarning, match="[34] files were skipped"):
            assert taken(given) == images
        with pytest.warns(UserWarning, match="[34] files were skipped"):
            assert planned(given) == images
    with pytest.warns(UserWarning, match="3 files were skipped"):
        assert taken(*tmp_path.glob("a*.png")) == ["a.png"]


def test_what_generate_wrote_is_segmented_by_its_images(tmp_path):
    for kind in ("image", "labels", "overlay"):
        (tmp_path / f"000007.{kind}.png").touch()
    with pytest.warns(UserWarning, match="2 files were skipped"):
        assert taken(tmp_path) == ["000007.image.png"]


def test_what_is_left_out_is_said_once_on_standard_error(segmented_folder, photo_folder):
    _, out = segmented_folder
    result = run("segment", photo_folder, f"{photo_folder}/*.txt", photo_folder / "b.png", "-o", out)
    assert_refused(result, "*.txt matches no image; check the pattern")
    result = run("segment", photo_folder, photo_folder / "b.png", "-o", out)
    assert result.stderr.count("skipped") == 1


def test_a_home_folder_is_found_after_an_equals_sign(segmented_folder, photo_folder, monkeypatch):
    _, out = segmented_folder
    monkeypatch.setenv("HOME", str(out.parent))
    assert run("segment", photo_folder / "b.png", "--out=~/out").stdout.count("skipped") == 1


@pytest.mark.parametrize("stem", ["x" * 235, "猫" * 80, "x" * 250], ids=["235 letters", "80 Chinese", "250 letters"])
def test_long_names_are_written_or_are_the_error_of_their_image(stem, photo, tmp_path):
    photo.save(tmp_path / "ok.png")
    shutil.copy(tmp_path / "ok.png", tmp_path / f"{stem}.png")
    result = run("segment", tmp_path, *QUICK, "-k", "4", "-o", tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    if len(stem) == 250:
        assert result.exit_code == 1
        assert "is too long for a file; rename the image" in result.stderr
        assert names == {"ok.labels.png", "ok.overlay.png"}
    else:
        assert result.exit_code == 0, result.stderr
        assert names == {"ok.labels.png", "ok.overlay.png", f"{stem}.labels.png", f"{stem}.overlay.png"}


def test_a_folder_whose_name_is_too_long_is_refused_at_the_start(photo_folder):
    result = run("segment", photo_folder / "b.png", "-o", f"new/{'x' * 300}", "--model", "missing")
    assert_refused(result, "a name in it is too long; choose another --out")


def test_a_name_that_is_not_utf8_is_planned_and_read(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)  # noqa: PTH102
    with open(folder + b"/\xff%20.png", "wb") as file:  # noqa: PTH123
        file.write(b"content")
    (item,) = items_of(os.fsdecode(folder))
    assert item[0] == "\\xff%20.png"
    assert item[1].uri.encode().endswith(b"/caf%E9/%FF%2520.png")
    assert item[1].read() == b"content"
