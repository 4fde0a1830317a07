import contextlib
import io
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import genseg
from genseg import Cost, GensegError
from genseg import _cli_complete as complete
from genseg._cli_result import can_show, pictured, spent
from genseg.cli import app
from genseg.segmentation import palette

QUICK = ("size=64", "draws=1", "replay_steps=1", "n_init=1")
MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from genseg.cli import main; main()"


def run(*arguments: object, given: bytes | None = None):
    """One command line and its standard input; an exception that is no exit is raised, as a traceback would be."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], given, catch_exceptions=False)


def refused(result, *parts: str, code: int = 2) -> None:
    assert result.exit_code == code
    assert result.stderr.startswith("genseg: ")
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts), result.stderr


@pytest.fixture(scope="module")
def folder(photo, tmp_path_factory) -> Path:
    """Two photos of 96×64 and 64×64 pixels, what an earlier run wrote, and what is no image."""
    folder = tmp_path_factory.mktemp("photos")
    photo.save(folder / "b.png")
    photo.crop((0, 0, 64, 64)).save(folder / "a.JPG")
    for other in ("notes.txt", ".hidden.png", "b.overlay.png", "b.labels.png"):
        (folder / other).write_text("no image")
    return folder


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    """One run over the folder, and where its files are."""
    out = tmp_path_factory.mktemp("done") / "new" / "out"
    result = run("segment", folder, *QUICK, "-k", "4", "--seed", "3", "-o", out, "--save", "npz,overlay,labels")
    assert result.exit_code == 0, result.stderr
    return result, out


def test_each_image_gets_the_files_asked_for(done):
    _, out = done
    kinds = ("overlay.png", "labels.png", "npz")
    assert {file.name for file in out.iterdir()} == {f"{name}.{kind}" for name in "ab" for kind in kinds}
    seg = genseg.Segmentation.load(out / "b.npz")
    assert (seg.backend, seg.seed, seg.recipe.n_clusters, seg.recipe.draws) == ("tiny", 3, 4, 1)
    assert np.array_equal(np.asarray(Image.open(out / "b.labels.png")), seg.labels)
    assert np.array_equal(np.asarray(Image.open(out / "b.overlay.png")), np.asarray(seg.overlay()))
    assert seg.labels.shape == (64, 96)


def test_plain_lines_in_order_then_the_cost_and_the_place(done, folder):
    result, out = done
    first, second, cost, place = result.stdout.splitlines()
    assert re.fullmatch(rf"{re.escape(str(folder / 'a.JPG'))}: [1-4] segments, \d+\.\d s", first)
    assert second.startswith(str(folder / "b.png"))
    # one draw, one step of the unmodified sample and of 4 pairs
    assert re.fullmatch(r"cost per image: \d+\.\d s( \((\w+ \d+\.\d(, )?)+\))?, 10 model evaluations", cost)
    assert place == f"files in {out}: NAME.npz, NAME.overlay.png, NAME.labels.png"
    assert result.stderr == ""


def test_the_cost_of_several_images_is_their_mean_by_the_stages_that_count():
    costs = [
        Cost(50, seconds={"read": 0.04, "features": 0.2, "cluster": 0.1, "modulate": 1.2}),
        Cost(62, seconds={"read": 0.02, "features": 0.4, "cluster": 0.04, "modulate": 2.0}),
    ]
    assert spent(costs) == "2.0 s (features 0.3, modulate 1.6), 56 model evaluations"
    assert spent([Cost(1, seconds={"read": 0.03})]) == "0.0 s, 1 model evaluations"


def test_files_that_exist_are_left_alone_and_no_model_is_loaded(done, folder):
    _, out = done
    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    result = run("segment", folder, "-o", out, "--model", "missing")
    assert result.exit_code == 0
    assert result.stdout.count("skipped, its files exist") == 2
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == before


def test_missing_files_are_made_beside_those_that_exist(done, folder, tmp_path):
    kept = tmp_path / "b.labels.png"
    kept.write_text("mine")
    assert run("segment", folder / "b.png", *QUICK, "-k", "4", "-o", tmp_path).exit_code == 0
    assert kept.read_text() == "mine"
    assert (tmp_path / "b.overlay.png").exists()
    command = ("segment", folder / "b.png", *QUICK, "-k", "4", "--seed", "3", "-o", tmp_path, "--save", "labels")
    assert run(*command, "--overwrite").exit_code == 0
    assert kept.read_bytes() == (done[1] / "b.labels.png").read_bytes()


def test_files_patterns_and_options_mix_and_each_image_is_taken_once(photo, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo.save("size=64.png")
    inputs = ("size=64.png", "n_clusters=4", folder / "b.png", f"{folder}/*.[jJ]PG", folder)
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


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("drawz=3",), ("'drawz'", "did you mean draws?")),
        (("-r", "papr"), ("'papr'", "did you mean paper?")),
        (("-b", "tinny"), ("'tinny'", "did you mean tiny?")),
        (("--save", "labels,overlays"), ("'overlays'", "did you mean overlay?")),
        (("--merge", "0"), ("--merge", "at least 1")),
        (("--merge", "5", "-k", "4"), ("--merge", "from 1 to n_clusters=4")),
        (("--seed", "-1"), ("seed must be at least 0",)),
        (("-o", "file/out"), ("cannot write to file/out", "--out")),
        (("--load", "offload"), ("--load offload is not KEY=VALUE", "offload=true")),
        (("--load", "tiling=[true"), ("--load tiling=[true is not KEY=VALUE",)),
        (("--load", "tiling={a: 1}"), ("is not KEY=VALUE with a single YAML value",)),
        (("--load", "model=x"), ("--load model=x is refused", "--model")),
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
    refused(run("segment", "b.png", "--model", "missing", *arguments), *parts)
    assert not Path("genseg-output").exists()


def test_options_alone_are_no_input():
    refused(run("segment", "size=64"), "no image given")


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
    refused(result, "a.png: out of memory", "halved", "smaller size", "--load offload=true", code=1)
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
    refused(run("segment", tmp_path / "a.png", "-b", "sd15", "--revision", "v1", *options), "seen")
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
        refused(run("segment", tmp_path / "a.png", *option, "-o", tmp_path / "out"), "backend 'tiny'", name)


def test_ctrl_c_keeps_finished_files_and_nothing_else_is_said(folder, tmp_path):
    command = [sys.executable, "-c", MAIN, "segment", folder, "-o", tmp_path, *QUICK, "n_clusters=4", "draws=200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "a.JPG: " in process.stdout.readline()
        process.send_signal(signal.SIGINT)  # the second image takes about as long as the first
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "genseg: stopped; finished files are kept\n")
    assert {file.name for file in tmp_path.iterdir()} == {"a.labels.png", "a.overlay.png"}
    for file in tmp_path.iterdir():
        Image.open(file).load()


def test_what_libraries_print_is_silenced(folder, sd_checkpoint, tmp_path):
    model = shutil.copytree(sd_checkpoint, tmp_path / "model")
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()  # diffusers prints a line of its own for that
    command = [sys.executable, "-c", MAIN, "segment", folder / "b.png", "-b", "sd15", "--model", model]
    result = subprocess.run([*command, "-o", tmp_path / "out"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"genseg: {model} has no usable unet/")


def test_backends_are_listed_for_people_and_for_machines():
    table = run("backends")
    assert table.exit_code == 0
    assert re.search(r"^tiny +.*genseg:builtin +yes", table.stdout, re.MULTILINE)
    listed = json.loads(run("backends", "--json").stdout)
    assert [entry["name"] for entry in listed] == [info.name for info in genseg.list_backends()]
    assert listed[0].keys() == {"name", "factory", "provider", "description", "usable", "problem", "card"}


def test_recipes_are_listed_and_printed_so_that_they_can_be_read_again(tmp_path):
    assert run("recipes").stdout.split() == ["fast", "paper"]
    file = tmp_path / "mine.yaml"
    file.write_text(run("recipes", "fast").stdout)
    assert "replay_steps: 1\n" in file.read_text()
    assert genseg.load_recipe(str(file)) == genseg.load_recipe("fast")
    refused(run("recipes", "fats"), "did you mean fast?")


def test_version():
    assert run("--version").stdout == f"genseg {genseg.__version__}\n"


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from genseg.cli import app; app(['--help'], standalone_mode=False); print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "segment" in shown
    assert shown.endswith("False\n")


def test_generated_images_are_written_with_their_segments(tmp_path):
    quick = ["n_clusters=3", "n_init=1", "draws=1", "num_inference_steps=4", "t_m=251"]
    result = run("generate", "", *quick, "-n", "2", "--seed", "7", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    names = {f"00000{seed}.{kind}.png" for seed in (7, 8) for kind in ("image", "overlay", "labels")}
    assert {file.name for file in tmp_path.iterdir()} == names
    assert Image.open(tmp_path / "000007.image.png").size == (128, 128)
    again = run("generate", "", *quick, "--seed", "7", "-o", tmp_path)
    assert "seed 7: skipped" in again.output


def test_a_prompt_that_cannot_be_is_refused(tmp_path):
    refused(run("generate", "a cat", "-o", tmp_path), "no text encoder", "generate without a prompt")
    refused(run("generate", "size=64", "-o", tmp_path), 'give "" before size=64')


def test_offline_nothing_is_asked_of_the_hub(photo, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # and put back what --offline sets
    photo.save(tmp_path / "a.png")
    quick = ["n_clusters=3", "n_init=1", "draws=1", "size=64", "margin=0"]
    assert run("segment", tmp_path / "a.png", "--offline", "-o", tmp_path / "out", *quick).exit_code == 0
    assert os.environ["HF_HUB_OFFLINE"] == "1"


# --- lists, machines, what it would cost ----------------------------------------------------------------------------

KEYS = ["image", "status", "error", "files", "width", "height", "segments", "sizes", "names", "seconds", "evaluations"]
KEYS += ["backend", "seed", "recipe"]


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"], ids=["lines", "dos", "nul"])
def test_a_list_of_paths_is_read_and_bad_lines_are_told_at_the_end(done, folder, separator):
    _, out = done
    listed = separator.join([b"none.png", os.fsencode(folder / "b.png"), b"", os.fsencode(folder), b"no such dir", b""])
    result = run("segment", "-", "-o", out, "--model", "missing", given=listed)  # skipped, so no model is loaded
    assert result.exit_code == 1
    assert result.stdout.count("skipped") == 2
    assert result.stderr == "".join(
        f"genseg: {line} does not exist; check the path\n" for line in ("none.png", "no such dir")
    )


def test_an_empty_list_is_no_input():
    refused(run("segment", "-", given=b"\n"), "no image given")


def test_json_has_a_line_for_each_image_and_nothing_else(folder, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "a.labels.png").write_text("mine")
    inputs = [folder / "b.png", folder / "a.JPG", tmp_path / "text.png", "-"]
    common = ("-o", tmp_path, "--json", "--save", "labels", "--seed", "3", "-k", "4")
    result = run("segment", *inputs, *QUICK, *common, given=b"none.png\n")
    assert result.exit_code == 1
    records = {Path(record["image"]).name: record for record in map(json.loads, result.stdout.splitlines())}
    assert all(list(record) == KEYS for record in records.values())
    assert {name: record["status"] for name, record in records.items()} == {
        "none.png": "failed",
        "a.JPG": "skipped",
        "b.png": "done",
        "text.png": "failed",
    }
    assert records["none.png"]["error"] == "none.png does not exist; check the path"
    assert records["text.png"]["error"] in result.stderr
    assert records["a.JPG"]["files"] == {"labels": str(tmp_path / "a.labels.png")}
    found, labels = records["b.png"], np.asarray(Image.open(tmp_path / "b.labels.png"))
    assert (found["width"], found["height"], found["backend"], found["seed"]) == (96, 64, "tiny", 3)
    assert found["files"] == {"labels": str(tmp_path / "b.labels.png")}
    assert found["sizes"] == np.bincount(labels.ravel(), minlength=4).tolist()
    assert (found["segments"], found["evaluations"]) == (len(np.unique(labels)), 10)
    assert genseg.Recipe(**found["recipe"]).n_clusters == 4
    assert found["seconds"] > 0


def test_a_dry_run_counts_what_a_run_takes_and_writes_nothing(folder, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    out, recipe = tmp_path / "out", ("size=64", "draws=5", "n_init=1", "n_clusters=6", "replay_steps=2")
    command = ("segment", tmp_path / "text.png", folder / "b.png", *recipe, "-o", out, "--save", "npz", "--json")
    told = run(*command, "--dry-run")
    assert told.exit_code == 1  # for the image that cannot be read
    assert not out.exists()
    _, cost = map(json.loads, told.stdout.splitlines())
    assert (cost["images"], cost["probe"]) == (1, str(folder / "b.png"))
    assert cost["per_image"]["measured"] == "4 of 5 noise draws and 4 of 6 masks"
    _, record = map(json.loads, run(*command).stdout.splitlines())
    assert cost["evaluations"] == record["evaluations"] == 5 + 2 * 13
    assert cost["seconds"] == pytest.approx(cost["loading"] + sum(cost["per_image"]["seconds"].values()), abs=0.01)
    assert 0.7 < cost["bytes"] / (out / "b.npz").stat().st_size < 1.4


def test_a_dry_run_says_how_it_estimates(folder, tmp_path):
    result = run("segment", folder / "b.png", *QUICK, "-k", "4", "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    count, time, cost, files, how = result.stdout.splitlines()
    assert count == "images: 1"
    assert re.fullmatch(r"time: \d+:\d\d, \d+\.\d s of it to load the model", time)
    assert cost.endswith("10 model evaluations")
    assert re.fullmatch(rf"files: [\d.]+ kB in {re.escape(str(tmp_path / 'out'))}", files)
    assert how.startswith(f"measured on {folder / 'b.png'}: 1 of 1 noise draws and 4 of 4 masks")


# --- terminals and shells -------------------------------------------------------------------------------------------

TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


@contextmanager
def terminal(encoding: str = "utf-8", width: int = 80, **environment: str):
    """A console on a terminal that nobody reads."""
    main, side = pty.openpty()
    with open(side, "w", encoding=encoding) as file:  # noqa: PTH123
        yield Console(file=file, width=width, _environ=TERMINAL | environment)
    os.close(main)


@pytest.fixture(scope="module")
def found(done) -> genseg.Segmentation:
    return genseg.Segmentation.load(done[1] / "b.npz")


def test_a_picture_has_two_pixels_in_a_character_and_its_segments_beside_it(found):
    names = ("sky", "tree", "lake", "path")
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=60)
    console.print(pictured(replace(found, names=names), 50))
    text = console.file.getvalue()
    assert text.count("▄") == 24 * 8  # 96×64 pixels, where 50 columns leave 24 for the picture
    assert "38;2;" in text
    sizes = np.bincount(found.labels.ravel(), minlength=4) / found.labels.size
    expected = [(f"{sizes[k]:.0%}", names[k]) for k in np.argsort(-sizes, kind="stable") if sizes[k] > 0]
    assert re.findall(r"██ +(\d+%)  (\w+)", re.sub("\x1b\\[[0-9;]*m", "", text)) == expected


def test_a_picture_of_many_segments_names_as_many_as_there_is_room_for(found):
    many = replace(found, labels=np.arange(64 * 96, dtype=np.int32).reshape(64, 96) // 200, colors=palette(31))
    console = Console(file=io.StringIO(), width=80)
    console.print(pictured(many, 80))
    assert "and 16 more" in console.file.getvalue()


NO_COLOURS = {"TERM": "xterm", "COLORTERM": ""}


@pytest.mark.parametrize(
    "what", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, NO_COLOURS, {"encoding": "ascii"}, {"width": 40}], ids=str
)
def test_a_terminal_that_cannot_show_a_picture_is_spared_it(what):
    with terminal() as console:
        assert can_show(console)
    with terminal(**what) as console:
        assert not can_show(console)


def test_a_pipe_is_spared_it_too(tmp_path):
    with (tmp_path / "pipe").open("w", encoding="utf-8") as file:
        assert not can_show(Console(file=file, force_terminal=True, color_system="truecolor"))


SHOW = """
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from genseg._cli_bars import Bars
from genseg._cli_result import Report
from genseg.segmentation import Segmentation
for images in 2, 1:
    with Bars(images) as bars:
        Report(bars, images, Path("out"), ["labels"], as_json=False).done(Path("b.png"), Segmentation.load(sys.argv[1]))
