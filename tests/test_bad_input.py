"""Users' mistakes, from Python and on the command line: one sentence that says what to do, no half-made file."""

import contextlib
import resource
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.utils import logging
from typer.testing import CliRunner

import genseg
from genseg import GensegError, Segmenter
from genseg.cli import app

QUICK = {"draws": 1, "replay_steps": 1, "n_init": 1, "n_clusters": 4, "size": 32, "margin": 0}
OPTIONS = tuple(f"{key}={value}" for key, value in QUICK.items())


@pytest.fixture(scope="module")
def segmenter(tiny) -> Segmenter:
    return Segmenter(tiny, **QUICK)


@pytest.fixture(scope="module")
def picture(photo, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("good") / "photo.png"
    photo.save(path)
    return path


def in_one_sentence(text: str, *parts: str) -> None:
    assert "\n" not in text
    assert "Traceback" not in text
    for part in parts:
        assert part in text


def refuses(parts: tuple[str, ...], *arguments: object, out: Path) -> None:
    """The command line exits with a sentence, and with 1 where that names the image, the first of ``arguments``.

    Nothing is left in ``out``.
    """
    command = ["segment", *OPTIONS, *map(str, arguments), "-o", str(out)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == (1 if str(arguments[0]) in result.stderr else 2)
    assert result.stderr.startswith("genseg: ")
    in_one_sentence(result.stderr.removesuffix("\n"), *parts)
    assert not list(out.glob("*"))


def truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-900])


def huge(path: Path) -> None:
    """A PNG that says it has 20,000×20,000 pixels; its data are none, so that it cannot have been decoded."""
    parts = {b"IHDR": struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0), b"IDAT": b"no data", b"IEND": b""}
    chunks = (struct.pack(">I", len(data)) + kind + data + _crc(kind + data) for kind, data in parts.items())
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


FILES = {
    "text.png": (lambda path: path.write_text("text"), ("is not an image", "give a PNG, JPEG")),
    "truncated.jpg": (truncated, ("is damaged or truncated", "get the file again")),
    "truncated.png": (truncated, ("is damaged or truncated", "get the file again")),
    "empty.png": (lambda path: path.write_bytes(b""), ("is empty", "give a PNG, JPEG")),
    "small.png": (lambda path: Image.new("RGB", (1, 1)).save(path), ("is 1x1 pixels", "at least 16")),
    "huge.png": (huge, ("more than 200000000 pixels", "limit of 100000000", "max_pixels")),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name, segmenter, tmp_path):
    make, parts = FILES[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(GensegError) as error:
        segmenter(path)
    in_one_sentence(str(error.value), str(path), *parts)
    refuses((str(path), *parts), path, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        (np.full((32, 32, 3), np.nan), ("NaN", "replace")),
        (np.full((32, 32), np.inf, np.float32), ("infinite", "replace")),
        (np.zeros((32, 32, 3), np.int64), ("uint8, uint16 or floating point", "int64", "convert")),
        (np.zeros((32, 32), bool), ("uint8, uint16 or floating point", "bool", "convert")),
        (np.zeros((32, 32, 3), np.complex64), ("uint8, uint16 or floating point", "complex64", "convert")),
        (torch.zeros(3, 32, 32, dtype=torch.int32), ("uint8, uint16 or floating point", "int32", "convert")),
        (np.full((32, 32, 3), 255.0), ("[0, 1]", "[255, 255]", "scale")),
        (np.full((32, 32, 3), -0.5), ("[0, 1]", "[-0.5, -0.5]", "scale")),
        (np.zeros(32, np.uint8), ("(H, W, 3)", "(32,)")),
        (np.zeros((1, 32, 32, 3), np.uint8), ("(H, W, 3)", "(1, 32, 32, 3)")),
        (np.zeros((3, 32, 32), np.uint8), ("(H, W, 3)", "(3, 32, 32)")),
        (torch.zeros(32, 40, 3), ("(3, H, W)", "(32, 40, 3)")),
        (np.zeros((0, 32, 3), np.uint8), ("32x0 pixels", "at least 16")),
        (7, ("a path, a PIL image, an array or a tensor", "int")),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")) + str(tuple(getattr(value, "shape", ()))),
)
def test_arrays(source, parts, segmenter):
    with pytest.raises(GensegError) as error:
        segmenter(source)
    in_one_sentence(str(error.value), *parts)


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("n_clusters", 99, ("n_clusters=99", "positions of the feature map", "smaller n_clusters")),
        ("n_clusters", 1, ("n_clusters must be a whole number from 2 to 10000, or 'auto'",)),
        ("n_clusters", 2.5, ("n_clusters", "2.5")),
        ("n_clusters", "many", ("n_clusters must be a whole number from 2 to 10000, or 'auto'", "'many'")),
        ("draws", "some", ("draws", "'some'")),
        ("draws", "[1", ("draws",)),
        ("drawz", 3, ("'drawz'", "did you mean draws?")),
        ("resize", "areas", ("resize must be one of area, square",)),
        ("point", "up1.2.cros", ("'up1.2.cros'", "did you mean up1.2.cross")),
    ],
)
def test_recipes(key, value, parts, tiny, photo, picture, tmp_path):
    with pytest.raises(GensegError) as error:
        Segmenter(tiny, **QUICK | {key: value})(photo)
    in_one_sentence(str(error.value), *parts)
    refuses(parts, picture, f"{key}={value}", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("argument", "value", "parts"),
    [
        ("backend", "tinny", ("'tinny'", "did you mean tiny?", "available: ")),
        ("recipe", "papr", ("'papr'", "did you mean paper?")),
        ("recipe", "missing.yaml", ("missing.yaml", "No such file")),
        ("device", "gpu", ("'gpu'", "device='cpu'")),
        ("dtype", "float8", ("float32, float16, bfloat16", "'float8'")),
        ("seed", -1, ("seed must be at least 0",)),
    ],
)
def test_other_arguments(argument, value, parts, photo, picture, tmp_path):
    with pytest.raises(GensegError) as error:
        genseg.segment(photo, **{argument: value}, **QUICK)
    in_one_sentence(str(error.value), *parts)
    refuses(parts, picture, f"--{argument}", value, out=tmp_path / "out")


