"""The panel of a result: its pictures, what can be done to them without the model, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, get_args

import gradio as gr

from genseg.app.controls import QUIET
from genseg.app.downloads import FILES, FORMATS
from genseg.app.edits import Cut
from genseg.app.render import agreement, details, views
from genseg.app.session import Session
from genseg.segmentation.tree import NATURAL

ASSETS = Path(__file__).parent / "assets"
SET_OPACITY = "s => document.documentElement.style.setProperty('--gs-opacity', s)"
SET_OUTLINES = "s => document.documentElement.style.setProperty('--gs-outlines', s ? 'visible' : 'hidden')"
MAX_CLEAN = 5  # percent of the image


class Parts(NamedTuple):
    """The components that show a session, in the order of the values of `shown`."""

    first: gr.HTML
    second: gr.HTML
    edits: gr.Column
    number: gr.Slider
    height: gr.Slider
    agreement: gr.HTML
    details: gr.HTML
    which: gr.Dropdown
    reproduce: gr.Accordion
    command: gr.Code
    python: gr.Code


class Switches(NamedTuple):
    """The components that change how a session is shown, and what is exported."""

    by: gr.Radio
    min_area: gr.Slider
    connected: gr.Checkbox
    opacity: gr.Slider
    outlines: gr.Checkbox
    kind: gr.Dropdown
    export: gr.Button


def make_panel() -> tuple[Parts, Switches]:
    """Make the components of a result."""
    with gr.Row(equal_height=False):
        first, second = (
            gr.HTML(
                html_template=asset("viewer.html"),
                js_on_load=asset("viewer.js"),
                value={},
                apply_default_css=False,
                elem_id=name,
                visible=name == "first",
                min_width=300,
            )
            for name in ("first", "second")
        )
    with gr.Column(visible=False) as edits:
        with gr.Group():
            with gr.Row():
                number = gr.Slider(1, 15, value=15, step=1, elem_id="number", min_width=240, scale=4)
                height = gr.Slider(0, 1, value=NATURAL, step=0.01, elem_id="height", min_width=240, scale=4)
                by = gr.Radio(list(get_args(Cut)), value="auto", label="Merge by", elem_id="by", min_width=310, scale=5)
            with gr.Row():
                min_area = gr.Slider(
                    0,
                    MAX_CLEAN,
                    value=0,
                    step=0.1,
                    label="Clean parts below (%)",
                    elem_id="clean",
                    min_width=220,
                )
                opacity = gr.Slider(0, 1, value=0.5, step=0.05, label="Opacity", min_width=220)
            with gr.Row():
                connected = gr.Checkbox(
                    False, label="Each connected part is a segment", elem_id="connected", min_width=220
                )
                outlines = gr.Checkbox(True, label="Outlines", elem_id="outlines", min_width=220)
        with gr.Row(elem_id="files"):
            which = gr.Dropdown(
                [("first picture", 0), ("second picture", 1)],
                value=0,
                label="Result",
                container=False,
                visible=False,
                min_width=150,
            )
            kinds = [*((title, kind) for kind, title in FILES.items()), *FORMATS]
            kind = gr.Dropdown(
                kinds, value="overlay.png", label="Export as", elem_id="kind", container=False, min_width=150, scale=3
            )
            export = gr.Button("Export", elem_id="export", min_width=110)
    opacity.input(None, opacity, None, js=SET_OPACITY, **QUIET)
    outlines.input(None, outlines, None, js=SET_OUTLINES, **QUIET)
    scores = gr.HTML(visible=False, elem_id="agreement")
    found = gr.HTML(elem_id="details")
    with gr.Accordion("Reproduce: command line and Python", open=False, visible=False) as reproduce:
        command = gr.Code(language="shell", label="Command line", buttons=["copy"], elem_id="command")
        python = gr.Code(language="python", label="Python", buttons=["copy"], elem_id="python")
    return (
        Parts(first, second, edits, number, height, scores, found, which, reproduce, command, python),
        Switches(by, min_area, connected, opacity, outlines, kind, export),
    )


def shown(session: Session, *, moved: bool = False) -> list[Any]:
    """The values of `Parts`; a slider that its visitor has moved keeps its value."""
    first, *second = views(session)
    scores, has_results = agreement(session), bool(session.results)
    command, python = session.reproduced()
    return [
        first,
        gr.update(value=second[0] if second else {}, visible=bool(second)),  # hidden without a second result
        gr.update(visible=has_results),
        *_sliders(session, moved),
        gr.update(value=scores, visible=bool(scores)),
        details(session),
        gr.update(visible=bool(second)),
        gr.update(visible=has_results),
        gr.update(value=command, visible=bool(command)),
        python,
    ]


def _sliders(session: Session, moved: bool) -> list[Any]:
    """Settings of the two sliders that cut the merge tree, of which one is visible."""
    edits, most = session.edits, session.most_segments
    counts = " and ".join(str(each.n_segments) for each in session.shown)
    number = {"maximum": max(most, 2), "label": f"Segments: {counts} of {most}", "visible": edits.by == "number"}
    height = {
        "label": f"Height: {counts} segments",
        "interactive": edits.by == "height",
        "visible": edits.by != "number",
    }
    if not moved:
        number["value"] = min(edits.number or most, most)
        height["value"] = edits.height if edits.by == "height" else NATURAL
    return [gr.update(**number), gr.update(**height)]


def asset(name: str) -> str:
    """The text of a file among the assets."""
    return (ASSETS / name).read_text(encoding="utf-8")
