"""Fixtures of the service's tests: a service with small limits and a cheap recipe, and the answers it should give."""

import base64
import gc
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import genseg
from genseg.service.images import ImageReader
from genseg.service.segmenting import ImageSegmenter
from genseg.service.server import Service
from genseg.web.limits import Limits
from genseg.web.request import SegmentRequest

QUICK = ("n_clusters=4", "size=32", "margin=0", "draws=1", "replay_steps=1", "n_init=1")
LIMITS = Limits(upload_mb=0.1, max_pixels=50_000, queue=0)
LOCAL = "http://127.0.0.1:9090"


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def data_uri(image: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def client_of(segmenter: ImageSegmenter, folder: Path | None = None, **options: object) -> TestClient:
    service = Service(segmenter, ImageReader(100_000, folder), **options)
    return TestClient(service.application, base_url=LOCAL)


@pytest.fixture(scope="module")
def segmenter():
    made = ImageSegmenter(SegmentRequest(options=QUICK, device="cpu"), LIMITS)
    made.start()
    gc.freeze()  # a run ends by looking through all objects, of which torch has many
    yield made
    gc.unfreeze()


@pytest.fixture(scope="module")
def client(segmenter, tmp_path_factory, photo):
    folder = tmp_path_factory.mktemp("images")
    (folder / "upload/7").mkdir(parents=True)
    photo.save(folder / "upload/7/a b.png")
    return client_of(segmenter, folder)


@pytest.fixture(scope="module")
def expected(tiny, photo) -> genseg.Segmentation:
    """The same photo by the API."""
    return genseg.Segmenter(tiny, tiny.resolve(options=QUICK))(photo)


def labels_of(runs: list[dict], size: tuple[int, int]) -> np.ndarray:
    """The label map (H, W) of masks in COCO's uncompressed run lengths; -1 where there is no mask."""
    labels = np.full(size, -1)
    for label, mask in enumerate(runs):
        assert mask["size"] == list(size)
        flat = np.repeat(np.arange(len(mask["counts"])) % 2 == 1, mask["counts"])
        pixels = np.pad(flat, (0, labels.size - len(flat))).reshape(size, order="F")
        assert (labels[pixels] == -1).all()
        labels[pixels] = label
    return labels
