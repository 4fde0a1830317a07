"""The routes of the service, and its server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from genseg.errors import GensegError
from genseg.service import anylabeling, label_studio
from genseg.service.answers import StoppedError, failure, status_of
from genseg.service.bodies import ROOM, read_file, read_json
from genseg.service.images import ImageReader
from genseg.service.segment import FORMATS, choice_of, format_of
from genseg.service.segmenting import ImageSegmenter
from genseg.service.token import TokenMiddleware
from genseg.web.middleware import ErrorMiddleware, OwnAddressMiddleware
from genseg.web.uploads import safe_name

T = TypeVar("T")

OTHER_ADDRESS = "this is not an address of the service; ask the one that it printed, or start it with --token"
CONTAINERS = ("host.docker.internal", "host.containers.internal")
"""Names by which containers know the machine they run on; no one can register them."""

LOOK_SECONDS = 0.5  # from one look whether a client is still there to the next


class Service:
    """Masks over HTTP.

    Args:
        segmenter: Segments images.
        images: Reads the images that tools name by an address.
        token: What requests must send; None for requests from anyone who reaches the server.
        host: The network address to serve at.

    Attributes:
        application: The routes, as an ASGI application.
    """

    def __init__(
        self, segmenter: ImageSegmenter, images: ImageReader, *, token: str | None = None, host: str = "127.0.0.1"
    ) -> None:
        self._segmenter, self._images, self._host = segmenter, images, host
        self._most = round(segmenter.limits.upload_mb * 1e6)
        machine = socket.gethostname().lower()
        names = {"localhost", machine, f"{machine}.local", host.lower(), *CONTAINERS}
        guard = (
            Middleware(OwnAddressMiddleware, names, frozenset(), OTHER_ADDRESS, failure)
            if token is None
            else Middleware(TokenMiddleware, token)
        )
        self.application = Starlette(
            routes=self._routes(),
            middleware=[Middleware(ErrorMiddleware, failure), guard],
            exception_handlers={
                HTTPException: _refuse_route,
                GensegError: _refuse,
                StoppedError: _stopped,
                ClientDisconnect: _stopped,
            },
        )
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=lambda: None)

    def launch(self, port: int = 9090) -> str:
        """Serve in the background.

        Returns:
            The address.

        Raises:
            GensegError: If it cannot be used.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listening = socket.create_server((self._host, port), family=family)
        except OSError as error:
            cause = (error.strerror or str(error)).partition(" (")[0]
            raise GensegError(
                f"cannot serve at {self._host}:{port} ({cause}); choose another --port or --host"
            ) from error
        config = uvicorn.Config(self.application, log_config=None, access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="genseg-serve", daemon=True)
        self._thread.start()
        name = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{name}:{listening.getsockname()[1]}"

    def close(self) -> None:
        """Stop serving; runs end at their next progress callback."""
        self._segmenter.closing.set()
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join()

    def block(self) -> None:
        """Serve until Ctrl+C."""
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def _routes(self) -> list[Route]:
        up = partial(_answer, {"status": "UP"})
        version = partial(_answer, {"model_version": self._segmenter.version})
        nothing = partial(_answer, {"detail": "genseg has nothing to train"})
        return [
            Route("/", up),
            Route("/health", up),
            Route("/segment", self._segment, methods=["POST"]),
            Route("/setup", version, methods=["POST"]),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/train", nothing, methods=["POST"]),
            Route("/webhook", nothing, methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/predict", self._predict_shapes, methods=["POST"]),
        ]

    async def _segment(self, request: Request) -> Response:
        """Answer with the masks of an image file."""
        written, choice = FORMATS[format_of(request.query_params)], choice_of(request.query_params)
        content, name = await read_file(request, self._most)
        name = safe_name(name)

        def masks(has_left: threading.Event) -> Response:
            return JSONResponse(written(self._segmenter(content, name, has_left, choice), name))

        return await _work(request, masks)

    async def _predict(self, request: Request) -> Response:
        """Answer Label Studio."""
        body = await self._json(request)

        def predictions(has_left: threading.Event) -> Response:
            return JSONResponse(label_studio.predictions(body, self._segmenter, self._images, has_left))

        return await _work(request, predictions)

    async def _models(self, _: Request) -> Response:
        return JSONResponse(anylabeling.models(self._segmenter))

    async def _predict_shapes(self, request: Request) -> Response:
        """Answer X-AnyLabeling."""

        def shapes(has_left: threading.Event) -> Response:
            return JSONResponse(anylabeling.prediction(body, self._segmenter, self._images, has_left))

        try:
            body = await self._json(request)
            return await _work(request, shapes)
        except GensegError as error:
            status = status_of(error)
            return JSONResponse(anylabeling.failed(error, status), status)

    def _json(self, request: Request) -> Awaitable[dict[str, Any]]:
        return read_json(request, self._most * 4 // 3 + ROOM)  # base64 has four letters for three bytes


async def _work(request: Request, work: Callable[[threading.Event], T]) -> T:
    """Run what takes long in a thread; it is told when the client leaves."""
    has_left = threading.Event()
    task = asyncio.ensure_future(run_in_threadpool(work, has_left))
    while not (await asyncio.wait({task}, timeout=LOOK_SECONDS))[0]:
        if await request.is_disconnected():
            has_left.set()
    return task.result()


async def _answer(content: dict[str, Any], _: Request) -> Response:
    return JSONResponse(content)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, GensegError)
    return failure(str(error), status_of(error))


async def _refuse_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = "this address answers to another method" if error.status_code == 405 else "there is nothing at this address"
    return failure(f"{words}; see the page on labeling tools", error.status_code)


async def _stopped(_: Request, __: Exception) -> Response:
    return failure("the service is stopping; ask again later", 503)
