"""Images that tools name by an address: in the address itself, below a folder, or on one server.

Whoever sends a request chooses the address, so nothing else is read: no other file of this machine, and no other host
that this machine can reach.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from genseg.service.answers import RefusedError
from genseg.web.uploads import safe_name

if TYPE_CHECKING:
    import httpx

PORTS = {"http": 80, "https": 443}
SECONDS = 30.0  # to wait for a server


class Server(NamedTuple):
    """A server that images are fetched from.

    Attributes:
        url: Its address, such as ``http://localhost:8080``.
        key: What it knows its users by; empty for none.
    """

    url: str
    key: str = ""


class ImageReader:
    """Reads the files that addresses name.

    Args:
        most: Upper bound of a file's bytes.
        folder: Files below it are read; None for no files.
        server: The one that is asked for images; None for none.
    """

    def __init__(self, most: int, folder: Path | None = None, server: Server | None = None) -> None:
        self._most, self._server = most, server
        self._folder = None if folder is None else folder.resolve()

    def read(self, address: str) -> tuple[bytes, str]:
        """Read an image file.

        Args:
            address: A data URI; a path or a path of Label Studio's, below the folder; or a URL of the server.

        Returns:
            The file, and its name for errors.

        Raises:
            RefusedError: If it is not there, too large, or may not be read.
        """
        if address.startswith("data:"):
            return self._embedded(address), "the image"
        try:
            scheme = urlsplit(address).scheme
        except ValueError as error:
            raise RefusedError("the address of the image is damaged; check it") from error
        path = _path_of(address) if scheme or address.startswith("/data/") else address
        name = safe_name(path)
        if scheme in PORTS:
            if self._server is None or _origin(address) != _origin(self._server.url):
                raise RefusedError(
                    f"{_host(address)} is not asked for images; start genseg serve with --label-studio and its address"
                )
        elif scheme:
            raise RefusedError(f"addresses of {scheme}: are not read; give an http URL, a path or a data URI")
        file = self._file(path)
        if file is not None:
            return self._content(file), safe_name(file.name)
        if self._server is not None and (scheme or address.startswith("/")):
            return self._fetched(self._server, address if scheme else self._server.url.rstrip("/") + address), name
        where = "start genseg serve with --images FOLDER" if self._folder is None else "check --images"
        raise RefusedError(f"there is no image {name} that may be read; {where}")

    def _embedded(self, address: str) -> bytes:
        head, comma, data = address.partition(",")
        if len(data) > self._most * 4 / 3 + 4:
            raise RefusedError(f"the image has more than {self._most:,} bytes; send a smaller file", 413)
        if not (comma and head.endswith(";base64")):
            raise RefusedError("the data URI has no base64; write it as data:image/png;base64,…")
        return decoded(data)

    def _file(self, path: str) -> Path | None:
        """The file of a path below the folder; None if there is none. Links that lead out of it are not followed."""
        if self._folder is None:
            return None
        try:
            file = (self._folder / path.lstrip("/")).resolve()
            return file if file.is_relative_to(self._folder) and file.is_file() else None
        except (OSError, ValueError, RuntimeError):  # of a name that no file has, or of links in a circle
            return None

    def _content(self, file: Path) -> bytes:
        try:
            if file.stat().st_size > self._most:
                raise RefusedError(f"{file.name} has more than {self._most:,} bytes; scale it down", 413)
            return file.read_bytes()
        except OSError as error:
            raise RefusedError(f"{file.name} cannot be read ({error.strerror or error}); check it") from error

    def _fetched(self, server: Server, url: str) -> bytes:
        """Ask the server; where it points elsewhere is not followed."""
        import httpx

        content = bytearray()
        try:
            with (
                httpx.Client(timeout=SECONDS, follow_redirects=False) as client,
                client.stream("GET", url, headers=_login(client, server)) as answer,
            ):
                _check_status(answer)
                for part in answer.iter_bytes():
                    content += part
                    if len(content) > self._most:
                        raise RefusedError(f"an image of {_host(url)} has more than {self._most:,} bytes", 413)
        except (httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError) as error:
            problem = f"{_host(url)} does not answer ({type(error).__name__}); check --label-studio"
            raise RefusedError(problem) from error
        return bytes(content)


def _login(client: httpx.Client, server: Server) -> dict[str, str]:
    """The header that a server knows its user by: of Label Studio's two kinds of keys, one buys tokens of minutes."""
    if server.key.count(".") != 2:
        return {"authorization": f"Token {server.key}"} if server.key else {}
    answer = client.post(f"{server.url.rstrip('/')}/api/token/refresh", json={"refresh": server.key})
    _check_status(answer)
    return {"authorization": f"Bearer {answer.json().get('access', '')}"}


def _check_status(answer: httpx.Response) -> None:
    if answer.status_code != 200:
        raise RefusedError(
            f"{_host(str(answer.url))} answers with status {answer.status_code}, not with an image; "
            "check its address and LABEL_STUDIO_API_KEY"
        )


def decoded(data: str) -> bytes:
    """Decode an image in base64.

    Raises:
        RefusedError: If it is none.
    """
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError("the image is no base64; send the file's bytes so encoded") from error


def _path_of(address: str) -> str:
    """The path below the folder that an address of Label Studio stands for: of a local file, an upload, or another."""
    parts = urlsplit(address)
    path = PurePosixPath(unquote(parts.path))
    if path == PurePosixPath("/data/local-files"):
        return (parse_qs(parts.query).get("d") or [""])[-1]
    if path.is_relative_to("/data/upload"):
        return str(path.relative_to("/data"))
    return str(path)


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, parts.hostname or "", port or PORTS.get(parts.scheme)


def _host(url: str) -> str:
    return safe_name(urlsplit(url).netloc.rpartition("@")[2])
