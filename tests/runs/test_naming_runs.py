"""Masks of a run are named as one image's are, by text; or by the nearest mean of a few labeled images."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from colors import Colors, registry
from PIL import Image
from text_aligned import write_siglip
from typer.testing import CliRunner

import genseg
from genseg import Concepts, GensegError, name_run, name_run_from_examples
from genseg.cli import app
from genseg.evaluation.datasets import from_rows, load_dataset
from genseg.runs.class_sets import ClassCounts
from genseg.runs.rows import Row
from genseg.runs.run import MANIFEST, Run
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import table_of

CLASSES = "red,blue|green,gray"
NAMES = ("red", "blue", "gray")


@pytest.fixture(scope="module")
def segmenter(tiny) -> genseg.Segmenter:
    return genseg.Segmenter(tiny, n_clusters=4, draws=1, size=32, margin=0, n_init=1)


@pytest.fixture(scope="module")
def found(segmenter, astronaut) -> list[genseg.Segmentation]:
    return [segmenter(astronaut.crop((x, 0, x + 96, 96))) for x in (0, 130, 260)]


@pytest.fixture
def run(found, segmenter, tmp_path) -> Run:
    """Three images in two shards, their files beside the run."""
    rows = []
    for number, each in enumerate(found):
        file = tmp_path / f"{number}.png"
        Image.fromarray(each.image).save(file)
        rows.append(Row.of(each, str(number), ImageSource(str(file)), "hash"))
    store = Store(str(tmp_path / "run"))
    store.write_table("shards/shard-00000.parquet", table_of(rows[:2]))
    store.write_table("shards/shard-00001.parquet", table_of(rows[2:]))
    settings = {
        "backend": "tiny",
        "model": None,
        "load": {},
        "recipe": asdict(segmenter.recipe),
        "seed": 0,
        "dtype": None,
    }
    store.write_json(MANIFEST, settings)
    return Run(str(tmp_path / "run"))


def names_in(run: Run, classes: str = "names") -> list[list[str]]:
    """Names of the labels of each image, as in `Segmentation.names`."""
    called = run.class_names(classes)
    return [["" if k < 0 else called[k] for k in row.classes] for row in run.rows(classes=classes)]


def expected(found, embedder, classes) -> list[list[str]]:
    return [list(each.name(classes, embedder).names[: each.labels.max() + 1]) for each in found]


def test_names_are_those_of_each_image(run, found):
    embedder = Colors()
    unnamed = name_run(run, CLASSES, embedder)
    assert (unnamed.count, unnamed.reason) == (0, "")
    assert run.class_names("names") == NAMES
    assert len(embedder.asked) == 4 * 85, "texts are embedded once"
    assert names_in(run) == expected(found, embedder, CLASSES)
    assert len({name for names in names_in(run) for name in names}) > 1
    counts = ClassCounts.of(run, "names")
    labels = [row.class_labels for row in run.rows(classes="names")]
    assert counts.pixels == tuple(sum(int((each == k).sum()) for each in labels) for k in range(3))
    assert sum(counts.masks) == sum(each.n_segments for each in found)


def test_names_by_a_siglip_are_those_of_each_image(run, found, tmp_path):
    model = genseg.load_embedder("maskclip", model=str(write_siglip(tmp_path / "siglip")), device="cpu")
    name_run(run, "cat,dog,a,cat dog", model, name="by-siglip")
    assert names_in(run, "by-siglip") == expected(found, model, "cat,dog,a,cat dog")
    assert len({name for names in names_in(run, "by-siglip") for name in names}) > 1


def test_an_image_that_is_gone_is_left_without_names(run, found, tmp_path):
    (tmp_path / "1.png").unlink()
    unnamed = name_run(run, CLASSES, Colors())
    assert unnamed.count == 1
    assert "1.png does not exist" in unnamed.reason
    first, gone, last = names_in(run)
    assert [first, last] == [expected(found, Colors(), CLASSES)[n] for n in (0, 2)]
    assert gone == [""] * (found[1].labels.max() + 1)
    assert ClassCounts.of(run, "names").masks == tuple(sum(row.count(name) for row in (first, last)) for name in NAMES)


class Killed(Exception):  # noqa: N818 - it stands for a signal
    """An interruption of a naming."""


class Counting(Colors):
    """Counts the images it sees, and can be killed by one."""

    def __init__(self, last: int = 99):
        super().__init__()
        self.seen, self.last = 0, last

    def pixels(self, image):
        if self.seen == self.last:
            raise Killed
        self.seen += 1
        return super().pixels(image)


def test_names_go_on_after_a_kill(run, found):
    """The shard that was done keeps its names; they and the counts are those of a naming that was left alone."""
    with pytest.raises(Killed):
        name_run(run, CLASSES, Counting(last=2))
    assert run.class_sets == []
    again = Counting()
    name_run(run, CLASSES, again, resume=True)
    assert again.seen == 1
    assert names_in(run) == expected(found, Colors(), CLASSES)
    name_run(run, CLASSES, Colors(), name="whole")
    assert ClassCounts.of(run, "names") == ClassCounts.of(run, "whole")


def test_names_are_not_mixed_with_those_of_other_classes(run, found):
    """Neither by going on with them nor by going on with what replaced them and was killed."""
    name_run(run, CLASSES, Colors())
    with pytest.raises(GensegError, match="the classes names were given in another way"):
        name_run(run, "gray,blue", Colors(), resume=True)
    assert run.class_names("names") == NAMES
    with pytest.raises(Killed):
        name_run(run, "gray,blue", Counting(last=1))
    name_run(run, "gray,blue", Colors(), resume=True)
    assert names_in(run) == expected(found, Colors(), "gray,blue")


@pytest.mark.parametrize("named", [False, True], ids=["never named", "named before"])
def test_classes_that_were_given_by_hand_are_not_taken_for_names(run, found, named):
    if named:
        name_run(run, CLASSES, Colors())
    run.assign("names", NAMES, lambda row: np.zeros(row.labels.max() + 1, dtype=np.int32))
    name_run(run, CLASSES, Colors(), resume=True)
    assert names_in(run) == expected(found, Colors(), CLASSES)


def test_names_in_the_place_of_concepts_have_no_centres(run):
    Concepts("set", NAMES, np.zeros((3, run_width(run)), dtype=np.float32)).assign(run)
    assert Concepts.load(run, "set").names == NAMES
    name_run(run, CLASSES, Colors(), name="set")
    with pytest.raises(GensegError, match="have no centers"):
        Concepts.load(run, "set")


def run_width(run: Run) -> int:
    return len(next(run.rows()).masks[0].embedding)


def test_images_without_names_are_tried_again(run, found, tmp_path):
    (tmp_path / "1.png").rename(tmp_path / "away.png")
    assert name_run(run, CLASSES, Colors()).count == 1
    (tmp_path / "away.png").rename(tmp_path / "1.png")
    again = Counting()
    assert name_run(run, CLASSES, again, resume=True).count == 0
    assert again.seen == 1
    assert names_in(run) == expected(found, Colors(), CLASSES)


def examples(found, classes=("none", "left", "right")):
    """The images, whose first two labels are called left and the others right; half of the pixels are unlabeled."""
    rows = []
    for each in found:
        label = np.where(each.labels < 2, 1, 2).astype(np.uint8)
        label[:, ::2] = 255
        rows.append({"image": Image.fromarray(each.image), "label": label})
    return from_rows(rows, classes=classes, name="mine")


def test_examples_give_the_class_of_the_nearest_mean(run, found):
    """The means are computed here pixel by pixel."""
    told = []
    concepts = name_run_from_examples(run, examples(found), device="cpu", progress=lambda stage, *_: told.append(stage))
    pixels = [each.embeddings[each.labels][:, 1::2].astype(np.float64) for each in found]
    sides = [each.labels[:, 1::2] < 2 for each in found]
    left = np.concatenate([p[s] for p, s in zip(pixels, sides, strict=True)]).mean(axis=0)
    right = np.concatenate([p[~s] for p, s in zip(pixels, sides, strict=True)]).mean(axis=0)
    assert np.allclose(concepts.centres[1:], [left, right], rtol=1e-5, atol=1e-5)
    assert concepts.absent == ("none",)
    nearer = [np.linalg.norm(e.embeddings - right, axis=1) < np.linalg.norm(e.embeddings - left, axis=1) for e in found]
    present = [np.isin(np.arange(len(each.embeddings)), each.labels) for each in found]
    names = [np.where(side, "right", "left") for side in nearer]
    assert names_in(run) == [np.where(on, each, "").tolist() for on, each in zip(present, names, strict=True)]
    assert 0 < sum(side.sum() for side in nearer) < 12
    assert np.array_equal(Concepts.load(run, "names").centres, concepts.centres, equal_nan=True)
    assert set(told) == {"load", "examples", "classes", "report"}


@pytest.mark.parametrize("changed", [{"seed": 7}, {"recipe": {"n_clusters": 3}}])
def test_examples_are_segmented_as_the_run_was(run, found, segmenter, changed):
    """With its seed and its recipe, and not with those of another run."""
    one = name_run_from_examples(run, examples(found[:1]), device="cpu")
    settings = dict(run.settings) | changed
    settings["recipe"] = asdict(segmenter.recipe) | changed.get("recipe", {})
    run.store.write_json(MANIFEST, settings)
    other = name_run_from_examples(run.store.url, examples(found[:1]), device="cpu")
    again = replace(segmenter.recipe, **changed.get("recipe", {}))
    seg = genseg.segment(found[0].image, segmenter.backend, again, seed=settings["seed"])
    left = found[0].labels[:, 1::2] < 2
    means = seg.embeddings[seg.labels][:, 1::2].astype(np.float64)
    assert np.allclose(other.centres[1:], [means[left].mean(axis=0), means[~left].mean(axis=0)], rtol=1e-5, atol=1e-5)
    assert not np.allclose(one.centres[1:], other.centres[1:], atol=1e-3)


def test_examples_are_taken_evenly_spaced(run, found):
    two = name_run_from_examples(run, examples(found), limit=2, device="cpu")
    ends = name_run_from_examples(run, examples([found[0], found[2]]), device="cpu", name="ends")
    first = name_run_from_examples(run, examples(found[:1]), device="cpu", name="first")
    assert np.array_equal(two.centres, ends.centres, equal_nan=True)
    assert not np.allclose(two.centres, first.centres, equal_nan=True)


def test_examples_that_cannot_be_used_are_one_sentence(run, found, tmp_path):
    blank = [{"image": Image.fromarray(found[0].image), "label": np.full((96, 96), 255, dtype=np.uint8)}]
    with pytest.raises(GensegError, match="no pixel of the 1 examples has a class"):
        name_run_from_examples(run, from_rows(blank, classes=["a"]), device="cpu")
    for folder, name in (("images", "a.png"), ("labels", "a.0.png")):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / folder / name)
    with pytest.raises(GensegError, match="has regions without classes"):
        name_run_from_examples(run, load_dataset("folder", tmp_path), device="cpu")


def command(*arguments: object):
    return CliRunner().invoke(app, ["name", *(str(argument) for argument in arguments)], catch_exceptions=False)


def test_the_command_names_by_text(run, found, tmp_path, monkeypatch):
    monkeypatch.setattr("genseg.registry.EMBEDDERS.plugins", registry())
    done = command(tmp_path / "run", "--classes", CLASSES, "--embedder", "colors", "--name", "mine")
    assert done.exit_code == 0, done.stderr
    assert names_in(run, "mine") == expected(found, Colors(), CLASSES)
    head, *lines, last, _ = done.stdout.splitlines()
    counts = ClassCounts.of(run, "mine")
    assert head.split() == ["class", "masks", "pixels"]
    assert {line.split()[0]: int(line.split()[1]) for line in lines} == dict(zip(NAMES, counts.masks, strict=True))
    assert last == f"mine: {sum(counts.masks)} masks in 3 classes"
    (tmp_path / "0.png").write_bytes(b"broken")
    left = command(tmp_path / "run", "--classes", CLASSES, "--embedder", "colors")
    assert left.exit_code == 1
    assert left.stderr.startswith("genseg: 1 images have no names; the first: ")


def test_the_command_names_by_examples(run, found, tmp_path):
    root = tmp_path / "few"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for number, row in enumerate(found):
        Image.fromarray(row.image).save(root / f"images/{number}.png")
        Image.fromarray(np.where(row.labels < 2, 1, 2).astype(np.uint8)).save(root / f"labels/{number}.png")
    (root / "classes.txt").write_text("none\nleft\nright\n")
    done = command(tmp_path / "run", "--examples", root, "--limit", "2", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert "genseg: never assigned, as no example shows them: none" in done.stderr
    concepts = name_run_from_examples(run, load_dataset("folder", root), limit=2, device="cpu", name="again")
    assert names_in(run) == names_in(run, "again")
    assert np.array_equal(Concepts.load(run, "names").centres, concepts.centres, equal_nan=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either --classes"),
        (("--classes", "a", "--examples", "few"), "give either --classes"),
        (("--examples", "few", "--embedder", "maskclip"), "--embedder compares masks and texts"),
        (("--classes", "a", "--limit", "3"), "--limit chooses examples"),
        (("--classes", "a", "--dataset", "folder"), "--dataset chooses examples"),
        (("--examples", "few", "--resume"), "--resume resumes naming by texts"),
        (("--examples", "few"), "few is no folder"),
        (("--classes", "a,,b"), "a class has no name"),
        (("--classes", "a", "--embedder", "maskklip"), "unknown embedder 'maskklip': did you mean maskclip"),
        (("--examples", ".", "--dataset", "camvid"), "unknown dataset 'camvid': did you mean camvid-11"),
    ],
)
def test_what_the_command_refuses_is_one_sentence(run, arguments, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refused = command("run", *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert run.class_sets == []


def test_a_folder_without_a_run_is_refused(tmp_path):
    refused = command(tmp_path, "--classes", "a")
    assert refused.exit_code == 2
    assert "holds no run" in refused.stderr
