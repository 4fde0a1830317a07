"""The page: its layout and its events. All state of an image is in its `genseg.app.session.Session`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from genseg.app.controls import NONE, QUIET, Controls, make_controls, make_option, requests
from genseg.app.downloads import download
from genseg.app.options import advanced
from genseg.app.panel import asset, make_panel, shown
from genseg.app.render import backends, details, line, problem, thumbnails, time_spent
from genseg.app.session import Cancelled, Session, Status
from genseg.errors import GensegError
from genseg.web.middleware import log_failure

if TYPE_CHECKING:
    from genseg.app.sessions import Sessions

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # the visitor's: nothing is fetched
MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")
NARROW = """<style>@media (max-width: 760px) {
  .gradio-container.gradio-container.gradio-container { padding: 0 !important; }
  .gradio-container > .main { padding: 12px !important; }
}</style>"""  # Gradio's own frame, which its ``css`` does not reach: 52 pixels a side
SAVE = "watch('value', () => { element.firstChild.href = props.value; element.firstChild.click(); });"


class Page(gr.Blocks):  # type: ignore[misc]  # Gradio has no types
    """Gradio's blocks; an event that fails is one line of the log and a sentence to the visitor, not a traceback."""

    async def process_api(self, *args: Any, **kwargs: Any) -> Any:
        """Run what an event asks for."""
        try:
            return await super().process_api(*args, **kwargs)
        except Exception as error:  # anything a visitor may send, of which Gradio checks little
            log_failure("an event of the page", error)
            words = "this did not work; load the page again"
            if isinstance(error, (GensegError, gr.Error)):
                words = getattr(error, "message", str(error))
            raise gr.Error(words, print_exception=False) from error


def theme() -> dict[str, Any]:
    """Theme and style, as Gradio's ``launch`` takes them."""
    base = gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO)
    return {"theme": base, "css": asset("page.css"), "head": NARROW}


