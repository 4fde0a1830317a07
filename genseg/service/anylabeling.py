"""The protocol of X-AnyLabeling-Server, by which X-AnyLabeling uses a model on another machine."""

from __future__ import annotations

import threading
from typing import Any

from genseg.errors import GensegError
from genseg.segmentation.coco import UNNAMED
from genseg.segmentation.masks import Mask
from genseg.segmentation.polygons import editable
from genseg.service.answers import RefusedError
from genseg.service.images import ImageReader, decoded
from genseg.service.segmenting import ImageSegmenter

CODES = {404: "MODEL_NOT_FOUND", 503: "QUEUE_FULL"} | dict.fromkeys((400, 413, 415), "INVALID_IMAGE")
"""The protocol's word for each status code."""


def models(segmenter: ImageSegmenter) -> dict[str, Any]:
    """Answer ``GET /v1/models``: the one model, and the buttons that it needs."""
    widgets = [
        {"name": "button_run", "value": None},
        {"name": "toggle_preserve_existing_annotations", "value": False},
    ]
    about = {"display_name": f"genseg {segmenter.backend}", "widgets": widgets, "params": {}}
    return {"success": True, "data": {model_id(segmenter): about | {"batch_processing_mode": "default"}}}


def model_id(segmenter: ImageSegmenter) -> str:
    """The name of the model in requests."""
    return f"genseg-{segmenter.backend}"


def prediction(
    body: dict[str, Any], segmenter: ImageSegmenter, images: ImageReader, has_left: threading.Event
) -> dict[str, Any]:
    """Answer ``POST /v1/predict``: a polygon for each connected part of each segment.

    Args:
        body: The model, and the image as a data URI or in base64.
        segmenter: Segments it.
        images: Reads data URIs.
        has_left: Set when nobody waits for the answer any more.

    Raises:
        GensegError: If the model or the image cannot be used.
        StoppedError: If nobody waits any more, or the service ends.
    """
    model, image = body.get("model"), body.get("image")
    if model != model_id(segmenter):
        raise RefusedError(f"there is no model {str(model)[:100]!r}; choose {model_id(segmenter)}", 404)
    if not isinstance(image, str):
        raise RefusedError("the request has no image; send one as a data URI or in base64")
    content = images.read(image)[0] if image.startswith("data:") else decoded(image)
    segmentation = segmenter(content, "the image", has_left)
    shapes = [shape for mask in segmentation.masks() for shape in _shapes(mask)]
    return {"success": True, "data": {"shapes": shapes, "description": ""}}


def failed(error: GensegError, status: int) -> dict[str, Any]:
    """The body of an answer to a request that failed."""
    code = CODES.get(status, "INFERENCE_ERROR")
    return {"success": False, "error": {"code": code, "message": str(error)}}


def _shapes(mask: Mask) -> list[dict[str, Any]]:
    """The polygons of a mask, in pixels; those of one segment have a group of their own."""
    rings = list(editable(mask.segmentation))
    return [
        {
            "label": mask.name or UNNAMED,
            "shape_type": "polygon",
            "points": ring.astype(float).tolist(),
            "score": mask.confidence,
            "group_id": mask.label + 1 if len(rings) > 1 else None,
        }
        for ring in rings
    ]
