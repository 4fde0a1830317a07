"""Bodies of requests: files and JSON, of bounded length and in memory alone."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from genseg.service.answers import RefusedError

FORM = "multipart/form-data"
RAW = ("", "application/octet-stream", "application/x-www-form-urlencoded")
"""Types of a body that is a file; the last is curl's for whatever it is not told the type of."""

FIELD = "image"
"""The field of a form that has the file."""

ROOM = 64 * 1024  # bytes of a form or of JSON beside an image


async def read_file(request: Request, most: int) -> tuple[bytes, str]:
    """Read a file: the body of a request, or the field `FIELD` of a form.

    Args:
        request: Its body is not read yet.
        most: Upper bound of the file's bytes.

    Returns:
        The file, and its name.

    Raises:
        RefusedError: If there is none, it is too large, or the body is of another type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        return await _read_form(request, most)
    if kind in RAW or kind.startswith("image/"):
        return b"".join([part async for part in _parts(request, most)]), "image"
    raise RefusedError(
        f"a body of type {kind!r} is no image; send an image file, or a form with the field {FIELD}", 415
    )


async def read_json(request: Request, most: int) -> dict[str, Any]:
    """Read a JSON object of at most ``most`` bytes.

    Raises:
        RefusedError: If the body is none, or too large.
    """
    content = b"".join([part async for part in _parts(request, most)])
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedError("the body is no JSON; send an object, as the tool's protocol has it") from error
    if not isinstance(value, dict):
        raise RefusedError("the body is no JSON object; send one, as the tool's protocol has it")
    return value


async def _read_form(request: Request, most: int) -> tuple[bytes, str]:
    parser = MultiPartParser(request.headers, _parts(request, most + ROOM), max_files=1, max_fields=16)
    parser.spool_max_size = most + ROOM  # larger ones would be written to disk
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise RefusedError(f"the form cannot be read; send one with one file, in the field {FIELD}") from error
    file = form.get(FIELD)
    if not isinstance(file, UploadFile):
        raise RefusedError(f"the form has no file in the field {FIELD}; send it as 'curl -F {FIELD}=@photo.jpg' does")
    return await file.read(), file.filename or "image"


async def _parts(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The parts of a body; one that is too large is refused before it is read, if its length is declared."""
    refusal = RefusedError(f"the request has more than {most:,} bytes; send a smaller file", 413)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise refusal
    total = 0
    async for part in request.stream():
        total += len(part)
        if total > most:
            raise refusal
        yield part
