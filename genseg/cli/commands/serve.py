"""The command ``genseg serve``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.errors import complain, report_errors
from genseg.cli.options import LOCAL, OFFLINE, go_offline
from genseg.errors import GensegError, needing


@report_errors()
def serve(
    options: cli_options.Keys = None,
    backend: cli_options.Backend = "tiny",
    recipe: cli_options.Recipe = None,
    model: cli_options.Model = None,
    merge: Annotated[
        str | None, typer.Option(metavar="N|auto", help="Merge into at most N segments, or into a natural number.")
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model that names segments by the labels of a project, or by classes of a request.",
            autocompletion=complete.plugins("embedder"),
        ),
    ] = None,
    embedder_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A local checkpoint or hub id in place of the embedder's.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Read images that tasks name by a path below this folder.")
    ] = None,
    label_studio: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Fetch images that tasks name by a URL from this server alone; LABEL_STUDIO_API_KEY is its API key.",
        ),
    ] = None,
    host: cli_options.Host = "127.0.0.1",
    port: cli_options.Port = 9090,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="GENSEG_SERVE_TOKEN",
            show_envvar=True,
            help="Ask requests for this token, of at least 16 characters.",
        ),
    ] = None,
    max_upload_mb: cli_options.MaxUpload = 20,
    max_pixels: cli_options.MaxPixels = 20_000_000,
    queue: cli_options.Queue = 8,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Segment images for labeling tools and scripts, over HTTP: Label Studio, X-AnyLabeling and POST /segment.

    By default, the service is reachable from this machine alone. Stop with Ctrl+C. Images are never written to disk.
    """
    if images is not None and not images.is_dir():
        raise GensegError(f"--images {images} is no folder; name the one that tasks' images are in")
    if label_studio is not None and not label_studio.startswith(("http://", "https://")):
        raise GensegError(f"--label-studio {label_studio} is no address; give one such as http://localhost:8080")
    cli_options.check_embedder(embedder, embedder_model)
    with needing("app", "the service needs"):
        from genseg.segmentation.merging import merger
        from genseg.service.images import ImageReader, Server
        from genseg.service.segmenting import ImageSegmenter
        from genseg.service.server import Service
        from genseg.service.token import checked_token
        from genseg.web.limits import Limits
        from genseg.web.request import SegmentRequest

    if merge is not None:
        merger(merge, "--merge")
    token = None if token is None else checked_token(token)
    limits = Limits(max_upload_mb, max_pixels, queue)
    request = SegmentRequest(backend, recipe, tuple(options or ()), model=model, device=device, dtype=dtype)
    naming = None
    if embedder is not None:
        from genseg.registry import load_embedder

        naming = load_embedder(embedder, model=embedder_model, device=device, dtype=dtype)
    server = None if label_studio is None else Server(label_studio, os.environ.get("LABEL_STUDIO_API_KEY", ""))
    segmenter = ImageSegmenter(request, limits, n_segments=merge, embedder=naming)
    segmenter.start()
    served = Service(segmenter, ImageReader(round(max_upload_mb * 1e6), images, server), token=token, host=host)
    address = served.launch(port)
    if token is None and host not in LOCAL:
        complain("warning: anyone who reaches this address can use it; --token asks for a token")
    typer.echo(f"genseg serve: {address} (Ctrl+C stops it)")
    served.block()
