from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genseg
from genseg import GensegError, Segmenter, load_recipe
from genseg.cluster import masks_of
from genseg.parts import components

QUICK = {"draws": 1, "replay_steps": 1, "n_init": 1, "n_clusters": 4, "size": 32, "margin": 0, "modulate": True}


@pytest.fixture(scope="module")
def segmenter(tiny) -> Segmenter:
    return Segmenter(tiny, **QUICK)


def test_labels_have_the_inputs_own_size_and_range(segmenter: Segmenter, astronaut: Image.Image):
    image = astronaut.crop((0, 0, 321, 200))
    seg = segmenter(image)
    assert seg.labels.shape == (200, 321)
    assert seg.labels.dtype == np.int32
    assert 0 <= seg.labels.min() <= seg.labels.max() < 4
    assert seg.embeddings.shape == (4, segmenter.tap.channels)
    assert seg.grid_labels.shape == segmenter.tap.grid_for(*_model_size(segmenter, image))
    assert seg.scores is None


def test_a_segmenter_tells_its_model_and_recipe_in_a_line(segmenter: Segmenter):
    assert repr(segmenter) == (
        "Segmenter(backend='tiny', device='cpu', n_clusters=4, tap='up1.2.output', modulate=True, seed=0)"
    )


def _model_size(segmenter: Segmenter, image: Image.Image) -> tuple[int, int]:
    from genseg.images import model_size

    return model_size(*image.size, 32, segmenter.backend.size_multiple, "area")[::-1]


def test_same_everything_same_labels(segmenter: Segmenter, astronaut: Image.Image):
    first, second = segmenter(astronaut), segmenter(astronaut)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.embeddings, second.embeddings)


def test_the_result_can_be_had_again_from_what_it_says(segmenter: Segmenter, astronaut: Image.Image, tmp_path: Path):
    seg = genseg.Segmentation.load(segmenter(astronaut).save(tmp_path / "x.npz"))
    again = genseg.segment(astronaut, backend=segmenter.backend, recipe=seg.recipe, seed=seg.seed)
    assert np.array_equal(again.labels, seg.labels)


def test_seeds_draw_other_noise(tiny, astronaut: Image.Image):
    embeddings = [Segmenter(tiny, seed=seed, **QUICK)(astronaut).embeddings for seed in (0, 1)]
    assert not np.array_equal(*embeddings)


def test_path_image_and_array_give_the_same(segmenter: Segmenter, astronaut: Image.Image, tmp_path: Path):
    astronaut.save(tmp_path / "a.png")
    array = np.asarray(astronaut)
    given = [tmp_path / "a.png", str(tmp_path / "a.png"), astronaut, array, torch.tensor(array).permute(2, 0, 1)]
    labels = [seg.labels for seg in segmenter.map(given)]
    assert all(np.array_equal(labels[0], other) for other in labels[1:])


def test_stages_are_told_in_order(tiny, astronaut: Image.Image):
    told = []
    seg = Segmenter(tiny, progress=lambda *step: told.append(step), **QUICK)(astronaut)
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["encode", "features", "cluster", "modulate", "decode", "labels"]
    assert ["read", *stages] == list(seg.cost.seconds)
    assert [done for stage, done, total in told if (stage, total) == ("decode", 4)] == [0, 4, 4]


def test_without_modulation_masks_of_the_clusters_are_upsampled(tiny, astronaut: Image.Image):
    segmenter = Segmenter(tiny, **QUICK | {"modulate": False, "keep_scores": True})
    seg = segmenter(astronaut)
    assert seg.cost.evaluations == QUICK["draws"]
    assert list(seg.cost.seconds) == ["read", "encode", "features", "cluster", "labels"]
    expected = genseg.upsample(astronaut, masks_of(seg.grid_labels, 4), seg.scores.shape[1:], "jbu")
    assert np.abs(seg.scores - expected.numpy()).max() < 1e-5


def test_progress_of_modulation_counts_evaluations_in_masks(tiny, astronaut: Image.Image):
    told = []
    Segmenter(tiny, progress=lambda *step: told.append(step), **QUICK | {"batch_size": 2})(astronaut)
    assert [step for step in told if step[0] == "modulate"] == [("modulate", n, 4) for n in (0, 0, 1, 2, 3, 4, 4)]
    assert tiny.meter.listener is None


def test_map_reads_one_image_ahead_and_stops_at_a_broken_one(segmenter: Segmenter, astronaut: Image.Image):
    taken = []

    def images():
        for number, image in enumerate([astronaut, astronaut, "missing.png", astronaut]):
            taken.append(number)
            yield image

    results = segmenter.map(images())
    assert taken == []
    assert next(results).n_segments > 1
    assert taken == [0, 1]
    assert next(results).n_segments > 1
    with pytest.raises(GensegError, match=r"missing\.png"):
        next(results)


