"""What the tests of the app begin with: an engine, a session with a photo, and one whose photo is segmented."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genseg.app.downloads import download
from genseg.app.session import Session
from genseg.web.engine import Engine
from genseg.web.request import SegmentRequest

QUICK = ("n_clusters=4", "size=64", "draws=1", "replay_steps=1", "n_init=1")

REQUEST = SegmentRequest(options=QUICK, seed=3)

ROOT = Path(__file__).parents[2]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def labels_of(session: Session, which: int = 0) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(download(session, which, "labels.png")[1])))


@pytest.fixture(scope="module")
def engine(sd_checkpoint):
    return Engine(max_pixels=100_000, models={"sd14": str(sd_checkpoint)}, device="cpu")


@pytest.fixture
def session(engine, photo):
    made = Session(engine)
    made.take(png(photo), "my photo's.png")
    return made


@pytest.fixture(scope="module")
def done(engine, photo):
    """A session with one result, which is not to be changed."""
    made = Session(engine)
    made.take(png(photo), "photo.png")
    statuses = list(made.segment([REQUEST]))
    return made, statuses
