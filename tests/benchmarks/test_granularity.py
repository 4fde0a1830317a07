"""Coverings of a tree's cuts beside those of Ward's linkage."""

import json

import numpy as np
import pytest

import genseg
import granularity
from genseg.evaluation.metrics import covering


def test_coverings_of_all_cuts_are_those_of_the_metric(tiny, photo):
    recipe = tiny.resolve(None, ["n_clusters=6", "draws=1", "n_init=1", "size=64", "margin=0"])
    seg = genseg.Segmenter(tiny, recipe)(photo)
    truths = [np.indices((photo.height, photo.width))[axis] // 20 for axis in (0, 1)]
    figures = granularity.of_tree(seg, truths)
    cuts = [seg.merge(n).labels for n in range(1, seg.tree.n_regions + 1)]
    expected = [np.mean([covering(np.unique(cut, return_inverse=True)[1], truth) for truth in truths]) for cut in cuts]
    assert figures == pytest.approx(expected)
    linkage = granularity.of_linkage(seg, truths)
    labels = np.unique(seg.labels, return_inverse=True)[1]
    assert linkage[0] == pytest.approx(figures[0])
    assert linkage[-1] == pytest.approx(np.mean([covering(labels, truth) for truth in truths]))


@pytest.mark.slow
def test_the_figures_are_written(data, tmp_path):
    quick = ["n_clusters=6", "draws=1", "n_init=1", "size=64", "margin=0"]
    granularity.main(["--data", str(data / "bsds"), "--out", str(tmp_path / "figures.json"), *quick])
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["best cut of each photo"][0] >= figures["natural cut"][0] > 0