"""


def test_one_image_is_shown_on_a_terminal_and_several_are_not(done):
    main, side = pty.openpty()
    environment = os.environ | TERMINAL | {"COLORTERM": "", "COLUMNS": "80", "LINES": "40", "PYTHONIOENCODING": "utf-8"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([sys.executable, "-c", SHOW, done[1] / "b.npz"], stdout=side, env=environment):
        os.close(side)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's end of a terminal
            while part := os.read(main, 1 << 16):
                shown += part
    os.close(main)
    assert shown.decode().count("▄") == 48 * 16
    assert b"38;5;" in shown  # 256 colours
    assert shown.count(b"b.png: 4 segments") == 2


COMPLETE = """
import os, sys
from genseg.cli import main
for line in sys.argv[1:]:
    words = line.split()
    os.environ.update(_GENSEG_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    try:
        main()
    except SystemExit:
        pass
    print("--")
print("torch" in sys.modules)
"""
COMPLETIONS = {
    "genseg segment -b ti": "tiny",
    "genseg segment -r f": "fast",
    "genseg segment n_i": "n_init=",
    "genseg segment difference=t": "difference=two-sided",
    "genseg segment --save overlay,la": "overlay,labels",
    "genseg segment --embedder maskc": "maskclip",
    "genseg compare --backends tiny,sd14": "tiny,sd14",
    "genseg backends show vitm": "vitmae",
    "genseg recipes pap": "paper",
}


def test_a_shell_completes_without_torch():
    command = [sys.executable, "-c", COMPLETE, *COMPLETIONS]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    *completions, torch = result.stdout.split("--\n")
    assert [each.strip() for each in completions] == list(COMPLETIONS.values())
    assert torch == "False\n"


def test_recipe_files_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("paprika.yaml", "parts.yml", "papers.txt"):
        Path(name).touch()
    assert complete.recipes("pa") == ["paper", "paprika.yaml", "parts.yml"]


def test_help_tells_the_exit_codes():
    shown = run("--help").stdout
    assert all(re.search(rf"^ *{code}  ", shown, re.MULTILINE) for code in (0, 1, 2, 130))
