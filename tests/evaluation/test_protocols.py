"""Which class each protocol gives each segment."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from genseg.errors import GensegError
from genseg.evaluation.metrics import IGNORE
from genseg.evaluation.protocols import PROTOCOLS, Contingency, protocol_named
from genseg.evaluation.protocols.rules import merge_unmatched
from genseg.evaluation.reservoir import Reservoir


def made_up_set(n_images=12, n_classes=4, width=6, noise=0.2, seed=0):
    """Segments that are mostly of one class and whose embeddings say which."""
    rng = np.random.default_rng(seed)
    concepts = rng.standard_normal((n_classes, width))
    views = []
    for _ in range(n_images):
        classes = rng.integers(0, n_classes, 7)
        table = rng.integers(0, 4, (7, n_classes))
        table[np.arange(7), classes] += 40
        table[0] = 0  # nothing measured
        embeddings = concepts[classes] + noise * rng.standard_normal((7, width))
        views.append(Contingency(table, embeddings.astype(np.float32)))
    return views


def fitted(name, views, n_classes=4, seed=0):
    protocol = protocol_named(name, n_classes, seed)
    for _ in range(protocol.passes):
        for view in views:
            protocol.fit(view)
        protocol.close()
    return protocol


def right(protocol, views):
    return sum(view.table[np.flatnonzero(c >= 0), c[c >= 0]].sum() for view in views for c in [protocol.classes(view)])


def test_every_protocol_goes_by_its_name():
    assert all(protocol_named(name, 3).name == name for name in PROTOCOLS)
    assert [name for name in PROTOCOLS if protocol_named(name, 3).needs_embeddings] == ["traditional", "concept"]
    assert [name for name in PROTOCOLS if not protocol_named(name, 3).pooled] == ["per-image-many-to-one"]


def test_an_unknown_protocol_is_refused():
    with pytest.raises(GensegError, match=r"unknown protocol 'hungarian'.*per-image-hungarian"):
        protocol_named("hungarian", 3)


def test_a_set_of_regions_has_the_oracle_alone():
    assert protocol_named("oracle", None).name == "oracle"
    for name in set(PROTOCOLS) - {"oracle"}:
        with pytest.raises(GensegError, match="needs classes and this dataset has none"):
            protocol_named(name, None)


# --- one image at a time --------------------------------------------------------------------------------------------

TABLE = np.array([[5, 4, 0], [9, 1, 0], [0, 0, 0], [1, 1, 0]])


@pytest.mark.parametrize("name", ["oracle", "per-image-many-to-one"])
def test_majority(name):
    assert protocol_named(name, 3).classes(Contingency(TABLE)).tolist() == [0, 0, IGNORE, 0]


def test_one_to_one_leaves_segments_and_classes_over():
    # 9 + 4 pixels right beats 5 + 1; no segment is left for which class 2 has a pixel
    assert protocol_named("per-image-hungarian", 3).classes(Contingency(TABLE)).tolist() == [1, 0, IGNORE, IGNORE]


def test_all_segments_take_classes_while_there_are_some():
    # segments 0 and 1 as above; one of the others takes class 2, without a pixel of it, and one is left over
    classes = protocol_named("per-image-hungarian-all", 3).classes(Contingency(TABLE)).tolist()
    assert classes[:2] == [1, 0]
    assert sorted(classes[2:]) == [IGNORE, 2]
    few = protocol_named("per-image-hungarian-all", 5).classes(Contingency(np.pad(TABLE, ((0, 0), (0, 2)))))
    assert sorted(few.tolist()) in ([0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 3, 4])


@pytest.mark.parametrize("name", ["per-image-hungarian", "per-image-hungarian-all"])
def test_of_equal_matchings_one_is_taken(name):
    classes = protocol_named(name, 2).classes(Contingency(np.full((2, 2), 3)))
    assert sorted(classes.tolist()) == [0, 1]


def test_segments_are_matched_in_each_group_apart():
    table = np.array([[4, 0], [0, 3], [2, 0], [9, 9]])
    classes = protocol_named("per-image-hungarian-all", 2).classes(Contingency(table, ends=np.array([2, 3, 4])))
    assert classes[:3].tolist() == [0, 1, 0]
    assert classes[3] in (0, 1)


def test_segments_without_a_foreground_class_become_one():
    assert merge_unmatched(np.array([[5, 0], [0, 3], [0, 1], [0, 0]])).tolist() == [0, 1, 4, 4]


def test_a_foreground_class_that_the_image_lacks_keeps_no_segment():
    assert merge_unmatched(np.array([[5, 0, 0], [0, 0, 0], [1, 0, 0]])).tolist() == [0, 3, 3]


def test_a_foreground_class_within_the_segment_of_another_keeps_one():
    kept = merge_unmatched(np.array([[5, 4], [0, 0], [0, 0]])).tolist()
    assert kept in ([0, 1, 3], [0, 3, 2])


def test_an_image_of_background_alone_becomes_one_segment():
    assert merge_unmatched(np.zeros((3, 2), dtype=int)).tolist() == [3, 3, 3]


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_one_to_one_is_the_best_of_all_matchings(shape):
    view = Contingency(np.random.default_rng(0).integers(1, 50, shape))
    classes = protocol_named("per-image-hungarian", shape[1]).classes(view)
    given = classes[classes >= 0]
    assert len(given) == len(set(given.tolist())) == min(shape)
    table = view.table if shape[0] <= shape[1] else view.table.T
    best = max(
        table[np.arange(len(table)), order].sum() for order in itertools.permutations(range(table.shape[1]), len(table))
    )
    assert view.table[np.flatnonzero(classes >= 0), given].sum() == best


def test_open_vocabulary_takes_the_names():
    protocol = protocol_named("open-vocabulary", 3)
    assert protocol.classes(Contingency(TABLE, named=np.array([2, 1, 0, IGNORE]))).tolist() == [2, 1, 0, IGNORE]
    with pytest.raises(GensegError, match="name the masks first"):
        protocol.classes(Contingency(TABLE))


# --- over the whole set ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["traditional", "concept"])
def test_embeddings_that_say_the_class_give_what_the_oracle_gives(name):
    views = made_up_set()
    protocol, oracle = fitted(name, views), protocol_named("oracle", 4)
    for view in views:
        measured = view.table.any(axis=1)
        assert (protocol.classes(view) == oracle.classes(view))[measured].all()


@pytest.mark.parametrize("name", ["traditional", "concept"])
def test_methods_without_embeddings_are_refused(name):
    with pytest.raises(GensegError, match="needs an embedding for each mask"):
        fitted(name, [Contingency(TABLE)], 3)


def test_concepts_are_means_over_pixels():
    views = made_up_set(noise=2.0)
    pixels = np.concatenate([np.repeat(v.embeddings, v.table.sum(axis=1), axis=0) for v in views])
    truth = np.concatenate([np.repeat(np.tile(np.arange(4), 7), v.table.ravel()) for v in views])
    concepts = np.stack([pixels[truth == c].mean(axis=0) for c in range(4)])
    protocol = fitted("concept", views)
    differ = 0
    for view in views:
        assert (protocol.classes(view) == cdist(view.embeddings, concepts).argmin(axis=1)).all()
        differ += (protocol.classes(view) != protocol_named("oracle", 4).classes(view)).sum()
    assert differ > 10  # the noise makes it err


def test_a_class_that_the_set_lacks_is_no_concept():
    views = made_up_set()
    wider = [Contingency(np.pad(v.table, ((0, 0), (1, 1))), v.embeddings) for v in views]
    narrow, wide = fitted("concept", views), fitted("concept", wider, 6)
    assert all((wide.classes(w) == narrow.classes(v) + 1).all() for v, w in zip(views, wider, strict=True))


def test_traditional_is_one_clustering_and_the_best_matching_of_the_set():
    views = made_up_set(noise=2.0)
    protocol = fitted("traditional", views, seed=5)
    seen = np.concatenate([v.embeddings[v.table.any(axis=1)] for v in views])
    means = KMeans(4, n_init=1, random_state=5).fit(seen)
    clusters = [means.predict(v.embeddings) for v in views]
    matchings = itertools.permutations(range(4))
    best = max(
        sum(v.table[np.arange(7), np.array(m)[c]].sum() for v, c in zip(views, clusters, strict=True))
        for m in matchings
    )
    assert right(protocol, views) == best < right(protocol_named("oracle", 4), views)
    given = {
        int(k): int(c)
        for v, ks in zip(views, clusters, strict=True)
        for k, c in zip(ks, protocol.classes(v), strict=True)
    }
    assert sorted(given.values()) == [0, 1, 2, 3]  # one-to-one


def test_traditional_needs_as_many_masks_as_classes():
    with pytest.raises(GensegError, match="makes 9 clusters of 6 masks; take more images"):
        fitted("traditional", [Contingency(np.pad(v.table, ((0, 0), (0, 5))), v.embeddings) for v in made_up_set(1)], 9)


def test_traditional_is_the_same_each_time_beyond_its_sample(monkeypatch):
    monkeypatch.setattr("genseg.evaluation.reservoir.MAX_VECTORS", 30)
    views = made_up_set(noise=0.5)
    first, second = fitted("traditional", views), fitted("traditional", views)
    assert all((first.classes(v) == second.classes(v)).all() for v in views)
    assert right(first, views) > 0.8 * right(protocol_named("oracle", 4), views)


def test_the_sample_is_uniform_over_the_stream(monkeypatch):
    monkeypatch.setattr("genseg.evaluation.reservoir.MAX_VECTORS", 10)
    kept = np.zeros(40)
    for seed in range(600):
        reservoir = Reservoir(seed)
        for chunk in np.split(np.arange(40, dtype=np.float32)[:, None], [3, 9, 11, 30]):
            reservoir.add(chunk)
        sample = reservoir.vectors().ravel().astype(int)
        assert len(set(sample.tolist())) == 10
        kept[sample] += 1
    assert kept / 600 == pytest.approx(np.full(40, 0.25), abs=0.08)


def test_the_sample_is_all_while_it_fits_and_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr("genseg.evaluation.reservoir.MAX_BYTES", 4 * 8 * 5)
    reservoir = Reservoir(0)
    vectors = np.arange(32, dtype=np.float32).reshape(4, 8)
    reservoir.add(vectors)
    assert (reservoir.vectors() == vectors).all()
    reservoir.add(vectors)
    assert reservoir.vectors().shape == (5, 8)
