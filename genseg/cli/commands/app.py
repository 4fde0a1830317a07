"""The command ``genseg app``."""

from __future__ import annotations

from typing import Annotated

import typer

from genseg.cli import options as cli_options
from genseg.cli.errors import complain, report_errors
from genseg.cli.options import LOCAL, OFFLINE, go_offline
from genseg.errors import needing


@report_errors()
def app(
    host: cli_options.Host = "127.0.0.1",
    port: cli_options.Port = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Also make a public address, through Gradio's servers.")
    ] = False,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="USER[:PASSWORD]",
            envvar="GENSEG_APP_AUTH",
            show_envvar=True,
            help="Ask visitors for a login. Without a password here, the terminal asks for it.",
        ),
    ] = None,
    max_upload_mb: cli_options.MaxUpload = 20,
    max_pixels: cli_options.MaxPixels = 20_000_000,
    queue: cli_options.Queue = 8,
    model: cli_options.Models = None,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Segment images in the browser; by default, the page is reachable from this machine alone.

    Stop with Ctrl+C. Images are in memory while their tab is open; only exports pass through a temporary folder.
    """
    pair = None
    if auth is not None:
        user, _, password = auth.partition(":")
        pair = user, password or typer.prompt(f"Password for {user}", hide_input=True)
    models = cli_options.pairs_in("--model", model or [])
    with needing("app", "the app needs"):
        import gradio  # noqa: F401  # before what comes with it

        from genseg.app.server import App
        from genseg.web.limits import Limits

    served = App(Limits(max_upload_mb, max_pixels, queue), models=models, device=device, dtype=dtype)
    address = served.launch(host, port, share=share, auth=pair)
    if pair is None and (share or host not in LOCAL):
        complain("warning: anyone who reaches this address can use it; --auth asks for a login")
    typer.echo(f"genseg app: {address} (Ctrl+C stops it)")
    served.block()
