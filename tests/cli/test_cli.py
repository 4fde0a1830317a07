"""Segmenting from the command line: what is read, written, refused and said."""

import json
import os
import re
import resource
import signal
import sys
from pathlib import Path

import labelme_files
import numpy as np
import pytest
from commands import QUICK, assert_refused, run
from PIL import Image
from pycocotools.coco import COCO

import genseg
from genseg import Cost, GensegError
from genseg.cli.segment_report import spent


def test_each_image_gets_the_files_asked_for(segmented_folder):
    _, out = segmented_folder
    kinds = ("overlay.png", "labels.png", "npz")
    assert {file.name for file in out.iterdir()} == {f"{name}.{kind}" for name in "ab" for kind in kinds}
    seg = genseg.Segmentation.load(out / "b.npz")
    assert (seg.backend, seg.seed, seg.recipe.n_clusters, seg.recipe.draws) == ("tiny", 3, 4, 1)
    assert np.array_equal(np.asarray(Image.open(out / "b.labels.png")), seg.labels)
    assert np.array_equal(np.asarray(Image.open(out / "b.overlay.png")), np.asarray(seg.overlay()))
    assert seg.labels.shape == (64, 96)


def test_json_of_coco_and_labelme_has_the_masks_and_leads_to_the_image(photo_folder, tmp_path):
    out = tmp_path / "masks"
    command = ("segment", photo_folder / "b.png", *QUICK, "-k", "4", "-o", out, "--save", "coco,labelme,labels")
    result = run(*command, "--json")
    assert result.exit_code == 0, result.stderr
    files = json.loads(result.stdout)["files"]
    assert files == {"coco": f"{out}/b.coco.json", "labelme": f"{out}/b.json", "labels": f"{out}/b.labels.png"}
    labels = np.asarray(Image.open(files["labels"]))
    coco = COCO(files["coco"])
    assert coco.imgs[1]["file_name"] == "b.png"
    content, image = labelme_files.read(out / "b.json")
    assert not Path(content["imagePath"]).is_absolute()
    assert np.array_equal(image, np.asarray(Image.open(photo_folder / "b.png")))
    found = labelme_files.instances(content)
    assert found.keys() == {("segment", label) for label in np.unique(labels).tolist()}
    for (_, label), mask in found.items():
        assert np.array_equal(mask, labels == label)
        assert np.array_equal(coco.annToMask(coco.anns[1 + label]), mask)
    assert "skipped" in run(*command, "--model", "missing").stdout


def test_plain_lines_in_order_then_the_cost_and_the_place(segmented_folder, photo_folder):
    result, out = segmented_folder
    first, second, cost, place = result.stdout.splitlines()
    assert re.fullmatch(rf"{re.escape(str(photo_folder / 'a.JPG'))}: [1-4] segments, \d+\.\d s", first)
    assert second.startswith(str(photo_folder / "b.png"))
    assert re.fullmatch(r"cost per image: \d+\.\d s( \((\w+ \d+\.\d(, )?)+\))?, 1 model evaluations", cost)
    assert place == f"files in {out}: NAME.npz, NAME.overlay.png, NAME.labels.png"
    skipped = "3 files were skipped: no images, or outputs of genseg, such as b.labels.png"
    assert result.stderr == f"genseg: warning: {skipped}\n"


def test_the_cost_of_several_images_is_their_mean_by_the_stages_that_count():
    costs = [
        Cost(50, seconds={"read": 0.04, "features": 0.2, "cluster": 0.1, "modulate": 1.2}),
        Cost(62, seconds={"read": 0.02, "features": 0.4, "cluster": 0.04, "modulate": 2.0}),
    ]
    assert spent(costs) == "2.0 s (features 0.3, modulate 1.6), 56 model evaluations"
    assert spent([Cost(1, seconds={"read": 0.03})]) == "0.0 s, 1 model evaluations"


def test_files_that_exist_are_left_alone_and_no_model_is_loaded(segmented_folder, photo_folder):
    _, out = segmented_folder
    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    result = run("segment", photo_folder, "-o", out, "--model", "missing")
    assert result.exit_code == 0
    assert result.stdout.count("skipped, its files exist") == 2
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == before


def test_files_of_two_recipes_are_not_mixed(segmented_folder, photo_folder, tmp_path):
    kept = tmp_path / "b.labels.png"
    kept.write_text("mine")
    command = ("segment", photo_folder, *QUICK, "-k", "4", "--seed", "3", "-o", tmp_path)
    refused = run(*command)
    assert refused.exit_code == 1
    assert f"genseg: {photo_folder}/b.png: {kept} exists and b.overlay.png does not; give --overwrite" in refused.stderr
    assert kept.read_text() == "mine"
    assert {file.name for file in tmp_path.iterdir()} == {"a.labels.png", "a.overlay.png", kept.name}
    assert run(*command, "--save", "npz").exit_code == 0  # none of those that are asked for
    assert kept.read_text() == "mine"
    assert run(*command, "--overwrite").exit_code == 0
    assert kept.read_bytes() == (segmented_folder[1] / "b.labels.png").read_bytes()