def build(sessions: Sessions, upload_mb: float) -> gr.Blocks:
    """Lay out the page.

    Args:
        sessions: The sessions of all tabs.
        upload_mb: Largest image file, in megabytes.
    """
    options = advanced()
    with Page(title="genseg", analytics_enabled=False) as page:
        gr.HTML(f"<div class='gs-head'><h1>genseg</h1><p>{asset('lead.txt').strip()}</p></div>")
        with gr.Row(equal_height=False, elem_id="main"):
            with gr.Column(scale=4, min_width=320, elem_id="side"):
                drop = gr.HTML(
                    html_template=asset("drop.html").replace("@examples", thumbnails()),
                    js_on_load=asset("drop.js"),
                    value={"token": "", "most": upload_mb * 1e6},
                    apply_default_css=False,
                    elem_id="drop",
                )
                with gr.Row():
                    go = gr.Button("Segment", variant="primary", elem_id="go", scale=3)
                    stop = gr.Button("Cancel", elem_id="stop", scale=1, min_width=90, interactive=False)
                status = gr.HTML(elem_id="status")
                with gr.Column(elem_id="settings"):
                    controls, unusable = make_controls()
                    with gr.Accordion("Advanced options", open=False):
                        gr.HTML(
                            "<p class='gs-note'>Keys of the recipe. An empty field keeps the recipe's own value.</p>"
                        )
                        inputs = [make_option(option) for option in options]
            with gr.Column(scale=7, min_width=320, elem_id="result"):
                parts, switches = make_panel()
        saver = gr.HTML(html_template="<a download hidden></a>", js_on_load=SAVE, value="")

        def session_of(request: gr.Request) -> Session:
            return sessions.of(str(request.session_hash), request.client.host if request.client else "")

        def connect(request: gr.Request) -> dict[str, Any]:
            return {"token": session_of(request).token, "most": upload_mb * 1e6}

        def list_choices() -> list[Any]:
            usable, others = backends()
            return [
                gr.update(choices=usable),
                gr.update(choices=[NONE, *usable]),
                gr.update(value=others, visible=bool(others)),
            ]

        def disconnect(request: gr.Request) -> None:
            sessions.end(str(request.session_hash))

        def show(request: gr.Request) -> list[Any]:
            return [line(Status("")), *shown(session_of(request))]

        def take_example(event: gr.EventData, request: gr.Request) -> list[Any]:
            session_of(request).take_example(str(event.name))
            return show(request)

        def segment(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
            session, unchanged = session_of(request), [gr.skip() for _ in parts]
            running = [gr.update(interactive=False), gr.update(interactive=True)]
            idle = [gr.update(interactive=True), gr.update(interactive=False)]
            try:
                chosen, typed = values[: len(Controls._fields)], values[len(Controls._fields) :]
                before = None
                for progress in session.segment(requests(chosen, zip(options, typed, strict=True))):
                    if progress != before:
                        before = progress
                        yield [line(progress), *running, *unchanged]
            except Cancelled:
                yield [line(Status("cancelled")), *idle, *unchanged]
            except GensegError as error:
                yield [problem(str(error)), *idle, *unchanged]
            else:
                yield [line(Status(time_spent(session))), *idle, *shown(session)]

        def cancel(request: gr.Request) -> None:
            session_of(request).cancel()

        def recut(request: gr.Request, by: str) -> list[Any]:
            session = session_of(request)
            session.edit(by=by)
            return shown(session)

        def cut_at_number(request: gr.Request, value: float) -> list[Any]:
            session = session_of(request)
            session.edit(by="number", number=int(value) if value < session.most_segments else None)
            return shown(session, moved=True)

        def cut_at_height(request: gr.Request, value: float) -> list[Any]:
            session = session_of(request)
            session.edit(by="height", height=value)
            return shown(session, moved=True)

        def tidy(request: gr.Request, percent: float, connected: bool) -> list[Any]:
            session = session_of(request)
            session.edit(min_area=percent / 100, connected=connected)
            return shown(session)

        def join(event: gr.EventData, request: gr.Request) -> list[Any]:
            session = session_of(request)
            session.join(int(event.which), _labels(event))
            return shown(session)

        def undo(request: gr.Request) -> list[Any]:
            session = session_of(request)
            session.edit(joined=session.edits.joined[:-1])
            return shown(session)

        def pick(event: gr.EventData, request: gr.Request) -> Any:
            session = session_of(request)
            session.pick(int(event.which), _labels(event))
            picked, found = session.picked, details(session)
            return found if session.picked is picked else gr.skip()  # another click came meanwhile

        def save(event: gr.EventData, request: gr.Request) -> str:
            session = session_of(request)
            return session.keep(*download(session, int(event.which), str(event.kind), selected=_labels(event)))

        def export(request: gr.Request, which: int, kind: str, opacity: float, outlines: bool) -> Iterator[list[Any]]:
            session = session_of(request)
            yield [gr.skip(), gr.update(value="Preparing", interactive=False)]
            saved: Any = gr.skip()
            which = min(which, len(session.shown) - 1)
            try:
                saved = session.keep(*download(session, which, kind, opacity=opacity, outlines=outlines))
            except GensegError as error:
                gr.Warning(str(error))
            yield [saved, gr.update(value="Export", interactive=True)]

        page.load(connect, None, drop, **QUIET)
        page.load(list_choices, None, [controls.backend, controls.other, unusable], **QUIET)
        page.unload(disconnect)
        drop.taken(show, None, [status, *parts], **QUIET)
        drop.example(take_example, None, [status, *parts], **QUIET)
        go.click(
            segment,
            [*controls, *inputs],
            [status, go, stop, *parts],
            concurrency_limit=None,  # the engine has a queue of its own, of bounded length
            **QUIET,
        )
        stop.click(cancel, None, None, concurrency_limit=None, **QUIET)
        latest = {"trigger_mode": "always_last", "concurrency_limit": 4, **QUIET}
        switches.by.input(recut, switches.by, list(parts), **latest)
        parts.number.input(cut_at_number, parts.number, list(parts), **latest)
        parts.height.input(cut_at_height, parts.height, list(parts), **latest)
        gr.on(
            [switches.min_area.input, switches.connected.input],
            tidy,
            [switches.min_area, switches.connected],
            list(parts),
            **latest,
        )
        for viewer in (parts.first, parts.second):
            viewer.pick(pick, None, parts.details, trigger_mode="multiple", concurrency_limit=4, **QUIET)
            viewer.join(join, None, list(parts), concurrency_limit=4, **QUIET)
            viewer.undo(undo, None, list(parts), concurrency_limit=4, **QUIET)
            viewer.save(save, None, saver, concurrency_limit=2, **QUIET)
        switches.export.click(
            export,
            [parts.which, switches.kind, switches.opacity, switches.outlines],
            [saver, switches.export],
            concurrency_limit=2,
            **QUIET,
        )
    return page


def _labels(event: gr.EventData) -> list[int]:
    return [int(label) for label in event.labels]
