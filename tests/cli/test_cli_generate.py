"""Generated images from the command line, and their segments."""

import labelme_files
from commands import QUICK, assert_refused, run
from PIL import Image


def test_json_of_a_generated_image_leads_to_its_file(tmp_path):
    quick = ["n_clusters=3", "n_init=1", "draws=1", "num_inference_steps=2", "t_m=501"]
    result = run("generate", "", *quick, "-n", "1", "--seed", "7", "-o", tmp_path, "--save", "image,labelme")
    assert result.exit_code == 0, result.output
    content, _ = labelme_files.read(tmp_path / "000007.json")
    assert content["imagePath"] == "000007.image.png"


def test_generated_images_are_written_with_their_segments(tmp_path):
    quick = ["n_clusters=3", "n_init=1", "draws=1", "num_inference_steps=2", "t_m=501"]
    result = run("generate", "", *quick, "-n", "2", "--seed", "7", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    names = {f"00000{seed}.{kind}.png" for seed in (7, 8) for kind in ("image", "overlay", "labels")}
    assert {file.name for file in tmp_path.iterdir()} == names
    assert Image.open(tmp_path / "000007.image.png").size == (128, 128)
    (tmp_path / "000008.image.png").unlink()
    again = run("generate", "", *quick, "-n", "2", "--seed", "7", "-o", tmp_path)
    assert again.exit_code == 1
    assert "seed 7: skipped" in again.output
    assert f"seed 8: {tmp_path}/000008.overlay.png exists and 000008.image.png does not" in again.stderr


def test_files_that_cannot_be_written_are_one_generated_images_error(tmp_path):
    (tmp_path / "000007.overlay.png").mkdir()
    quick = ["n_clusters=3", "n_init=1", "draws=1", "num_inference_steps=2", "t_m=501", "--overwrite"]
    result = run("generate", "", *quick, "-n", "2", "--seed", "7", "-o", tmp_path, "--save", "overlay")
    assert result.exit_code == 1
    assert result.stderr.startswith("genseg: seed 7: cannot write")
    assert result.stderr.count("\n") == 1
    assert "seed 7: failed" in result.stdout
    assert (tmp_path / "000008.overlay.png").is_file()


def test_an_image_that_cannot_be_segmented_does_not_stop_those_generated_after_it(tmp_path):
    quick = [
        "n_clusters=3",
        "n_init=1",
        "draws=1",
        "num_inference_steps=2",
        "t_m=501",
        "strength=1e-12",
        "modulate=true",
    ]
    result = run("generate", "", *quick, "-n", "2", "-o", tmp_path)
    assert result.exit_code == 1
    assert [line[:15] for line in result.stderr.splitlines()] == ["genseg: seed 0:", "genseg: seed 1:"]


def test_more_steps_than_the_model_has_are_refused(tmp_path):
    """Of 1000 steps one would be at the timestep 1000, which no schedule of 1000 has."""
    options = [option for option in QUICK if not option.startswith("replay")]
    result = run("generate", "", "num_inference_steps=1000", *options, "-o", tmp_path / "out")
    assert_refused(result, "num_inference_steps must be at most 999")


def test_a_prompt_that_cannot_be_is_refused(tmp_path):
    assert_refused(run("generate", "a cat", "-o", tmp_path), "no text encoder", "takes no prompt; leave it out")
    assert_refused(run("generate", "size=64", "-o", tmp_path), 'give "" before size=64')
