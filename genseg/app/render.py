"""The content of the page, as data and HTML; every text in it escaped."""

from __future__ import annotations

import io
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.segmentation import find_boundaries

from genseg.app.downloads import FILES
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
    contents = []
    for which, (result, request) in enumerate(zip(session.shown, session.requests, strict=True)):
        contents.append(view(session.image, result, f"{_title(request)}: {result.n_segments} segments"))
        if session.picked is not None and session.picked[0] == which:
            contents[which]["picked"] = session.picked[1]
    return contents


def agreement(session: Session) -> str:
    """Scores of agreement between two results; empty unless there are two."""
    scores = "".join(f"<span><b>{value:.2f}</b>{name}</span>" for name, value in session.agreement().items())
    return f"<p class='gs-title'>Agreement of the two</p><div class='gs-agree'>{scores}</div>" if scores else ""


def details(session: Session) -> str:
    """The segment that was clicked: its difference map and its grid cells."""
    if not session.results:
        return ""
    if session.picked is None:
        return "<p class='gs-note'>Click a segment to see how the model found it.</p>"
    which, label = session.picked
    result = session.shown[which]
    pictures = (
        (grid_cells(result, label), "Grid cells: the cluster of low-resolution features behind this segment"),
        (
            difference_map(result, label),
            "Difference map: bright where the image changes when the model perturbs these cells",
        ),
    )
    figures = "".join(
        f"<figure><img src='{as_data(picture)}' alt='{words}'><figcaption>{words}</figcaption></figure>"
        for picture, words in pictures
    )
    title, share = escape(_title(session.requests[which])), float(np.mean(result.labels == label))
    return (
        f"<p class='gs-title'>Segment {label} of {title}, {share:.1%} of the image</p>"
        f"<div class='gs-pair'>{figures}</div>"
    )


def files(session: Session) -> str:
    """Links to the downloads."""
    names = dict(zip(FILES, ("Labels PNG", "COCO JSON", "Overlay PNG", "Image PNG"), strict=True))
    lines = []
    for which, request in enumerate(session.requests):
        heading = f"{escape(_title(request))}:" if len(session.requests) > 1 else "Download"
        links = "".join(f"<a href='file/{session.token}/{which}/{kind}' download>{names[kind]}</a>" for kind in FILES)
        lines.append(f"<div class='gs-files'><span>{heading}</span>{links}</div>")
    return "".join(lines)


def _title(request: SegmentRequest) -> str:
    """The backend, with the recipe if it is not the backend's own."""
    return f"{request.backend}, {request.recipe}" if request.recipe else request.backend


def line(status: Status) -> str:
    """The progress of a run, with a bar."""
    track = f"<div class='gs-track'><i style='width:{status.fraction:.0%}'></i></div>" if status.fraction else ""
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


def as_data(image: Image.Image) -> str:
    """A picture as a data URI: JPEG for RGB, else PNG, which is exact."""
    buffer, kind = io.BytesIO(), "jpeg" if image.mode == "RGB" else "png"
    image.save(buffer, format=kind, quality=88)
    return data_uri(f"image/{kind}", buffer.getvalue())


def view(image: Image.Image, segmentation: Segmentation | None = None, title: str = "") -> dict[str, Any]:
    """The content of a viewer: the photo, and the label of each of its pixels with the labels' colors and areas."""
    photo = downscaled(image)
    content: dict[str, Any] = {"title": title, "photo": as_data(photo), "width": photo.width, "height": photo.height}
    if segmentation is not None:
        labels = Image.fromarray(segmentation.labels.astype(np.uint8)).resize(photo.size, Image.Resampling.NEAREST)
        areas = np.bincount(segmentation.labels.ravel(), minlength=len(segmentation.colors))
        content |= {"labels": as_data(labels), "colors": segmentation.colors.tolist(), "areas": areas.tolist()}
    return content


def difference_map(segmentation: Segmentation, label: int) -> Image.Image:
    """A segment's difference map, bright where the image changes when its cluster is perturbed."""
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
