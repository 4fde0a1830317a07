"""Fixtures of the app's tests: an engine, a session with a photo, and one whose photo is segmented."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genseg.app.downloads import download
from genseg.app.session import Session
from genseg.web.engine import Engine
from genseg.web.request import SegmentRequest

QUICK = ("n_clusters=4", "size=32", "margin=0", "draws=1", "replay_steps=1", "n_init=1", "modulate=true")

REQUEST = SegmentRequest(options=QUICK, seed=3)

ROOT = Path(__file__).parents[2]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def pixels(session: Session, which: int = 0, kind: str = "labels.png", **how) -> np.ndarray:
    """The pixels of a download that is a picture."""
    return np.asarray(Image.open(io.BytesIO(download(session, which, kind, **how)[1])))


@pytest.fixture(scope="module")
def engine(sd_checkpoint):
    return Engine(max_pixels=100_000, models={"sd14": str(sd_checkpoint)}, device="cpu")


@pytest.fixture
def session(engine, photo):
    made = Session(engine)
    made.edit(by="number")
    made.take(png(photo), "my photo's.png")
    return made


@pytest.fixture(scope="module")
def done(engine, photo):
    """A session with one result, which is not to be changed."""
    made = Session(engine)
    made.edit(by="number")  # all segments, for no number is set
    made.take(png(photo), "photo.png")
    statuses = list(made.segment([REQUEST]))
    return made, statuses


@pytest.fixture
def edited(done):
    """A session with the result of `done`, which may be edited."""
    made = Session(done[0].engine)
    made.name, made.image, made.edits = done[0].name, done[0].image, done[0].edits
    made._show(done[0].requests, done[0].results)
    return made
