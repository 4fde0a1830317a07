"""The masks of an evaluation on disk: what is saved is read back, and a file that cannot be is named."""

import numpy as np
import pytest

from genseg import GensegError
from genseg.evaluation.mask_store import MaskStore, MethodMasks
from genseg.evaluation.method import Masks
from genseg.segmentation.tree import Tree

SEGMENTS = np.arange(64 * 64, dtype=np.int32).reshape(64, 64) % 3
SAVED = {
    "segments": SEGMENTS.astype(np.uint16),
    "embeddings": np.eye(3, 5, dtype=np.float32),
    "named": np.array([4, 0, 2]),
}


@pytest.fixture
def store(tmp_path):
    """With the masks of one image by one method, and two ground truths."""
    store = MaskStore(tmp_path, {})
    store.save("grid", "photo", MethodMasks(Masks(SEGMENTS, SAVED["embeddings"]), SAVED["named"]))
    store.save_truths("photo", [SEGMENTS, SEGMENTS.T])
    return store


def test_what_is_saved_is_read_back(store):
    result = store.masks("grid", "photo")
    assert result.masks.segments.dtype == np.int32
    assert np.array_equal(result.masks.segments, SEGMENTS)
    assert np.array_equal(result.masks.embeddings, SAVED["embeddings"])
    assert np.array_equal(result.named, SAVED["named"])
    assert all(map(np.array_equal, store.truths("photo"), [SEGMENTS, SEGMENTS.T]))


def test_what_compresses_well_is_read_back_at_any_size(store, monkeypatch):
    monkeypatch.setattr("genseg.files.LARGE", 2**16)
    even = np.zeros((512, 512), dtype=np.int32)
    even[0, 0] = -1
    store.save_truths("even", [even, even])
    store.save("grid", "even", MethodMasks(Masks(even + 1, None), None))
    assert all(map(np.array_equal, store.truths("even"), [even, even]))
    assert np.array_equal(store.masks("grid", "even").masks.segments, even + 1)


def test_truths_take_as_many_bytes_as_their_classes_need(store):
    many = np.where(SEGMENTS > 1, 2**17, -1)
    store.save_truths("photo", [SEGMENTS, many])
    with np.load(store.folder / "truths/photo.npz") as file:
        assert [array.itemsize for array in file.values()] == [1, 4]
    assert all(map(np.array_equal, store.truths("photo"), [SEGMENTS, many]))


def test_a_merge_tree_is_read_back_and_refused_with_other_segments(store):
    halves = np.repeat([[0, 1]], 64, axis=0).repeat(32, axis=1).astype(np.int32)
    tree = Tree(np.array([[0, 1]]), np.array([0.5]))
    store.save("modulation", "photo", MethodMasks(Masks(halves, None, tree), None))
    result = store.masks("modulation", "photo").masks.tree
    assert result.merges.tolist() == [[0, 1]]
    assert result.heights.tolist() == [0.5]
    assert store.masks("grid", "photo").masks.tree is None
    store.save("modulation", "photo", MethodMasks(Masks(SEGMENTS, None, tree), None))
    with pytest.raises(GensegError, match=r"photo\.npz is damaged; remove it"):
        store.masks("modulation", "photo")


DAMAGES = {
    "bytes that are no longer deflate's": None,
    "a bomb": {"segments": np.zeros((1024, 1024), np.uint16)},
    "embeddings of other segments": {"embeddings": np.eye(2, 5, dtype=np.float32)},
    "names that are no integers": {"named": np.array(["a", "b", "c"])},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_masks_are_named_with_the_cure(store, damage, monkeypatch):
    monkeypatch.setattr("genseg.files.LARGE", 2**16)
    path = store.folder / "masks/grid/photo.npz"
    if DAMAGES[damage] is None:
        content = bytearray(path.read_bytes())
        content[60:100] = b"\xff" * 40
        path.write_bytes(content)
    else:
        np.savez_compressed(path, **SAVED | DAMAGES[damage])
    with pytest.raises(GensegError, match=r"photo\.npz is damaged; remove it and run the evaluation again"):
        store.masks("grid", "photo")


def test_damaged_truths_are_named_with_the_cure(store):
    np.savez_compressed(store.folder / "truths/photo.npz", truth0=SEGMENTS, truth1=SEGMENTS[:, :9])
    with pytest.raises(GensegError, match=r"truths/photo\.npz is damaged"):
        store.truths("photo")
