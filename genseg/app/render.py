"""The content of the page, as data and HTML; every text in it escaped."""

from __future__ import annotations

import io
from html import escape
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.segmentation import find_boundaries

from genseg.app.photos import examples
from genseg.app.session import Session, Status
from genseg.display.html import data_uri
from genseg.segmentation import Segmentation
from genseg.web.engine import IMPORTS
from genseg.web.request import SegmentRequest

SIDE = 1024  # upper bound of a picture's longer side, in pixels
THUMBNAIL = 144


def views(session: Session) -> list[dict[str, Any]]:
    """The content of each viewer: nothing, the photo, or one of the results."""
    if session.image is None:
        return [{}]
    if not session.results:
        return [view(session.image)]
    return [
        view(session.image, result, f"{heading(request)}: {result.n_segments} segments")
        | {"which": which, "joined": bool(session.edits.joined_in(which))}
        for which, (result, request) in enumerate(zip(session.shown, session.requests, strict=True))
    ]


def agreement(session: Session) -> str:
    """Scores of agreement between two results; empty unless there are two."""
    scores = "".join(f"<span><b>{value:.2f}</b>{name}</span>" for name, value in session.agreement().items())
    return f"<p class='gs-title'>Agreement of the two</p><div class='gs-agree'>{scores}</div>" if scores else ""


def details(session: Session) -> str:
    """How the model found the selected segments: grid cells and score map of their largest cluster."""
    if session.picked is None:
        return ""
    which, labels = session.picked
    result = session.results[which]
    clusters = np.bincount(result.labels[np.isin(session.shown[which].labels, labels)])
    cluster = int(clusters.argmax())
    score_map_words = (
        "Difference map: bright where the image changes when the model perturbs these cells"
        if result.recipe.modulate
        else "The cluster, brought to the edges of the image"
    )
    pictures = (
        (grid_cells(result, cluster), "Grid cells: the cluster of low-resolution features"),
        (score_map(result, cluster), score_map_words),
    )
    figures = "".join(
        f"<figure><img src='{as_data(picture)}' alt='{words}'><figcaption>{words}</figcaption></figure>"
        for picture, words in pictures
    )
    found = "the selection" if np.count_nonzero(clusters) == 1 else "the largest cluster of the selection"
    title = f"How {escape(heading(session.requests[which]))} found {found}"
    return f"<p class='gs-title'>{title}</p><div class='gs-pair'>{figures}</div>"


def heading(request: SegmentRequest) -> str:
    """The backend, with the recipe if it is not the backend's own."""
    return f"{request.backend}, {request.recipe}" if request.recipe else request.backend


def line(status: Status) -> str:
    """The progress of a run, with a bar: one that moves to and fro where nobody knows how much is done."""
    match status.fraction:
        case None:
            track = ""
        case 0:
            track = "<div class='gs-track gs-waits'><i></i></div>"
        case fraction:
            track = f"<div class='gs-track'><i style='width:{fraction:.0%}'></i></div>"
    return f"<div class='gs-status' role='status'>{escape(status.words)}{track}</div>"


def problem(words: str) -> str:
    """An error message."""
    return f"<div class='gs-status'><span class='gs-bad' role='alert'>{escape(words)}</span></div>"


def time_spent(session: Session) -> str:
    """The seconds that the results took."""
    seconds = sum(sum(result.cost.seconds.values()) for result in session.results)
    return f"Done in {seconds:.1f} s"


def backends() -> tuple[list[str], str]:
    """Names of the usable backends, and as HTML why the others are not usable; empty if all are."""
    from genseg.registry import list_backends

    with IMPORTS:
        infos = list_backends()
    problems = "".join(f"<li><b>{escape(i.name)}</b>: {escape(i.problem)}</li>" for i in infos if not i.usable)
    details = f"<details class='gs-unusable'><summary>Not usable here, and why</summary><ul>{problems}</ul></details>"
    return [info.name for info in infos if info.usable], details if problems else ""


def thumbnails() -> str:
    """A button for each example photo."""
    buttons = []
    for path in examples():
        with Image.open(path) as photo:
            uri = as_data(downscaled(photo.convert("RGB"), THUMBNAIL * 2))
        buttons.append(
            f'<button type="button" disabled data-name="{path.name}" title="{path.stem}">'
            f'<img src="{uri}" alt="{path.stem}"></button>'
        )
    return "".join(buttons)


def downscaled(image: Image.Image, side: int = SIDE) -> Image.Image:
    """The image, scaled down to at most ``side`` pixels a side; never up."""
    scale = min(side / max(image.size), 1)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def as_data(image: Image.Image, kind: Literal["jpeg", "png"] = "jpeg") -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=88)
    return data_uri(f"image/{kind}", buffer.getvalue())


def view(image: Image.Image, segmentation: Segmentation | None = None, title: str = "") -> dict[str, Any]:
    """The content of a viewer: the photo, and the label of each of its pixels with the labels' colors and areas."""
    photo = downscaled(image)
    content: dict[str, Any] = {"title": title, "photo": as_data(photo), "width": photo.width, "height": photo.height}
    if segmentation is not None:
        labels = Image.fromarray(segmentation.labels).resize(photo.size, Image.Resampling.NEAREST)
        content |= {
            "labels": as_data(coded(np.asarray(labels)), "png"),
            "colors": segmentation.colors.tolist(),
            "areas": segmentation.areas.tolist(),
            "names": segmentation.names,
        }
    return content


def coded(labels: npt.NDArray[np.int32]) -> Image.Image:
    """Labels below 2²⁴ as colors of a picture: R + 256 G + 65536 B."""
    return Image.fromarray((labels[..., None] >> np.array([0, 8, 16]) & 255).astype(np.uint8))


def score_map(segmentation: Segmentation, label: int) -> Image.Image:
    """The map of a cluster whose argmax over all clusters gives the labels, as a heat map."""
    import matplotlib

    assert segmentation.scores is not None
    scores = segmentation.scores[label]
    levels = scores / max(float(scores.max()), 1e-12)
    colored = matplotlib.colormaps["inferno"](levels, bytes=True)[..., :3]
    height, width = segmentation.labels.shape
    return Image.fromarray(np.ascontiguousarray(colored)).resize(
        downscaled(Image.new("L", (width, height))).size, Image.Resampling.BILINEAR
    )


def grid_cells(segmentation: Segmentation, label: int) -> Image.Image:
    """The low-resolution cells of a segment's cluster, in its color over the faded photo."""
    photo = downscaled(Image.fromarray(segmentation.image))
    rows, columns = segmentation.grid_labels.shape
    cells = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    cell_of = np.asarray(Image.fromarray(cells).resize(photo.size, Image.Resampling.NEAREST))
    inside = (segmentation.grid_labels == label).ravel()[cell_of]
    pixels = np.asarray(photo).astype(np.float32)
    color = segmentation.colors[label].astype(np.float32)
    mixed: npt.NDArray[np.float32] = np.where(inside[..., None], 0.45 * pixels + 0.55 * color, 0.25 * pixels + 191)
    mixed[find_boundaries(cell_of, mode="inner") & inside] = 255
    return Image.fromarray(mixed.astype(np.uint8))
