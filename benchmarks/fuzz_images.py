"""Damage image files at random and read them: how many errors are not the image's own (genseg.GensegError)?

Seeds are made in memory, two dozen small files of all formats that genseg opens, and each mutation flips, inserts,
repeats or cuts bytes of one of them, or sets a field of its EXIF data. Run it as ``python benchmarks/fuzz_images.py``;
it prints every escape once, and exits with 1 if there was one.
libtiff's own messages go to standard error.
"""

from __future__ import annotations

import argparse
import io
import random
import time
import warnings
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image

from genseg import GensegError
from genseg.images import load_image

MAX_PIXELS = 1_000_000  # a damaged header may ask for any size


def seeds() -> dict[str, bytes]:
    """A small image file of each kind, by name."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((24, 16))
    gray = np.asarray(photo.convert("L"))
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "maker", 0x011A: 72.0, 0x0132: "2026:01:01 00:00:00"})
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x9003: "2026:01:01 00:00:00"})
    turned = [photo.rotate(90), photo.rotate(180)]
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    files: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (photo, "JPEG", {"exif": exif}),
        "jpeg-progressive": (photo, "JPEG", {"progressive": True, "exif": exif}),
        "jpeg-cmyk": (photo.convert("CMYK"), "JPEG", {}),
        "mpo": (photo, "MPO", {"append": turned, "exif": exif}),
        "png": (photo, "PNG", {"exif": exif}),
        "png-palette": (photo.convert("P"), "PNG", {"transparency": 3}),
        "png-deep": (deep, "PNG", {}),
        "apng": (photo, "PNG", {"append": turned}),
        "webp": (photo, "WEBP", {"exif": exif}),
        "webp-animated": (photo, "WEBP", {"append": turned}),
        "tiff": (photo, "TIFF", {"exif": exif}),
        "tiff-lzw": (photo, "TIFF", {"compression": "tiff_lzw"}),
        "tiff-jpeg": (photo, "TIFF", {"compression": "jpeg"}),
        "tiff-fax": (photo.convert("1"), "TIFF", {"compression": "group4"}),
        "tiff-deep": (deep, "TIFF", {"tiffinfo": {280: 0, 281: 65535}}),
        "tiff-float": (Image.fromarray(gray.astype(np.float32) / 255), "TIFF", {"compression": "tiff_deflate"}),
        "tiff-stack": (photo, "TIFF", {"append": turned}),
        "gif": (photo.convert("P"), "GIF", {}),
        "gif-animated": (photo, "GIF", {"append": turned}),
        "bmp": (photo, "BMP", {}),
        "avif": (photo, "AVIF", {"exif": exif}),
        "jpeg2000": (photo, "JPEG2000", {}),
        "ppm": (photo, "PPM", {}),
        "tga": (photo, "TGA", {"compression": "tga_rle"}),
        "ico": (photo, "ICO", {}),
    }
    return {name: _encoded(image, kind, options) for name, (image, kind, options) in files.items()}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A file with one to four faults."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        if rng.random() < 0.5:  # heads and tags have most ways to go wrong
            at = min(at, rng.randrange(200))
        kind, length = rng.randrange(6), rng.randint(1, 16)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))])
        elif kind == 2:
            data[at:at] = rng.randbytes(length)
        elif kind == 3:
            data[at : at + length] = b""
        elif kind == 4:
            data[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
        else:
            _mutate_exif(data, rng)
    return bytes(data[: rng.randrange(len(data) + 1)]) if rng.random() < 0.1 else bytes(data)


def _mutate_exif(data: bytearray, rng: random.Random) -> None:
    """Overwrite a field of the first table of tags: its number, type, count or value."""
    start = max(data.find(b"II*\0"), data.find(b"MM\0*"))
    if start >= 0 and len(data) > start + 34:
        entry = start + 10 + 12 * rng.randrange(4)
        field, size = rng.choice(((0, 2), (2, 2), (4, 4), (8, 4)))
        small = rng.randrange(20).to_bytes(size, "little" if data[start] == ord("I") else "big")
        data[entry + field : entry + field + size] = rng.choice((small, rng.randbytes(size), b"\xff" * size))


def _encoded(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    buffer, options = io.BytesIO(), dict(options)
    if turned := options.pop("append", None):
        options |= {"save_all": True, "append_images": [each.copy() for each in turned]}
    image.copy().save(buffer, kind, **options)  # a copy, for writing one format leaves options for the next
    return buffer.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000, help="mutations, at most")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="time, at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    files, outcomes = seeds(), Counter[str]()
    end = time.monotonic() + args.seconds
    for number in range(args.count):
        if time.monotonic() > end:
            break
        rng = random.Random(f"{args.seed}/{number}")
        name = rng.choice(list(files))
        content = mutated(files[name], rng)
        try:
            load_image(content, MAX_PIXELS)
            outcomes["read"] += 1
        except GensegError:
            outcomes["refused"] += 1
        except Exception as error:
            kind = f"{name}: {type(error).__name__}: {error}"[:200]
            if not outcomes[kind]:
                print(f"escaped, mutation {number} of {kind}", flush=True)
            outcomes[kind] += 1
            outcomes["escaped"] += 1
    print(", ".join(f"{outcomes[outcome]:,} {outcome}" for outcome in ("read", "refused", "escaped")))
    return int(outcomes["escaped"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
