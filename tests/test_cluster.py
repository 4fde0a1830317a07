import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from genseg import GensegError, load_recipe
from genseg.cluster import cluster, masks_of


def blobs(k: int, side: int = 12, channels: int = 8, noise: float = 0.05) -> tuple[torch.Tensor, np.ndarray]:
    """A feature map whose positions are noisy copies of k distant vectors, and which is which."""
    rng = np.random.default_rng(k)
    truth = rng.integers(k, size=(side, side))
    centres = 3 * rng.normal(size=(k, channels))
    features = centres[truth] + noise * rng.normal(size=(side, side, channels))
    return torch.from_numpy(features).permute(2, 0, 1).float(), truth


@pytest.fixture
def recipe():
    return load_recipe("paper", n_init=3)


def test_separate_groups_are_found_with_their_means(recipe):
    features, truth = blobs(5)
    labels, embeddings = cluster(features, load_recipe(recipe, n_clusters=5))
    assert labels.dtype == np.int32
    assert adjusted_rand_score(truth.ravel(), labels.ravel()) == 1
    for k in range(5):
        assert embeddings[k] == pytest.approx(features[:, labels == k].mean(dim=1).numpy(), abs=1e-5)


def test_masks_partition_the_grid():
    labels = np.array([[0, 2], [2, 1]], dtype=np.int32)
    masks = masks_of(labels, 3)
    assert masks.shape == (3, 2, 2)
    assert torch.equal(masks.sum(dim=0), torch.ones(2, 2))
    assert masks[2].tolist() == [[0, 1], [1, 0]]


def test_auto_takes_a_grid_smaller_than_its_clusters(recipe):
    labels, embeddings = cluster(torch.randn(4, 3, 3), load_recipe(recipe, n_clusters="auto"))
    assert len(embeddings) == len(np.unique(labels)) == 9
    assert len(cluster(torch.randn(4, 6, 6), load_recipe(recipe, n_clusters="auto"))[1]) == 25


def test_more_clusters_than_positions_is_an_error(recipe):
    with pytest.raises(GensegError, match="3x3 = 9 positions"):
        cluster(torch.randn(4, 3, 3), load_recipe(recipe, n_clusters=10))


def test_features_that_are_not_finite_are_an_error(recipe):
    with pytest.raises(GensegError, match="float32"):
        cluster(torch.full((4, 6, 6), torch.nan), recipe)


def test_a_uniform_map_gives_clusters_without_complaint(recipe, recwarn):
    labels, embeddings = cluster(torch.ones(4, 6, 6), load_recipe(recipe, n_clusters=5))
    assert labels.shape == (6, 6)
    assert len(embeddings) == 5
    assert not recwarn


def test_position_tells_apart_what_lies_apart(recipe):
    features = torch.zeros(4, 8, 12)
    features[0, :, 4:8] = 1  # a band between two that look alike
    alike, _ = cluster(features, load_recipe(recipe, n_clusters=2))
    assert alike[0, 0] == alike[0, -1] != alike[0, 5]
    labels, embeddings = cluster(features, load_recipe(recipe, n_clusters=3, position=1.0))
    assert len({labels[0, 0], labels[0, 5], labels[0, -1]}) == 3
    assert embeddings.shape == (3, 4)
    for k in range(3):
        assert embeddings[k] == pytest.approx(features[:, labels == k].mean(dim=1).numpy(), abs=1e-5)


def test_position_does_not_depend_on_the_scale_of_the_features(recipe):
    features, _ = blobs(5)
    asked = load_recipe(recipe, n_clusters=5, position=0.7)
    labels = [cluster(scale * features, asked)[0] for scale in (1, 1000)]
    assert adjusted_rand_score(*(each.ravel() for each in labels)) == 1