def test_an_image_has_all_of_its_files_or_none_and_is_resumed(photo_folder, tmp_path, monkeypatch):
    def interrupted(_: object):
        raise KeyboardInterrupt

    command = ("segment", photo_folder / "b.png", *QUICK, "-k", "4", "-o", tmp_path, "--save", "npz,labels,overlay")
    with monkeypatch.context() as patch:
        patch.setattr(genseg.Segmentation, "overlay", interrupted)
        assert run(*command).exit_code == 130
    assert not list(tmp_path.iterdir())
    assert run(*command).exit_code == 0
    assert {file.suffix for file in tmp_path.iterdir()} == {".npz", ".png"}


def test_files_patterns_and_options_mix_and_each_image_is_taken_once(photo, photo_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo.save("size=64.png")
    inputs = ("size=64.png", "n_clusters=4", photo_folder / "b.png", f"{photo_folder}/*.[jJ]PG", photo_folder)
    result = run("segment", *inputs, *QUICK, "--merge", "2", "--save", "labels")
    assert result.exit_code == 0, result.stderr
    assert {file.name for file in Path("genseg-output").iterdir()} == {f"{n}.labels.png" for n in ("size=64", *"ab")}
    for file in Path("genseg-output").iterdir():
        assert len(np.unique(np.asarray(Image.open(file)))) <= 2


def test_a_broken_image_does_not_stop_the_others(photo, tmp_path):
    for name in "az":
        (tmp_path / f"{name}.png").write_text("no image")
    photo.save(tmp_path / "m.png")
    result = run("segment", tmp_path, *QUICK, "-k", "4", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"m.overlay.png", "m.labels.png"}
    first, last = result.stderr.splitlines()
    assert first.startswith(f"genseg: {tmp_path / 'a.png'} is not an image")
    assert last.startswith(f"genseg: {tmp_path / 'z.png'} is not an image")


def test_names_of_files_are_one_line_and_do_nothing_to_the_terminal(tmp_path):
    (tmp_path / "a\n\x1b[31mb.png").write_text("no image")
    result = run("segment", tmp_path, *QUICK, "-o", tmp_path / "out")
    assert result.stdout == f"{tmp_path}/a\\n\\x1b[31mb.png: failed\n"
    assert_refused(result, r"a\n\x1b[31mb.png is not an image", code=1)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("drawz=3",), ("'drawz'", "did you mean draws?")),
        (("-r", "papr"), ("'papr'", "did you mean paper?")),
        (("-b", "tinny"), ("'tinny'", "did you mean tiny?")),
        (("--save", "labels,overlays"), ("'overlays'", "did you mean overlay?")),
        (("--merge", "0"), ("--merge", "at least 1")),
        (("--merge", "few"), ("--merge", "or auto")),
        (("--merge", "9" * 5000), ("--merge", "or auto")),
        (("",), ("an argument is empty",)),
        (("--seed", "-1"), ("seed must be at least 0",)),
        (("-o", "file/out"), ("cannot write to file/out", "--out")),
        (("--load", "offload"), ("--load offload is not KEY=VALUE", "offload=true")),
        (("--load", "tiling=[true"), ("--load tiling=[true is not KEY=VALUE",)),
        (("--load", "tiling={a: 1}"), ("is not KEY=VALUE with a single YAML value",)),
        (("--load", "model=x"), ("--load model=x is refused", "--model")),
        (("-k", "8", "n_clusters=4"), ("-k 8 and n_clusters=4 both set the number of clusters",)),
        (("merge=3",), ("no recipe key 'merge'", "--merge")),
        (("missing.png",), ("missing.png does not exist",)),
        (("*.tiff",), ("*.tiff matches no file",)),
        (("empty",), ("empty holds no image",)),
        (("other/b.webp",), ("b.png and other/b.webp would both be written",)),
    ],
)
def test_mistakes_are_found_before_a_model_is_loaded(arguments, parts, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo.save("b.png")
    for other in ("empty", "other"):
        Path(other).mkdir()
    photo.save("other/b.webp")
    Path("file").write_text("no folder")
    assert_refused(run("segment", "b.png", "--model", "missing", *arguments), *parts)
    assert not Path("genseg-output").exists()


def test_options_alone_are_no_input():
    assert_refused(run("segment", "size=64"), "no image given")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_out_of_memory_names_the_way_out(photo, tmp_path):
    photo.save(tmp_path / "a.png")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20, limits[1]))
    try:
        result = run("segment", tmp_path / "a.png", "draws=1", "size=4096", "-o", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert_refused(result, "a.png: out of memory", "halved", "smaller size", "offload=true", code=1)
    assert not (tmp_path / "out").exists()


def test_other_errors_of_torch_are_no_sentence_of_ours(photo, tmp_path, monkeypatch):
    def broken(*_: object, **__: object):
        raise RuntimeError("shapes cannot be multiplied")

    photo.save(tmp_path / "a.png")
    monkeypatch.setattr("genseg.registry.load_backend", broken)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run("segment", tmp_path / "a.png", "-o", tmp_path / "out")


def test_options_of_the_backend_reach_its_factory_as_yaml_scalars(photo, tmp_path, monkeypatch):
    given = {}

    def factory(name: str, **options: object):
        given.update(options, name=name)
        raise GensegError("seen")

    photo.save(tmp_path / "a.png")
    monkeypatch.setattr("genseg.registry.load_backend", factory)
    load = ("tiling=true", "offload=no", "level=2", "tiny_vae=a/b=c", "config=null")
    options = [part for option in load for part in ("--load", option)]
    assert_refused(run("segment", tmp_path / "a.png", "-b", "sd15", "--revision", "v1", *options), "seen")
    assert given == {
        "name": "sd15",
        "model": None,
        "device": None,
        "dtype": None,
        "revision": "v1",
        "tiling": True,
        "offload": False,
        "level": 2,
        "tiny_vae": "a/b=c",
        "config": None,
    }


def test_an_option_that_the_backend_does_not_take_is_refused(photo, tmp_path):
    photo.save(tmp_path / "a.png")
    for option, name in (("--load", "tiling=true"), "'tiling'"), (("--revision", "main"), "'revision'"):
        assert_refused(run("segment", tmp_path / "a.png", *option, "-o", tmp_path / "out"), "backend 'tiny'", name)


def test_ctrl_c_keeps_finished_files_and_nothing_else_is_said(photo_folder, tiny, tmp_path, monkeypatch):
    encode, images = tiny.encode, [photo_folder / name for name in ("a.JPG", "b.png")]

    def encode_until_ctrl_c(*args):
        if list(tmp_path.iterdir()):
            signal.raise_signal(signal.SIGINT)
        return encode(*args)

    monkeypatch.setattr(tiny, "encode", encode_until_ctrl_c)
    monkeypatch.setattr("genseg.registry.load_backend", lambda *_, **__: tiny)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run("segment", *images, "-o", tmp_path, *QUICK, "n_clusters=4")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (result.exit_code, result.stderr) == (130, "genseg: stopped; finished files are kept\n")
    assert result.stdout.startswith(f"{images[0]}: ")
    assert result.stdout.count("\n") == 1
    assert {file.name for file in tmp_path.iterdir()} == {"a.labels.png", "a.overlay.png"}
    for file in tmp_path.iterdir():
        Image.open(file).load()


def test_backends_are_listed_for_people_and_for_machines():
    table = run("backends")
    assert table.exit_code == 0
    assert re.search(r"^tiny +.*genseg:builtin +ready", table.stdout, re.MULTILINE)
    listed = json.loads(run("backends", "--json").stdout)
    assert [entry["name"] for entry in listed] == [info.name for info in genseg.list_backends()]
    assert listed[0].keys() == {"name", "factory", "provider", "description", "usable", "problem", "card"}


def test_recipes_are_listed_and_printed_so_that_they_can_be_read_again(tmp_path):
    assert run("recipes").stdout.split() == ["fast", "paper", "plus"]
    file = tmp_path / "mine.yaml"
    file.write_text(run("recipes", "fast").stdout)
    assert "replay_steps: 1\n" in file.read_text()
    assert genseg.load_recipe(str(file)) == genseg.load_recipe("fast")
    assert_refused(run("recipes", "fats"), "did you mean fast?")


def test_version():
    assert run("--version").stdout == f"genseg {genseg.__version__}\n"


def test_offline_nothing_is_asked_of_the_hub(photo, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # and put back what --offline sets
    photo.save(tmp_path / "a.png")
    quick = ["n_clusters=3", "n_init=1", "draws=1", "size=32", "margin=0"]
    assert run("segment", tmp_path / "a.png", "--offline", "-o", tmp_path / "out", *quick).exit_code == 0
    assert os.environ["HF_HUB_OFFLINE"] == "1"