def test_cost_is_what_was_spent(segmenter: Segmenter, astronaut: Image.Image):
    seg = segmenter(astronaut)
    assert seg.cost.decodes == 2 * 4
    # one draw, and one step of the unmodified sample and 4 pairs
    assert seg.cost.evaluations == 1 + 1 + 2 * 4
    assert seg.cost.peak_memory > 1e6


def test_scores_on_request_and_square_resize(tiny, astronaut: Image.Image):
    seg = Segmenter(tiny, keep_scores=True, resize="square", **QUICK)(astronaut.crop((0, 0, 400, 100)))
    assert seg.scores is not None
    assert seg.scores.shape == (4, 32, 32)
    assert seg.labels.shape == (100, 400)


def test_auto_merges_25_clusters_into_a_natural_number_of_segments(tiny, astronaut: Image.Image):
    auto, many = (Segmenter(tiny, **QUICK | {"n_clusters": k, "size": 128})(astronaut) for k in ("auto", 25))
    assert np.array_equal(auto.labels, many.merge("auto").labels)
    assert 2 <= auto.n_segments < many.tree.n_regions
    assert auto.recipe.n_clusters == "auto"


def test_auto_takes_an_image_of_one_color(tiny):
    seg = Segmenter(tiny, **{**QUICK, "n_clusters": "auto"})(np.full((64, 64, 3), 90, np.uint8))
    assert 1 <= seg.n_segments <= 25


def test_a_generated_image_is_segmented_without_inversion(tiny):
    segmenter = Segmenter(tiny, **QUICK | {"margin": 16, "num_inference_steps": 3, "t_m": 334})
    first, again, other = segmenter.generate(seed=1), segmenter.generate(seed=1), segmenter.generate(seed=2)
    assert first.labels.shape == first.image.shape[:2] == (tiny.image_size, tiny.image_size)
    assert first.n_segments > 1
    assert first.seed == 1
    assert first.recipe.margin == 0
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image, other.image)


def test_the_state_of_a_generated_image_gives_the_samplers_own_image_back(tiny):
    recipe = load_recipe("paper", calibration=tiny.recipe, num_inference_steps=10, margin=0)
    state, point = tiny.generate("", 3, recipe), next(iter(tiny.points.values()))
    estimate = tiny.regenerate(state, point, torch.zeros(1, *point.grid), recipe)
    torch.testing.assert_close(estimate, state.latents[-1:], atol=1e-4, rtol=0)
    for residual, step in zip(state.residuals, state.steps, strict=True):  # a step's noise, and nothing else
        assert residual.std().item() == pytest.approx(tiny.schedule.deviation(*step), rel=0.05)


def test_float32_convolutions_are_exact_on_cuda_unless_matrix_products_are_not(tiny, astronaut):
    """Torch's default for NVIDIA's cards is TF32, with ten bits, in convolutions alone."""
    convolutions, seen = torch.backends.cudnn.conv, set()
    hook = tiny.network.conv_in.register_forward_hook(lambda *_: seen.add(convolutions.fp32_precision))
    try:
        Segmenter(tiny, **QUICK)(astronaut)
        torch.set_float32_matmul_precision("high")
        Segmenter(tiny, **QUICK).reconstruction(astronaut)
    finally:
        hook.remove()
        torch.set_float32_matmul_precision("highest")
    assert seen == {"ieee", "tf32"}
    assert convolutions.fp32_precision == "tf32"


def test_a_prompt_needs_a_text_encoder(tiny):
    with pytest.raises(GensegError, match="no text encoder here, so it takes no prompt; leave it out"):
        Segmenter(tiny, **QUICK).generate("a cat")


def test_parts_below_min_area_join_their_neighbors(segmenter: Segmenter, astronaut: Image.Image):
    fine, coarse = (Segmenter(segmenter.backend, **QUICK, min_area=share)(astronaut) for share in (0, 0.02))
    sizes, before = (np.bincount(components(seg.labels).ravel()) / seg.labels.size for seg in (coarse, fine))
    assert before.min() < 0.02 <= sizes.min()
    changed = coarse.labels != fine.labels
    assert changed.any()
    assert (coarse.confidence[changed] == 0).all()
    assert np.array_equal(coarse.confidence[~changed], fine.confidence[~changed])


def test_connected_parts_become_segments(segmenter: Segmenter, astronaut: Image.Image):
    whole, parts = (
        segmenter(astronaut),
        Segmenter(segmenter.backend, **QUICK, connected=True)(astronaut),
    )
    assert np.array_equal(parts.labels, components(whole.labels))
    owner = [whole.labels[parts.labels == k][0] for k in range(parts.n_segments)]
    assert np.array_equal(parts.embeddings, whole.embeddings[owner])
    assert len(parts.colors) == parts.n_segments
    assert parts.grid_labels.shape == whole.grid_labels.shape
    assert parts.merge(2).n_segments == 2
