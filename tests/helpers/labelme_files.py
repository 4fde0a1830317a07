"""Reading labelme's files by the rules of its own loader, 6.3.1, whose package needs Qt.

The rules are those of ``LabelFile`` and ``labelme.utils.shapes_to_label``: which types they require, that the image is
read from beside the file, upright, and has the declared size, that a polygon is filled and outlined by Pillow, and that
a mask lies in the box of its two points, both included.
"""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps


def read(file: Path) -> tuple[dict, np.ndarray]:
    """The content of a file and the image it names, checked as labelme checks them."""
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["imageData"] is None
    image = ImageOps.exif_transpose(Image.open(file.parent / content["imagePath"]))
    assert image.size == (content["imageWidth"], content["imageHeight"])
    for shape in content["shapes"]:
        assert isinstance(shape["label"], str)
        assert isinstance(shape["description"], str)
        assert type(shape["group_id"]) is int
        assert shape["flags"] == {}
        assert shape["points"]
        assert all(type(number) is float for point in shape["points"] for number in point)
        assert all(len(point) == 2 for point in shape["points"])
        assert (shape["shape_type"] == "mask") == isinstance(shape["mask"], str)
    return content, np.asarray(image.convert("RGB"))


def instances(content: dict) -> dict[tuple[str, int], np.ndarray]:
    """The pixels (H, W) of each name and group."""
    size = content["imageHeight"], content["imageWidth"]
    found: dict[tuple[str, int], np.ndarray] = {}
    for shape in content["shapes"]:
        if shape["shape_type"] == "mask":
            mask = np.zeros(size, dtype=bool)
            (left, top), (right, bottom) = np.asarray(shape["points"]).astype(int)
            pixels = Image.open(io.BytesIO(base64.b64decode(shape["mask"])))
            mask[top : bottom + 1, left : right + 1] = np.asarray(pixels).astype(bool)
        else:
            assert shape["shape_type"] == "polygon"
            assert len(shape["points"]) > 2
            picture = Image.new("L", size[::-1])
            ImageDraw.Draw(picture).polygon([tuple(point) for point in shape["points"]], outline=1, fill=1)
            mask = np.asarray(picture).astype(bool)
        key = shape["label"], shape["group_id"]
        found[key] = found.get(key, np.zeros(size, dtype=bool)) | mask
    return found
