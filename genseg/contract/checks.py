"""What every backend promises, as checks: for the tests of plug-ins (`genseg.testing`) and ``genseg backends check``.

Each check takes a `Subject` and raises `Broken`, whose sentence tells the backend's author what is wrong and where to
look, or `NotAsked` where the backend does not promise that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.contract.context import Broken, InterruptionError, NotAsked, Subject, interrupted, promised, scene, traces
from genseg.contract.site_checks import (
    another_grid_is_refused,
    declarations,
    positions_are_the_images,
    sites_are_as_declared,
)
from genseg.errors import GensegError
from genseg.images import to_image
from genseg.interface import pick
from genseg.segmenter import Segmenter

LARGEST = 5.0  # what a pixel, nominally in [-1, 1], may reach
SMALLEST = 1e-4  # what an offset must change in some pixel


def a_zero_offset_changes_nothing(subject: Subject) -> None:
    """Twice the same to the bit, the same at every point, and the image itself where it reconstructs."""
    backend = subject.backend
    unmodified = subject.regenerated(subject.offsets(subject.point)[:1])
    promised(
        torch.equal(unmodified, subject.regenerated(subject.offsets(subject.point)[:1])),
        "a zero offset gives other estimates the second time; switch dropout off and seed every draw",
    )
    for name, point in backend.points.items():
        other = subject.regenerated(subject.offsets(point)[:1], point)
        promised(
            torch.allclose(unmodified, other, atol=subject.tolerance, rtol=subject.tolerance),
            f"a zero offset at {name} gives another estimate than at the default point; add the offset, and only that",
        )
    if backend.capabilities.reconstructs == "no":
        return
    expected = subject.state.latents[-1:] if hasattr(subject.state, "latents") else None
    found = unmodified if expected is not None else backend.decode(unmodified)
    expected = subject.pixels if expected is None else expected
    rmse = (found.cpu() - expected.cpu()).square().mean().sqrt().item()
    exact = backend.capabilities.reconstructs == "exact"
    promised(
        rmse < (10 * subject.tolerance if exact else subject.lossy),
        f"a zero offset gives the image back with an error of {rmse:.3g} (RMSE), though capabilities.reconstructs is "
        f"{backend.capabilities.reconstructs!r}; keep the residual, or declare less",
    )


def an_offset_changes_pixels(subject: Subject) -> None:
    """At every point, and with either sign."""
    for name, point in subject.backend.points.items():
        none, *_, half = subject.offsets(point)
        _, plus, minus = subject.changes(subject.regenerated(torch.stack([none, half, -half]), point))
        promised(
            min(plus.max(), minus.max()) > SMALLEST,
            f"an offset at {name} changes no pixel by more than {plus.max():.1g}; a norm takes it out again: add it at "
            "the input of the attention's output projection",
        )


def an_offset_changes_most_inside_its_mask(subject: Subject) -> None:
    """On average over the image's quarters, at the default point."""
    if not subject.locality:
        raise NotAsked("untrained weights need not be local")
    height, width = subject.point.grid_for(*subject.pixels.shape[2:])
    masks = torch.zeros(5, height, width)
    for index, (rows, columns) in enumerate(
        (r, c)
        for r in (slice(height // 2), slice(height // 2, None))
        for c in (slice(width // 2), slice(width // 2, None))
    ):
        masks[index + 1, rows, columns] = 1
    changes = subject.changes(subject.regenerated(masks * subject.recipe.strength))
    inside = F.interpolate(masks[None], changes.shape[1:], mode="nearest-exact")[0].bool()
    gains = [(c[i].mean() / c[~i].mean()).item() for c, i in zip(changes[1:], inside[1:], strict=True)]
    promised(
        sum(gains) > len(gains),
        f"offsets change pixels outside their masks as much as inside (ratio {sum(gains) / len(gains):.2f}); check the "
        "order of the positions, or choose another default point",
    )


def rows_are_independent(subject: Subject) -> None:
    """A row of a batch is what it is alone, whatever the other rows and the size of the batch."""
    offsets, together = subject.offsets(subject.point), subject.estimates
    scale = subject.tolerance * max((together - together[:1]).abs().max().item(), SMALLEST)
    for what, other in (
        ("alone", torch.cat([subject.regenerated(offset[None]) for offset in offsets])),
        ("in reverse order", subject.regenerated(offsets.flip(0)).flip(0)),
        ("in batches of two", subject.regenerated(offsets, batch_size=2)),
    ):
        distance = (together - other).abs().max().item()
        promised(
            distance <= scale,
            f"a row of a batch differs by {distance:.2g} from the same row {what}; nothing may be computed across rows",
        )


def the_same_seed_gives_the_same(subject: Subject) -> None:
    """Encoding, features and estimates to the bit; another seed draws other noise where there is any."""
    backend, recipe = subject.backend, subject.recipe
    if not backend.capabilities.deterministic:
        raise NotAsked("the backend does not declare to be deterministic")
    tap, offsets = pick("tap", backend.taps, recipe.tap), subject.offsets(subject.point)

    def all_of(seed: int) -> tuple[Tensor, Tensor]:
        state = backend.encode(subject.pixels, recipe, seed)
        return backend.features(state, tap, recipe), backend.regenerate(state, subject.point, offsets, recipe)

    first, second, other = all_of(0), all_of(0), all_of(1)
    for name, one, two in zip(("features", "estimates"), first, second, strict=True):
        promised(torch.equal(one, two), f"the same seed gives other {name}; draw from a generator of that seed")
    if backend.capabilities.noise_axis:
        promised(
            not torch.equal(first[0], other[0]) or not torch.equal(first[1], other[1]),
            "another seed changes nothing; draw the noise from `seed`, or declare noise_axis=False",
        )


def nothing_is_left_behind(subject: Subject) -> None:
    """No hook, replaced forward, processor or mode, and no changed weight; also not after an exception midway."""
    backend, recipe = subject.backend, subject.recipe
    tap, offsets = pick("tap", backend.taps, recipe.tap), subject.offsets(subject.point)
    before = traces(backend)
    works: dict[str, Callable[[], Tensor]] = {
        "features": lambda: backend.features(subject.state, tap, recipe),
        "regenerate": lambda: backend.regenerate(subject.state, subject.point, offsets, recipe),
    }
    for what, work in works.items():
        with interrupted(None) as calls:
            work()
        promised(traces(backend) == before, f"{what} leaves something behind in the model: hooks, forwards or modes")
        for stop in {len(calls) // 2, len(calls) - 1}:
            with suppress(InterruptionError), interrupted(stop):
                work()
            promised(
                traces(backend) == before,
                f"{what} leaves something behind when an exception ends it; use context managers such as "
                "genseg.sites.offset and genseg.sites.read",
            )


def pixels_are_pixels(subject: Subject) -> None:
    """float32 [N, 3, H, W], finite, nominally in [-1, 1]."""
    images = subject.backend.decode(subject.estimates)
    shape = (len(subject.estimates), 3, *subject.pixels.shape[2:])
    promised(images.dtype == torch.float32, f"decode gives {images.dtype}; give float32, differences need it")
    promised(tuple(images.shape) == shape, f"decode gives {list(images.shape)} where {list(shape)} is meant")
    promised(images.isfinite().all(), "decode gives pixels that are not finite")
    promised(
        images.abs().max() <= LARGEST and images[0].min() < 0,
        f"decode gives pixels from {images.min():.3g} to {images.max():.3g}; they are meant to lie in [-1, 1]",
    )


def cost_is_counted(subject: Subject) -> None:
    """`Backend.meter` counts at least the rows that are regenerated, and tells its listener."""
    backend, meter, told = subject.backend, subject.backend.meter, []
    offsets = subject.offsets(subject.point)
    evaluations, decodes, meter.listener = meter.evaluations, meter.decodes, lambda: told.append(meter.evaluations)
    try:
        backend.features(subject.state, pick("tap", backend.taps, subject.recipe.tap), subject.recipe)
        promised(meter.evaluations > evaluations, "features does not count; call self.meter.count(evaluations=...)")
        evaluations = meter.evaluations
        estimates = backend.regenerate(subject.state, subject.point, offsets, subject.recipe)
        counted = meter.evaluations - evaluations
        promised(
            counted >= len(offsets),
            f"regenerate counts {counted} evaluations for {len(offsets)} rows; count every row of every pass",
        )
        backend.decode(estimates)
        promised(meter.decodes - decodes >= len(offsets), "decode does not count; call self.meter.count(decodes=...)")
    finally:
        meter.listener = None
    promised(told, "the meter's listener is not called; count with self.meter.count()")


def generation_is_as_declared(subject: Subject) -> None:
    """Where the model generates: the same seed gives the same image, another seed another one."""
    backend = subject.backend

    def image(seed: int) -> Tensor:
        state = backend.generate("", seed, subject.recipe)
        return backend.decode(
            backend.regenerate(state, subject.point, torch.zeros(1, *subject.point.grid), subject.recipe)
        )

    if not backend.capabilities.generates:
        try:
            backend.generate("", 0, subject.recipe)
        except GensegError:
            return
        raise Broken("generate works, though capabilities.generates is False; declare it")
    first, again, other = image(0), image(0), image(1)
    promised(torch.equal(first, again), "the same seed generates another image; draw from a generator of that seed")
    promised(not torch.allclose(first, other, atol=1e-3), "another seed generates the same image")


def a_photo_is_segmented(subject: Subject) -> None:
    """From end to end: labels of the photo's own size."""
    height, width = subject.pixels.shape[2:]
    photo = to_image(scene(height, width + height // 3)[0])
    seg = Segmenter(subject.backend, replace(subject.recipe, size=max(height, width)))(photo)
    promised(seg.labels.shape == (photo.height, photo.width), f"labels are {seg.labels.shape}")
    promised(seg.n_segments > 1, "a picture of several parts becomes one segment")


CHECKS: dict[str, Callable[[Subject], None]] = {
    check.__name__: check
    for check in (
        declarations,
        sites_are_as_declared,
        another_grid_is_refused,
        positions_are_the_images,
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
"""Every check by its name; the first line of its docstring says what is promised."""
