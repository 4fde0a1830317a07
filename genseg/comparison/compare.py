"""Models side by side: the same images through one model after the other, each result kept as soon as it is done."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import json
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from genseg.checks import checked_seed, several
from genseg.comparison.inputs import Failure, Photo, TruthLike, load_truth
from genseg.comparison.metrics import measure, reconstruction_error
from genseg.comparison.result import Comparison
from genseg.errors import GensegError, NothingLeftError, unknown, user_message
from genseg.evaluation.protocols import check_protocols
from genseg.files import as_utf8, write_whole
from genseg.fingerprint import digest, files_below, relevant
from genseg.images import ImageLike, load_image
from genseg.interface import Backend
from genseg.recipe import Recipe, RecipeLike, load_recipe
from genseg.registry import list_backends, load_backend
from genseg.segmentation import Segmentation
from genseg.segmenter import Segmenter

CLUSTERS = 25  # the paper's K, where the caller names none: it must be one number for all

ProgressCallback: TypeAlias = Callable[[str, str, str, int, int], None]
"""Called with the backend's name, the image's, a stage, what is done of it and how much there is. An image ends with
the stage ``"done"``, ``"kept"`` (by an earlier run) or ``"failed"``, which counts all images of all backends."""


def compare(
    images: Iterable[ImageLike],
    backends: Iterable[str | Backend],
    recipe: RecipeLike | None = None,
    *,
    out: str | Path | None = None,
    truths: Mapping[str, TruthLike] | Sequence[TruthLike] | None = None,
    protocols: Sequence[str] = ("oracle",),
    seed: int = 0,
    device: str | None = None,
    dtype: str | None = None,
    models: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    progress: ProgressCallback | None = None,
    **overrides: Any,
) -> Comparison:
    """Segment the same images with several models, and measure how their segments agree.

    The number of clusters is one for all: the caller's, or else 25. The rest of the recipe is each backend's own
    calibration under what the caller gives. One model is in memory at a time.

    What cannot be used is left out and listed in `Comparison.failures`: an unreadable image, or one on which any model
    fails, for all models; and a backend that cannot be loaded, or that fails on every image. Where one of several is
    left, a warning says so.

    Args:
        images: What `genseg.segment` takes. A file's image is named by its stem, another one ``"image3"`` by its place.
        backends: Names from `genseg.list_backends`, or loaded backends.
        recipe: As for `genseg.Segmenter`.
        out: A folder that keeps each segmentation, as BACKEND/IMAGE.npz, as soon as it is done. A later run takes it
            from there if image, recipe, seed, model, device, dtype and genseg's version are the same; those of
            loaded backends, whose weights have no name, are made again. None for a temporary folder, which goes with
            the comparison.
        truths: Ground truth of each image, by its name or in the order of images: see
            `genseg.comparison.inputs.load_truth`.
        protocols: By which segments are measured against it: names from `genseg.evaluation.protocols.PROTOCOLS`. A
            segment's embedding, where one is needed, is its cluster's mean feature (`Segmentation.embeddings`).
        seed: As for `genseg.Segmenter`.
        device: A torch device for backends given by name; None for CUDA if it is available, else the CPU.
        dtype: ``"float32"`` (the default), ``"float16"``, ``"bfloat16"`` or ``"auto"``, for backends given by name.
        models: Local checkpoints or hub ids in place of the backends' own, by the backend's name.
        options: Recipe keys as ``key=value``, as on the command line.
        progress: Progress callback; see `ProgressCallback`.
        **overrides: Recipe keys, such as ``n_clusters=25``.

    Returns:
        The comparison.

    Raises:
        GensegError: If no image or no backend can be used, or for an unknown backend, protocol, recipe or key, or a
            protocol that segments without names or images without truth cannot have; or if a package is missing that
            compares.
    """
    _check_packages()
    check_protocols(protocols, has_classes=True)
    if truths is None and set(protocols) != {"oracle"}:
        raise GensegError("protocols measure against ground truth; give the truths too")
    seed, images = checked_seed(seed), several(images, "images")
    backends, models = list(several(backends, "backends")), models or {}
    _check_names(backends, models)
    common_recipe = load_recipe(recipe or "paper", calibration={"n_clusters": CLUSTERS}, options=options, **overrides)
    if isinstance(common_recipe.n_clusters, str):
        raise GensegError(f"models are compared at one number of clusters, not {common_recipe.n_clusters!r}; give 25")
    overrides["n_clusters"] = common_recipe.n_clusters

    scratch = None if out is not None else tempfile.TemporaryDirectory(prefix="genseg-compare-")
    failures: list[Failure] = []
    photos = _usable(list(images), truths, common_recipe.max_pixels, failures)
    if truths is not None and not any(photo.classes for photo in photos):
        raise GensegError("no pixel of the ground truth has a class, all are ignored; check the labels")
    job = _Settings(
        folder=Path(scratch.name if scratch else out or ""),
        photos=photos,
        resolve=lambda b: b.resolve(recipe, options, **overrides),
        load=lambda name: load_backend(name, model=models.get(name), device=device, dtype=dtype),
        weights={name: {"model": model, "files": files_below(model)} for name, model in models.items()},
        dtype=dtype,
        seed=seed,
        progress=progress or (lambda *_: None),
        total=len(photos) * len(backends),
    )
    recipes: dict[str, Recipe] = {}
    for i, backend in enumerate(backends):
        name = name_of(backend)
        try:
            recipes[name] = job.run(backend, i * len(photos), failures)
        except (GensegError, MemoryError, RuntimeError) as error:
            failures.append(Failure(name, "", as_utf8(user_message(error))))
        _release()  # only here do no frames of an error hold the model any more
    failed = {name: {f.image for f in failures if f.backend == name} for name in recipes}
    working = {name: recipe for name, recipe in recipes.items() if len(failed[name]) < len(photos)}
    common = [photo for photo in photos if not any(photo.name in failed[name] for name in working)]
    if not working:
        raise GensegError(f"no backend is left to compare: {failures[-1].problem}")
    if not common:
        raise NothingLeftError(f"no image is left to compare: {failures[-1].problem}")
    if len(working) == 1 < len(backends):
        left = f"{next(iter(working))} alone is left of {len(backends)} backends"
        warnings.warn(f"{left}, so no two are compared; mend what failed and run it again", stacklevel=2)
    measured_by = [] if truths is None else list(dict.fromkeys(protocols))
    tables = measure(common, list(working), measured_by, failures, seed, job.folder)
    return Comparison(*tables, working, measured_by, seed, job.folder, scratch)


def name_of(backend: str | Backend) -> str:
    """Return the name under which a backend's results are saved."""
    return backend if isinstance(backend, str) else backend.name


