"""Label Studio's protocol of ML backends: predictions for tasks.

A project's labeling interface says what a prediction has: brush masks where there is a tag for them, else polygons,
else boxes.
"""

from __future__ import annotations

import logging
import threading
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, NamedTuple

from genseg.errors import GensegError, in_one_line
from genseg.segmentation.coco import UNNAMED
from genseg.segmentation.label_studio import KINDS, Control, regions_of
from genseg.service.answers import RefusedError, StoppedError, status_of
from genseg.service.images import ImageReader
from genseg.service.segmenting import Choice, ImageSegmenter
from genseg.web.middleware import log_failure

if TYPE_CHECKING:
    from genseg.segmentation import Segmentation

LOG = logging.getLogger("genseg.service")


class Interface(NamedTuple):
    """Labels and tools of a project's labeling interface.

    Attributes:
        control: The tag that regions belong to.
        key: Of a task's data: the image.
        labels: Names that regions may have.
    """

    control: Control
    key: str
    labels: tuple[str, ...]


def interface_of(config: str) -> Interface:
    """Read a project's labeling interface.

    Raises:
        RefusedError: If it is damaged, or has no tag for regions of an image.
    """
    if "<!DOCTYPE" in config or "<!ENTITY" in config:
        raise RefusedError("the labeling interface declares a document type, which none needs; remove it")
    try:
        root = ET.fromstring(config)
    except ET.ParseError as error:
        raise RefusedError(f"the labeling interface is no XML ({error}); check it in the project's settings") from error
    images = {tag.get("name", ""): tag.get("value", "") for tag in root.iter("Image")}
    tags = [(tag.tag.lower(), tag) for tag in root.iter() if isinstance(tag.tag, str)]
    for kind in KINDS:
        for name, tag in tags:
            image = tag.get("toName", "")
            if name == kind and images.get(image, "").startswith("$"):
                labels = [label.get("alias") or label.get("value") or "" for label in tag.iter("Label")]
                control = Control(kind, tag.get("name", ""), image)
                return Interface(control, images[image][1:], tuple(filter(None, labels)))
    raise RefusedError(
        "the labeling interface has no BrushLabels, PolygonLabels or RectangleLabels of an Image; add one to it"
    )


def predictions(
    body: dict[str, Any], segmenter: ImageSegmenter, images: ImageReader, has_left: threading.Event
) -> dict[str, Any]:
    """Answer ``POST /predict``: a prediction for each task.

    A task whose image cannot be segmented has none, and is reported in the log.

    Args:
        body: The tasks, and the project's labeling interface.
        segmenter: Segments images.
        images: Reads them.
        has_left: Set when nobody waits for the answer any more.

    Raises:
        GensegError: If the body cannot be used, or no task's image can; the latter with the reason of the first.
        StoppedError: If nobody waits any more, or the service ends.
    """
    tasks, config = body.get("tasks"), body.get("label_config")
    if not (isinstance(tasks, list) and all(isinstance(task, dict) for task in tasks) and isinstance(config, str)):
        raise RefusedError("the request has no list of tasks, or no label_config; send both")
    interface = interface_of(config)
    results: list[Any] = []
    failures: list[GensegError] = []
    for task in tasks:
        segmenter.go_on(has_left)
        name = in_one_line(str(task.get("id", "without id"))[:50])
        try:
            results.append(_prediction(task, interface, segmenter, images, has_left))
        except StoppedError:
            raise
        except GensegError as error:
            LOG.warning("task %s has no prediction: %s", name, error)
            failures.append(error)
            results.append([])
        except Exception as error:  # whatever a backend raises, the other tasks are segmented
            log_failure(f"task {name}", error)
            failures.append(RefusedError("the image cannot be segmented; see the terminal of genseg serve", 500))
            results.append([])
    if tasks and len(failures) == len(tasks):
        raise RefusedError(str(failures[0]), status_of(failures[0]))
    return {"results": results, "model_version": segmenter.version}


def _prediction(
    task: dict[str, Any],
    interface: Interface,
    segmenter: ImageSegmenter,
    images: ImageReader,
    has_left: threading.Event,
) -> dict[str, Any]:
    data = task.get("data")
    address = data.get(interface.key) if isinstance(data, dict) else None
    if not isinstance(address, str):
        raise RefusedError(f"its data has no image under {interface.key!r}; check value in the labeling interface")
    content, name = images.read(address)
    names = interface.labels if segmenter.names_segments else ()
    segmentation = segmenter(content, name, has_left, Choice(classes=names))
    return {
        "model_version": segmenter.version,
        "score": _mean_confidence(segmentation),
        "result": [
            region
            for mask in segmentation.masks()
            for region in regions_of(
                mask.segmentation, mask.label, interface.control, _label(mask.name, interface.labels), mask.confidence
            )
        ],
    }


def _label(name: str | None, labels: tuple[str, ...]) -> list[str]:
    """The label of a segment: its name, or the only one there is; none where an annotator is to choose."""
    if name:
        return [next((label for label in labels if label.partition("|")[0].strip() == name), name)]
    if len(labels) == 1:
        return [labels[0]]
    return [UNNAMED] if UNNAMED in labels else []


def _mean_confidence(segmentation: Segmentation) -> float:
    return 0.0 if segmentation.confidence is None else round(float(segmentation.confidence.mean(dtype=float)), 4)
