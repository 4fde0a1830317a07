"""The page: its layout and its events. All state of an image is in its `genseg.app.session.Session`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from genseg.app.options import CLUSTERS, Option, advanced, as_text
from genseg.app.render import agreement, backends, details, files, line, problem, thumbnails, time_spent, views
from genseg.app.session import Cancelled, Session, Status
from genseg.errors import GensegError
from genseg.recipe import BOUNDS, list_presets
from genseg.web.middleware import log_failure
from genseg.web.request import SegmentRequest

if TYPE_CHECKING:
    from genseg.app.session import Sessions

ASSETS = Path(__file__).parent / "assets"
OWN = "backend's own"  # recipe
NONE = "none"  # second backend
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # the visitor's: nothing is fetched
MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")
NARROW = """<style>@media (max-width: 760px) {
  .gradio-container.gradio-container.gradio-container { padding: 0 !important; }
  .gradio-container > .main { padding: 12px !important; }
}</style>"""  # Gradio's own frame, which its ``css`` does not reach: 52 pixels a side
SET_OPACITY = "s => document.documentElement.style.setProperty('--gs-opacity', s)"
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


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


class Parts(NamedTuple):
    """The components that show a session, in the order of the values of `_shown`."""

    first: gr.HTML
    second: gr.HTML
    sliders: gr.Row
    merge: gr.Slider
    agreement: gr.HTML
    details: gr.HTML
    files: gr.HTML
    reproduce: gr.Accordion
    command: gr.Code
    python: gr.Code


class Controls(NamedTuple):
    """The components for a request, in the order in which `_requests` takes their values; advanced options follow."""

    backend: gr.Dropdown
    recipe: gr.Dropdown
    clusters: gr.Slider
    auto: gr.Checkbox
    seed: gr.Number
    other: gr.Dropdown
    other_recipe: gr.Dropdown


def theme() -> dict[str, Any]:
    """Theme and style, as Gradio's ``launch`` takes them."""
    base = gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO)
    return {"theme": base, "css": _asset("page.css"), "head": NARROW}


def build(sessions: Sessions, upload_mb: float) -> gr.Blocks:
    """Lay out the page.

    Args:
        sessions: The sessions of all tabs.
        upload_mb: Largest image file, in megabytes.
    """
    options = advanced()
    with Page(title="genseg", analytics_enabled=False) as page:
        gr.HTML(f"<div class='gs-head'><h1>genseg</h1><p>{_asset('lead.txt').strip()}</p></div>")
        with gr.Row(equal_height=False, elem_id="main"):
            with gr.Column(scale=4, min_width=320, elem_id="side"):
                drop = gr.HTML(
                    html_template=_asset("drop.html").replace("@examples", thumbnails()),
                    js_on_load=_asset("drop.js"),
                    value={"token": "", "most": upload_mb * 1e6},
                    apply_default_css=False,
                    elem_id="drop",
                )
                with gr.Row():
                    go = gr.Button("Segment", variant="primary", elem_id="go", scale=3)
                    stop = gr.Button("Cancel", elem_id="stop", scale=1, min_width=90, interactive=False)
                status = gr.HTML(elem_id="status")
                with gr.Column(elem_id="settings"):
                    controls, unusable = _controls()
                    with gr.Accordion("Advanced options", open=False):
                        gr.HTML(
                            "<p class='gs-note'>Keys of the recipe. An empty field keeps the recipe's own value.</p>"
                        )
                        inputs = [_control(option) for option in options]
            with gr.Column(scale=7, min_width=320, elem_id="result"):
                parts = _parts()

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
            return [line(Status("")), *_shown(session_of(request))]

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
                for progress in session.segment(_requests(chosen, zip(options, typed, strict=True))):
                    if progress != before:
                        before = progress
                        yield [line(progress), *running, *unchanged]
            except Cancelled:
                yield [line(Status("cancelled")), *idle, *unchanged]
            except GensegError as error:
                yield [problem(str(error)), *idle, *unchanged]
            else:
                yield [line(Status(time_spent(session))), *idle, *_shown(session)]

        def cancel(request: gr.Request) -> None:
            session_of(request).cancel()

        def merge(request: gr.Request, n_segments: float) -> list[Any]:
            session = session_of(request)
            session.merge(int(n_segments))
            return _shown(session)

        def pick_in(which: int) -> Callable[..., list[Any]]:
            def pick(event: gr.EventData, request: gr.Request) -> list[Any]:
                session = session_of(request)
                session.pick(which, int(event.label))
                return [*_viewers(session), details(session)]

            return pick

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
        parts.merge.input(merge, parts.merge, list(parts), trigger_mode="always_last", concurrency_limit=4, **QUIET)
        for which, viewer in enumerate((parts.first, parts.second)):
            viewer.pick(pick_in(which), None, [parts.first, parts.second, parts.details], concurrency_limit=4, **QUIET)
    return page