@dataclass
class _Settings:
    """Settings that all backends share.

    Attributes:
        folder: Where results go.
        photos: The images that can be read.
        resolve: Gives a backend's recipe.
        load: Loads a backend by its name.
        weights: Model paths and their files, of backends with other weights than their own, by the backend's name.
        dtype: As the caller gave it.
        seed: The seed.
        progress: Progress callback.
        total: Number of segmentations.
    """

    folder: Path
    photos: Sequence[Photo]
    resolve: Callable[[Backend], Recipe]
    load: Callable[[str], Backend]
    weights: Mapping[str, Any]
    dtype: str | None
    seed: int
    progress: ProgressCallback
    total: int

    def run(self, which: str | Backend, before: int, failures: list[Failure]) -> Recipe:
        """Segment every image with one backend, and note which fail; nothing of the model outlives the call.

        ``before`` counts the segmentations of the backends before it.
        """
        name = name_of(which)
        self.progress(name, "", "load", 0, 1)
        backend = self.load(which) if isinstance(which, str) else which
        segmenter = Segmenter(backend, self.resolve(backend), seed=self.seed)
        self.progress(name, "", "load", 1, 1)
        for finished, photo in enumerate(self.photos, start=before + 1):
            segmenter.progress = partial(self.progress, name, photo.name)
            try:
                end = self._one(segmenter, name, photo, keep=isinstance(which, str))
            except Exception as error:  # whatever is wrong with one image, the others are compared
                failures.append(Failure(name, photo.name, as_utf8(user_message(error))))
                end = "failed"
            self.progress(name, photo.name, end, finished, self.total)
        return segmenter.recipe

    def _one(self, segmenter: Segmenter, name: str, photo: Photo, keep: bool) -> str:
        """Segment an image and save the result, or reuse that of an earlier run."""
        identity = self._identity(segmenter, name, photo) if keep else ""
        files = photo.files(self.folder, name)
        if keep and _identity_in(files.sidecar) == identity and _is_whole(files.result):
            return "kept"
        segmentation = segmenter(photo.source)
        rmse, psnr = reconstruction_error(*segmenter.reconstruction(photo.source))
        files.sidecar.unlink(missing_ok=True)  # it must never speak for another result
        segmentation.save(files.result)
        sidecar = json.dumps({"identity": identity, "reconstruction": {"rmse": rmse, "psnr": psnr}})
        write_whole(files.sidecar, lambda file: file.write(sidecar.encode()))
        return "done"

    def _identity(self, segmenter: Segmenter, name: str, photo: Photo) -> str:
        """Return a digest of everything that a result depends on."""
        weights, device = self.weights.get(name), segmenter.backend.device.type
        return digest(name, weights, device, self.dtype, relevant(segmenter.recipe), self.seed, photo.digest)


