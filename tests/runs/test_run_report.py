"""A run's report: each class with its most typical masks, cut out; written anew whenever it would be stale."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from colors import Colors
from PIL import Image
from two_colors import COLORS, row_of, run_of

from genseg import export_run, find_concepts, name_run
from genseg.runs.report import NAME, write_report
from genseg.runs.run import Run
from genseg.runs.tables import table_of
from genseg.runs.typical import SIDE, cutout, typical_masks

N = 12
SPREAD = np.arange(7, 7 * N + 7, 7) % N / np.float32(N) + np.arange(N, dtype=np.float32) ** 2 / 200


@pytest.fixture
def run(tmp_path) -> Run:
    """Twelve images; the embeddings of their red masks are about 0, those of the blue ones about 10."""
    rows = []
    for index in range(N):
        row = row_of(index)
        masks = [replace(mask, embedding=np.float32([10 * mask.label + SPREAD[index]])) for mask in row.masks]
        rows.append(replace(row, masks=tuple(masks)))
    return run_of(tmp_path / "run", rows, shard=5)


def section(run: Run, classes: str) -> str:
    """The part of the report that shows a set of classes."""
    return Path(run.store.path(NAME)).read_text().split(f'id="classes-{classes}"')[1].split("</section>")[0]


@pytest.mark.parametrize("classes", ["concepts", "colors"])
def test_the_masks_nearest_to_the_center_stand_for_a_class(run, classes):
    """Of concepts it is that of k-means, which the mean of the masks is too; of other classes the mean."""
    find_concepts(run, 2, name="concepts")
    nearest = [f"image-{n}" for n in np.argsort(np.abs(SPREAD - SPREAD.mean()))[:8]]
    found = {mask.places[0].label: mask for mask in typical_masks(run, classes)}
    assert set(found) == {0, 1}
    for label, mask in found.items():
        assert [(place.key, place.label) for place in mask.places] == [(key, label) for key in nearest]
        assert mask.masks == N
        assert mask.pixels == sum(row.masks[label].area for row in run.rows())


def test_a_cutout_is_the_box_of_a_mask_with_the_rest_faded():
    picture = Image.new("RGB", (400, 300), (200, 60, 40))
    mask = np.zeros((300, 400), dtype=bool)
    mask[100:200, 50:350] = mask[200:250, 50:200] = True
    seen = np.asarray(cutout(picture, mask)).astype(int)
    assert seen.shape == (SIDE // 2, SIDE, 3)
    assert np.abs(seen[10, 90] - (200, 60, 40)).max() <= 2
    assert np.abs(seen[-4, -4] - (244, 216, 212)).max() <= 2


def test_the_report_shows_typical_masks_and_shares(run):
    find_concepts(run, 2)
    shown = section(run, "concepts-2")
    counts = {mask.name: mask for mask in typical_masks(run, "concepts-2")}
    pixels = sum(mask.pixels for mask in counts.values())
    for part in shown.split("<h3>")[1:]:
        mask = counts[part[:9]]
        assert f"{mask.pixels / pixels:.1%} of the pixels, {N} masks (50.0%)" in part
        pictures = re.findall(r"base64,([^\"]+)\" alt=\"(mask \d of image-\d+)\"", part)
        assert [alt for _, alt in pictures] == [f"mask {place.label} of {place.key}" for place in mask.places]
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0][0]))).convert("RGB"), dtype=float)
        color = COLORS[mask.places[0].label]
        assert (np.abs(seen - color).max(axis=2) < 60).mean() > 0.5


def test_the_report_is_never_stale(run, tmp_path):
    find_concepts(run, 2)
    assert "concept 1" in section(run, "concepts-2")
    name_run(run, "red,blue", Colors())
    assert "<h3>blue" in section(run, "names")
    row = replace(row_of(N), key="late")
    run.store.write_table("shards/shard-00009.parquet", table_of([row]))
    export_run(run, "huggingface", tmp_path / "out")
    assert "images that came after its classes names; give them again" in section(run, "names")


def test_a_class_whose_images_are_gone_has_no_pictures(run):
    for shard in run.shards:
        rows = [replace(row, image=None) for row in run.rows(shards=[shard])]
        run.store.write_table(shard, table_of(rows))
    write_report(run)
    assert section(run, "colors").count("Its images cannot be read any more.") == 2


def test_a_run_that_cannot_be_written_to_can_be_exported(run, tmp_path):
    Path(run.store.path(NAME)).mkdir()
    assert export_run(run, "huggingface", tmp_path / "out").images == N
