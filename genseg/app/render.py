"""What the page shows, as data and HTML; every text in it escaped."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
from PIL import Image

from genseg.app.downloads import FILES
from genseg.app.engine import IMPORTS
from genseg.app.pictures import THUMBNAIL, as_data, difference_map, grid_cells, small, view
from genseg.app.request import Run
from genseg.app.session import Session, Status
from genseg.app.uploads import examples


def views(session: Session) -> list[dict[str, Any]]:
    """What each viewer draws: nothing, the photo, or one or two results."""
    if session.image is None:
        return [{}]
    if not session.results:
        return [view(session.image)]
    drawn = []
    for which, (result, run) in enumerate(zip(session.shown, session.runs, strict=True)):
        drawn.append(view(session.image, result, f"{_title(run)}: {result.n_segments} segments"))
        if session.picked is not None and session.picked[0] == which:
            drawn[which]["picked"] = session.picked[1]
    return drawn


def agreement(session: Session) -> str:
    """How much two results agree; empty unless there are two."""
    figures = "".join(f"<span><b>{value:.2f}</b>{name}</span>" for name, value in session.agreement().items())
    return f"<p class='gs-title'>Agreement of the two</p><div class='gs-agree'>{figures}</div>" if figures else ""


def details(session: Session) -> str:
    """The segment that was clicked: its difference map and its grid cells."""
    if not session.results:
        return ""
    if session.picked is None:
        return "<p class='gs-note'>Click a segment to see what it was made from.</p>"
    which, label = session.picked
    result = session.shown[which]
    pictures = (
        (grid_cells(result, label), "Grid cells: the cluster of low-resolution features that was perturbed"),
        (difference_map(result, label), "Difference map: where the image changes then, bright for much"),
    )
    figures = "".join(
        f"<figure><img src='{as_data(picture)}' alt='{words}'><figcaption>{words}</figcaption></figure>"
        for picture, words in pictures
    )
    share = float(np.mean(result.labels == label))
    return (
        f"<p class='gs-title'>Segment {label} of {escape(_title(session.runs[which]))}, {share:.1%} of the image</p>"
        f"<div class='gs-pair'>{figures}</div>"
    )


def files(session: Session) -> str:
    """Links to the downloads."""
    names = dict(zip(FILES, ("Labels PNG", "COCO JSON", "Overlay PNG", "Image PNG"), strict=True))
    lines = []
    for which, run in enumerate(session.runs):
        who = f"{escape(_title(run))}:" if len(session.runs) > 1 else "Download"
        links = "".join(f"<a href='file/{session.token}/{which}/{kind}' download>{names[kind]}</a>" for kind in FILES)
        lines.append(f"<div class='gs-files'><span>{who}</span>{links}</div>")
    return "".join(lines)


def _title(run: Run) -> str:
    """What tells a run from the one beside it."""
    return f"{run.backend}, {run.recipe}" if run.recipe else run.backend


def line(status: Status) -> str:
    """How far a run is, with a bar."""
    track = f"<div class='gs-track'><i style='width:{status.part:.0%}'></i></div>" if status.part else ""
    return f"<div class='gs-status' role='status'>{escape(status.words)}{track}</div>"


def problem(words: str) -> str:
    """What is wrong, and what to do."""
    return f"<div class='gs-status'><span class='gs-bad' role='alert'>{escape(words)}</span></div>"


def spent(session: Session) -> str:
    """What the results took."""
    seconds = sum(sum(result.cost.seconds.values()) for result in session.results)
    return f"done in {seconds:.1f} s"


def backends() -> tuple[list[str], str]:
    """Names of the backends that are usable here, and why the others are not, as HTML; empty if all are."""
    from genseg.registry import list_backends

    with IMPORTS:
        infos = list_backends()
    why = "".join(f"<li><b>{escape(i.name)}</b>: {escape(i.problem)}</li>" for i in infos if not i.usable)
    words = f"<details class='gs-unusable'><summary>Not usable here, and why</summary><ul>{why}</ul></details>"
    return [info.name for info in infos if info.usable], words if why else ""


def thumbnails() -> str:
    """A button for each example photo."""
    buttons = []
    for path in examples():
        with Image.open(path) as photo:
            uri = as_data(small(photo.convert("RGB"), THUMBNAIL * 2))
        buttons.append(
            f'<button type="button" disabled data-name="{path.name}" title="{path.stem}">'
            f'<img src="{uri}" alt="{path.stem}"></button>'
        )
    return "".join(buttons)