def _is_whole(result: Path) -> bool:
    """Return whether a result of an earlier run can be read."""
    try:
        Segmentation.load(result)
    except GensegError:
        return False
    return True


def _identity_in(sidecar: Path) -> str | None:
    """Return the identity that an earlier run saved beside its result; None if there is none that can be read."""
    try:
        return str(json.loads(sidecar.read_bytes())["identity"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _usable(
    images: Sequence[ImageLike],
    truths: Mapping[str, TruthLike] | Sequence[TruthLike] | None,
    max_pixels: int,
    failures: list[Failure],
) -> list[Photo]:
    """Read the images and their ground truth, before any model is loaded; note those that cannot be used."""
    names = [as_utf8(Path(im).stem) if isinstance(im, (str, Path)) else f"image{i}" for i, im in enumerate(images)]
    for name in names:
        if names.count(name) > 1:
            raise GensegError(f"two images are named {name!r}; rename one")
    if truths is not None and not isinstance(truths, Mapping):
        if len(truths) != len(images):
            raise GensegError(f"there are {len(truths)} truths and {len(images)} images; give one for each")
        truths = dict(zip(names, truths, strict=True))
    truths = truths and {as_utf8(name): truth for name, truth in truths.items()}
    if truths is not None and (missing := [name for name in names if name not in truths]):
        raise GensegError(f"there is no truth of image {missing[0]!r}; give one for each image")
    photos = []
    for name, source in zip(names, images, strict=True):
        try:
            picture = load_image(source, max_pixels)
            truth = truths and partial(load_truth, truths[name], picture.height, picture.width, max_pixels)
            classes = int(truth().max()) + 1 if truth else 0
        except GensegError as error:
            failures.append(Failure("", name, as_utf8(str(error))))
            continue
        pixels = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
        photos.append(Photo(name, source, pixels, truth or None, classes))
    if failures and not photos:
        raise NothingLeftError(failures[0].problem)
    if not photos:
        raise GensegError("no image given; give at least one")
    return photos


def _release() -> None:
    """Free what nothing refers to any more, on a graphics card too, before the next model comes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _check_names(backends: Sequence[str | Backend], models: Mapping[str, str]) -> None:
    """Refuse mistyped names now: the models before them may take hours."""
    names = [name_of(backend) for backend in backends]
    known = {info.name for info in list_backends()}
    for backend in backends:
        if isinstance(backend, str) and backend not in known:
            raise unknown("backend", backend, known)
        if names.count(name_of(backend)) > 1:
            raise GensegError(f"backend {name_of(backend)!r} is named twice; name it once")
    for name in models:
        if name not in names:
            raise unknown("backend in models", name, names)
        if name not in backends:
            raise GensegError(f"models names {name!r}, which is loaded already; leave it out")
    if not names:
        raise GensegError("no backend given; name at least one")


def _check_packages() -> None:
    for package in ("jinja2", "pandas"):
        if importlib.util.find_spec(package) is None:
            raise GensegError(f"comparing needs the package {package!r}; run: pip install 'genseg[compare]'")
