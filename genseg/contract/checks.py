"""The contract of backends as checks, for tests of plug-ins (`genseg.testing`) and ``genseg backends check``.

Each check takes a `CheckContext`. It raises `ContractViolation`, whose message tells the backend's author what is wrong
and where to look, or `NotApplicable` where the backend does not claim the property.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.contract.context import (
    CheckContext,
    ContractViolation,
    InterruptionError,
    NotApplicable,
    interrupted,
    module_state,
    require,
    synthetic_image,
)
from genseg.contract.site_checks import (
    another_grid_is_refused,
    declarations,
    positions_are_the_images,
    sites_are_as_declared,
    sites_are_read_together_as_alone,
    tokens_are_where_they_are_declared,
)
from genseg.errors import GensegError
from genseg.images import to_image
from genseg.segmenter import Segmenter

LARGEST = 5.0  # bound on decoded pixels, nominally in [-1, 1]
SMALLEST = 1e-4  # least effect of an offset on some pixel


def a_zero_offset_changes_nothing(context: CheckContext) -> None:
    """A zero offset gives the same bits twice, the same at every point, and the image itself where it reconstructs."""
    backend = context.backend
    unmodified = context.regenerated(context.offsets(context.point)[:1])
    require(
        torch.equal(unmodified, context.regenerated(context.offsets(context.point)[:1])),
        "a zero offset gives other estimates the second time; switch dropout off and seed every draw",
    )
    for name, point in backend.points.items():
        other = context.regenerated(context.offsets(point)[:1], point)
        require(
            torch.allclose(unmodified, other, atol=context.tolerance, rtol=context.tolerance),
            f"a zero offset at {name} gives another estimate than at the default point; add the offset, and only that",
        )
    if backend.capabilities.reconstructs == "no":
        return
    expected = context.state.latents[-1:] if hasattr(context.state, "latents") else None
    reconstruction = unmodified if expected is not None else backend.decode(unmodified)
    expected = context.pixels if expected is None else expected
    rmse = (reconstruction.cpu() - expected.cpu()).square().mean().sqrt().item()
    exact = backend.capabilities.reconstructs == "exact"
    require(
        rmse < (10 * context.tolerance if exact else context.lossy),
        f"a zero offset gives the image back with an error of {rmse:.3g} (RMSE), though capabilities.reconstructs is "
        f"{backend.capabilities.reconstructs!r}; keep the residual, or declare less",
    )


def an_offset_changes_pixels(context: CheckContext) -> None:
    """A non-zero offset of either sign changes pixels, at every point."""
    for name, point in context.backend.points.items():
        none, *_, half = context.offsets(point)
        _, plus, minus = context.changes(context.regenerated(torch.stack([none, half, -half]), point))
        require(
            min(plus.max(), minus.max()) > SMALLEST,
            f"an offset at {name} changes no pixel by more than {plus.max():.1g}; a norm takes it out again: add it at "
            "the input of the attention's output projection",
        )


def an_offset_changes_most_inside_its_mask(context: CheckContext) -> None:
    """Offsets at the default point change pixels inside their masks more than outside, over the image's quarters."""
    if not context.locality:
        raise NotApplicable("untrained weights need not be local")
    height, width = context.point.grid_for(*context.pixels.shape[2:])
    masks = torch.zeros(5, height, width)
    for index, (rows, columns) in enumerate(
        (r, c)
        for r in (slice(height // 2), slice(height // 2, None))
        for c in (slice(width // 2), slice(width // 2, None))
    ):
        masks[index + 1, rows, columns] = 1
    changes = context.changes(context.regenerated(masks * context.recipe.strength))
    inside = F.interpolate(masks[None], changes.shape[1:], mode="nearest-exact")[0].bool()
    gains = [(c[i].mean() / c[~i].mean()).item() for c, i in zip(changes[1:], inside[1:], strict=True)]
    require(
        sum(gains) > len(gains),
        f"offsets change pixels outside their masks as much as inside (ratio {sum(gains) / len(gains):.2f}); check the "
        "order of the positions, or choose another default point",
    )


def rows_are_independent(context: CheckContext) -> None:
    """The result of a row does not depend on the other rows of its batch, nor on the batch size."""
    offsets, together = context.offsets(context.point), context.estimates
    scale = context.tolerance * max((together - together[:1]).abs().max().item(), SMALLEST)
    for what, other in (
        ("alone", torch.cat([context.regenerated(offset[None]) for offset in offsets])),
        ("in reverse order", context.regenerated(offsets.flip(0)).flip(0)),
        ("in batches of two", context.regenerated(offsets, batch_size=2)),
    ):
        distance = (together - other).abs().max().item()
        require(
            distance <= scale,
            f"a row of a batch differs by {distance:.2g} from the same row {what}; nothing may be computed across rows",
        )


def the_same_seed_gives_the_same(context: CheckContext) -> None:
    """The same seed gives the same bits; another seed draws other noise where there is a noise axis."""
    backend, recipe = context.backend, context.recipe
    if not backend.capabilities.deterministic:
        raise NotApplicable("the backend does not declare to be deterministic")
    tap, offsets = backend.find_tap(recipe.tap), context.offsets(context.point)

    def all_of(seed: int) -> tuple[Tensor, Tensor]:
        state = backend.encode(context.pixels, recipe, seed)
        return backend.features(state, tap, recipe), backend.regenerate(state, context.point, offsets, recipe)

    first, second, other = all_of(0), all_of(0), all_of(1)
    for name, one, two in zip(("features", "estimates"), first, second, strict=True):
        require(torch.equal(one, two), f"the same seed gives other {name}; draw from a generator of that seed")
    if backend.capabilities.noise_axis:
        require(
            not torch.equal(first[0], other[0]) or not torch.equal(first[1], other[1]),
            "another seed changes nothing; draw the noise from `seed`, or declare noise_axis=False",
        )


def nothing_is_left_behind(context: CheckContext) -> None:
    """No hook, forward, processor, mode or weight of the model stays changed, also after an exception midway."""
    backend, recipe = context.backend, context.recipe
    tap, offsets = backend.find_tap(recipe.tap), context.offsets(context.point)
    sites, attentions = list(backend.sites.values()), list(backend.attention_sites.values())
    before = module_state(backend)
    methods: dict[str, Callable[[], Tensor]] = {
        "features": lambda: backend.features(context.state, tap, recipe),
        "read": lambda: torch.cat([each.flatten() for each in backend.read(context.state, sites, recipe)]),
        "regenerate": lambda: backend.regenerate(context.state, context.point, offsets, recipe),
    }
    if attentions:
        methods["read_attention"] = lambda: backend.read_attention(context.state, attentions[-1:], recipe)[0]
    for name, method in methods.items():
        with interrupted(None) as calls:
            method()
        require(module_state(backend) == before, f"{name} leaves hooks, forwards or modes behind in the model")
        for stop in {len(calls) // 2, len(calls) - 1}:
            with suppress(InterruptionError), interrupted(stop):
                method()
            require(
                module_state(backend) == before,
                f"{name} leaves hooks, forwards or modes behind when an exception ends it; use context managers, as "
                "genseg.sites.offset and genseg.sites.read",
            )


def pixels_are_pixels(context: CheckContext) -> None:
    """Decoded images are float32 [N, 3, H, W], finite, and nominally in [-1, 1]."""
    images = context.backend.decode(context.estimates)
    shape = (len(context.estimates), 3, *context.pixels.shape[2:])
    require(images.dtype == torch.float32, f"decode gives {images.dtype}; give float32, differences need it")
    require(tuple(images.shape) == shape, f"decode gives {list(images.shape)} where {list(shape)} is meant")
    require(images.isfinite().all(), "decode gives pixels that are not finite")
    require(
        images.abs().max() <= LARGEST and images[0].min() < 0,
        f"decode gives pixels from {images.min():.3g} to {images.max():.3g}; they are meant to lie in [-1, 1]",
    )


def cost_is_counted(context: CheckContext) -> None:
    """`Backend.meter` counts at least the rows that are regenerated, and calls its listener."""
    backend, meter, counts = context.backend, context.backend.meter, []
    offsets = context.offsets(context.point)
    evaluations, decodes, meter.listener = meter.evaluations, meter.decodes, lambda: counts.append(meter.evaluations)
    try:
        backend.features(context.state, backend.find_tap(context.recipe.tap), context.recipe)
        require(meter.evaluations > evaluations, "features does not count; call self.meter.count(evaluations=...)")
        evaluations = meter.evaluations
        estimates = backend.regenerate(context.state, context.point, offsets, context.recipe)
        counted = meter.evaluations - evaluations
        require(
            counted >= len(offsets),
            f"regenerate counts {counted} evaluations for {len(offsets)} rows; count every row of every pass",
        )
        backend.decode(estimates)
        require(meter.decodes - decodes >= len(offsets), "decode does not count; call self.meter.count(decodes=...)")
    finally:
        meter.listener = None
    require(counts, "the meter's listener is not called; count with self.meter.count()")


def generation_is_as_declared(context: CheckContext) -> None:
    """A model that generates gives the same image for the same seed, and another image for another seed."""
    backend = context.backend

    def image(seed: int) -> Tensor:
        state = backend.generate("", seed, context.recipe)
        return backend.decode(
            backend.regenerate(state, context.point, torch.zeros(1, *context.point.grid), context.recipe)
        )

    if not backend.capabilities.generates:
        try:
            backend.generate("", 0, context.recipe)
        except GensegError:
            return
        raise ContractViolation("generate works, though capabilities.generates is False; declare it")
    first, again, other = image(0), image(0), image(1)
    require(torch.equal(first, again), "the same seed generates another image; draw from a generator of that seed")
    require(not torch.allclose(first, other, atol=1e-3), "another seed generates the same image")


def a_photo_is_segmented(context: CheckContext) -> None:
    """A photo gets labels of its own size, from end to end."""
    height, width = context.pixels.shape[2:]
    photo = to_image(synthetic_image(height, width + height // 3)[0])
    seg = Segmenter(context.backend, replace(context.recipe, size=max(height, width)))(photo)
    require(seg.labels.shape == (photo.height, photo.width), f"labels are {seg.labels.shape}")
    require(seg.n_segments > 1, "a picture of several parts becomes one segment")


CHECKS: dict[str, Callable[[CheckContext], None]] = {
    check.__name__: check
    for check in (
        declarations,
        sites_are_as_declared,
        sites_are_read_together_as_alone,
        another_grid_is_refused,
        positions_are_the_images,
        tokens_are_where_they_are_declared,
        a_zero_offset_changes_nothing,
        an_offset_changes_pixels,
        an_offset_changes_most_inside_its_mask,
        rows_are_independent,
        the_same_seed_gives_the_same,
        nothing_is_left_behind,
        pixels_are_pixels,
        cost_is_counted,
        generation_is_as_declared,
        a_photo_is_segmented,
    )
}
"""Every check by its name; the first line of its docstring states the property."""
