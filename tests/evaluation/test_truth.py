import numpy as np
import pytest
from PIL import Image

from genseg import GensegError
from genseg.comparison.inputs import load_truth
from genseg.evaluation.metrics import IGNORE

CLASSES = np.tile(np.arange(20, dtype=np.uint8) // 5, (16, 1))


def test_a_grayscale_or_indexed_png_is_read_as_the_numbers_it_holds(tmp_path):
    gray = Image.fromarray(np.where(CLASSES == 3, 255, CLASSES).astype(np.uint8))
    indexed = gray.copy()
    indexed.putpalette([9, 9, 9] * 256)
    for name, picture in (("gray", gray), ("indexed", indexed)):
        picture.save(tmp_path / f"{name}.png")
        found = load_truth(tmp_path / f"{name}.png", 16, 20, 10**6)
        assert found.dtype == np.int64
        assert np.array_equal(found, np.where(CLASSES == 3, IGNORE, CLASSES.astype(int)))


def test_arrays_of_any_integers_are_taken():
    assert np.array_equal(load_truth(CLASSES.astype(np.int16) - 1, 16, 20, 10**6), CLASSES.astype(int) - 1)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (CLASSES[:, :10], "10x16 pixels and its image 20x16"),
        (CLASSES / 2, "one whole number a pixel"),
        (np.stack([CLASSES] * 3, axis=-1), "one whole number a pixel"),
    ],
)
def test_what_is_no_map_of_the_image_is_refused(array, words):
    with pytest.raises(GensegError, match=words):
        load_truth(array, 16, 20, 10**6)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(GensegError, match="does not exist"):
        load_truth(tmp_path / "none.png", 16, 20, 10**6)
