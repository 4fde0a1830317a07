"""The server of the page: its address, its limits, and the routes for uploads and downloads."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from genseg.app.middleware import middleware
from genseg.app.page import build, theme
from genseg.app.sessions import Sessions
from genseg.errors import GensegError
from genseg.web.engine import Engine
from genseg.web.limits import Limits

if TYPE_CHECKING:
    import gradio

EVENTS = 100
"""Upper bound of waiting clicks and the like; runs have a queue of their own."""


class App:
    """The page and its server.

    Args:
        limits: Upper bounds of what visitors may request.
        models: A local checkpoint or hub id for each backend that is not to load its own.
        device: A torch device for all; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"auto"``; None for float32.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        models: dict[str, str] | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.engine = Engine(self.limits.queue, self.limits.max_pixels, models, device, dtype)
        self.sessions = Sessions(self.engine)
        self._decoding = asyncio.Semaphore(2)  # an image in decoding takes several times its own memory
        self._blocks: gradio.Blocks = build(self.sessions, self.limits.upload_mb)

    def launch(
        self,
        host: str = "127.0.0.1",
        port: int = 7860,
        *,
        share: bool = False,
        auth: tuple[str, str] | None = None,
    ) -> str:
        """Serve the page in the background.

        Returns:
            Its address.

        Raises:
            GensegError: If the address cannot be used.
        """
        machine = socket.gethostname().lower()
        origins = {_origin(url) for url in (os.environ.get("GRADIO_ROOT_PATH", ""),) if "://" in url}
        wrapped = middleware({"localhost", machine, f"{machine}.local", host.lower()}, origins)
        try:
            _, local, public = self._blocks.queue(max_size=EVENTS).launch(
                server_name=host,
                server_port=port,
                share=share,
                auth=auth,
                prevent_thread_lock=True,
                quiet=True,
                max_threads=self.limits.queue + 24,  # a waiting run holds one, and clicks must not wait for it
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                mcp_server=False,
                ssr_mode=False,
                pwa=False,
                inbrowser=False,
                app_kwargs={"routes": self._routes(), "middleware": wrapped, "openapi_url": None},
                **theme(),
            )
        except OSError as error:
            raise GensegError(f"cannot serve at {host}:{port} ({error}); choose another --port or --host") from error
        if public:
            origins.add(_origin(public))
        threading.Thread(target=self.engine.warm, args=("tiny",), daemon=True, name="genseg-warm").start()
        return str(public or local)

    def close(self) -> None:
        """Stop serving."""
        self._blocks.close(verbose=False)

    def block(self) -> None:
        """Serve until Ctrl+C."""
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            self.close()

    def _routes(self) -> list[Route]:
        return [
            Route("/image/{token}", self._upload, methods=["POST"], max_body_size=round(self.limits.upload_mb * 1e6)),
            Route("/file/{token}/{number}", self._download, methods=["GET"]),
        ]

    async def _upload(self, request: Request) -> Response:
        """Take an image file from the body of a request."""
        session = self.sessions.named(request.path_params["token"])
        if session is None:
            return PlainTextResponse("the page is too old; load it again", status_code=404)
        name = unquote(request.headers.get("x-name", "image"))
        try:
            content = await request.body()
            async with self._decoding:
                await run_in_threadpool(session.take, content, name)
        except ClientDisconnect:
            return Response(status_code=400)
        except GensegError as error:
            return PlainTextResponse(str(error), status_code=400)
        return Response(status_code=204)

    def _download(self, request: Request) -> Response:
        """Answer with a file that the page has asked for."""
        session = self.sessions.named(request.path_params["token"])
        file = None if session is None else session.files.pop(request.path_params["number"], None)
        if file is None:
            return PlainTextResponse(
                "this file was downloaded, or the page is too old; export it again", status_code=404
            )
        name, content = file
        headers = {"content-disposition": f"attachment; filename*=utf-8''{quote(name)}", "cache-control": "no-store"}
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(content, media_type=media_type, headers=headers)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