def emptied(part: str):
    return lambda folder: shutil.rmtree(folder / part)


def cut(folder: Path) -> None:
    with (folder / "unet" / "diffusion_pytorch_model.safetensors").open("r+b") as file:
        file.truncate(1000)


def misshapen(folder: Path) -> None:
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text().replace('"cross_attention_dim": 32', '"cross_attention_dim": 48'))


@pytest.fixture
def no_bars():
    """As the command line has it where it starts by itself."""
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.mark.usefixtures("no_bars")
@pytest.mark.parametrize(
    ("backend", "damage", "parts"),
    [
        ("tiny", shutil.rmtree, ("there is no file or folder", "local folder")),
        ("tiny", emptied("unet"), ("no usable unet/", "diffusers layout")),
        ("tiny", lambda _: None, ("prompt_embeds",)),  # a sound checkpoint, but of Stable Diffusion
        ("sd15", emptied("vae"), ("no usable vae/", "diffusers layout")),
        ("sd15", emptied("scheduler"), ("no usable scheduler/", "diffusers layout")),
        ("sd15", cut, ("the unet of", "is damaged or cut off", "get the file again")),
        ("sd15", misshapen, ("no usable unet/", "expected shape")),
    ],
    ids=["missing", "no-unet", "sd-for-tiny", "no-vae", "no-scheduler", "cut", "misshapen"],
)
def test_checkpoints(backend, damage, parts, sd_checkpoint, picture, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(sd_checkpoint, model)
    damage(model)
    with pytest.raises(GensegError) as error:
        genseg.load_backend(backend, model=str(model))
    in_one_sentence(str(error.value), str(model), *parts)
    refuses((str(model), *parts), picture, "-b", backend, "--model", model, out=tmp_path / "out")


def test_an_unwritable_folder(segmenter, photo, picture, tmp_path):
    (tmp_path / "file").write_text("no folder")
    out = tmp_path / "file" / "out"
    with pytest.raises(GensegError) as error:
        segmenter(photo).save(out / "photo.npz")
    in_one_sentence(str(error.value), str(out), "choose another output folder")
    refuses((f"cannot write to {out}", "choose another --out"), picture, out=out)


@contextlib.contextmanager
def full_disk(after: int):
    """No file may grow beyond ``after`` bytes; Python ignores the signal, so that writing fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("kind", ["overlay", "npz"])
def test_a_full_disk(kind, segmenter, photo, picture, tmp_path):
    seg = segmenter(photo)
    with full_disk(after=3000):
        with pytest.raises(GensegError) as error:
            seg.save(tmp_path / "photo.npz")
        parts = (f"cannot write {tmp_path / 'out' / 'photo'}.{kind}", "choose another output folder")
        refuses(parts, picture, "--save", f"labels,{kind}", out=tmp_path / "out")
    in_one_sentence(str(error.value), "photo.npz", "choose another output folder")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