def _controls() -> tuple[Controls, gr.HTML]:
    """Make the components for the settings that are chosen most often."""
    with gr.Row():
        backend = gr.Dropdown(["tiny"], value="tiny", label="Backend", min_width=130)
        recipe = gr.Dropdown([OWN, *list_presets()], value=OWN, label="Recipe", info="tiny's own: plus", min_width=130)
    unusable = gr.HTML(visible=False)
    least, most = CLUSTERS.bounds
    with gr.Group():
        clusters = gr.Slider(least, most, value=15, step=1, label="Clusters, K", elem_id="clusters")
        with gr.Row():
            auto = gr.Checkbox(True, label="Automatic K", info="a number for each image", min_width=130)
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, min_width=100)
    clusters.input(None, None, auto, js="() => false", **QUIET)
    with gr.Accordion("Compare with a second backend", open=False), gr.Row():
        other = gr.Dropdown([NONE], value=NONE, label="Second backend", min_width=130)
        other_recipe = gr.Dropdown([OWN, *list_presets()], value=OWN, label="Recipe of the second", min_width=130)
    return Controls(backend, recipe, clusters, auto, seed, other, other_recipe), unusable


def _control(option: Option) -> Any:
    """Make the component of one advanced option; empty for the recipe's own value."""
    words = {"label": option.key, "info": option.help, "elem_id": f"option-{option.key}"}
    if option.kind == "choice":
        return gr.Dropdown([("as in the recipe", ""), *((c, c) for c in option.choices)], value="", **words)
    # Text for numbers, too: Gradio's number makes a 0 of an empty field.
    span = "{:g} to {:.10g}; ".format(*option.bounds) if option.key in BOUNDS else ""
    return gr.Textbox("", max_lines=1, placeholder=f"{span}empty: as in the recipe", **words)


def _parts() -> Parts:
    """Make the components that show a session."""
    with gr.Row(equal_height=False):
        first, second = (
            gr.HTML(
                html_template=_asset("viewer.html"),
                js_on_load=_asset("viewer.js"),
                value={},
                apply_default_css=False,
                elem_id=name,
                visible=name == "first",
                min_width=300,
            )
            for name in ("first", "second")
        )
    with gr.Row(visible=False) as sliders:
        opacity = gr.Slider(0, 1, value=0.5, step=0.05, label="Opacity of the segments", min_width=180)
        merge = gr.Slider(1, 15, value=15, step=1, label="Segments", elem_id="merge", min_width=180)
    opacity.input(None, opacity, None, js=SET_OPACITY, **QUIET)
    agreement = gr.HTML(visible=False, elem_id="agreement")
    details = gr.HTML(elem_id="details")
    files = gr.HTML(elem_id="files")
    with gr.Accordion("Reproduce: command line and Python", open=False, visible=False) as reproduce:
        command = gr.Code(language="shell", label="Command line", buttons=["copy"], elem_id="command")
        python = gr.Code(language="python", label="Python", buttons=["copy"], elem_id="python")
    return Parts(first, second, sliders, merge, agreement, details, files, reproduce, command, python)


def _requests(chosen: Sequence[Any], typed: Iterable[tuple[Option, str]]) -> list[SegmentRequest]:
    """One or two requests, from the values of the controls and of the advanced options."""
    values = Controls(*chosen)
    clusters = ("n_clusters=auto",) if values.auto else as_text([(CLUSTERS, str(int(values.clusters)))])
    keys = clusters + as_text(typed)
    pairs = [(values.backend, values.recipe)]
    if values.other != NONE:
        pairs.append((values.other, values.other_recipe))
    seed = int(values.seed or 0)
    return [SegmentRequest(backend, None if recipe == OWN else recipe, keys, seed) for backend, recipe in pairs]


def _shown(session: Session) -> list[Any]:
    """The values of `Parts`."""
    most, has_results = session.most_segments, bool(session.results)
    command, python = session.reproduced()
    slider = gr.update(
        maximum=max(most, 2),
        value=session.merged or most,
        interactive=most > 1,
        label=f"Merge into {session.merged or most} of {most} segments",
    )
    scores = agreement(session)
    return [
        *_viewers(session),
        gr.update(visible=has_results),
        slider,
        gr.update(value=scores, visible=bool(scores)),
        details(session),
        files(session),
        gr.update(visible=has_results),
        command,
        python,
    ]


def _viewers(session: Session) -> list[Any]:
    """The values of both viewers; the second is hidden without a second result."""
    first, *second = views(session)
    return [first, gr.update(value=second[0] if second else {}, visible=bool(second))]


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
