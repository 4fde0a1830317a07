"""Results as HTML, for notebooks and for a comparison's page: small pictures as data, and tables of escaped text."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    import jinja2


def embedded(picture: Image.Image) -> str:
    """Return a picture as a data URI, as JPEG or WebP: what takes fewer bytes."""
    made = []
    for kind in ("jpeg", "webp"):
        buffer = io.BytesIO()
        picture.save(buffer, format=kind, quality=85)
        made.append(data_uri(f"image/{kind}", buffer.getvalue()))
    return min(made, key=len)


def data_uri(kind: str, content: bytes) -> str:
    """Return content as a URI that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def pictures(shown: Iterable[Image.Image], facts: str) -> str:
    """Return pictures side by side, and a line below."""
    images = "".join(f'<img src="{embedded(picture)}" style="margin-right: 4px">' for picture in shown)
    return f'<div style="display: flex; flex-wrap: wrap">{images}</div><small>{escape(facts)}</small>'


def rendered(template: str, **values: Any) -> str:
    """Render a page of ``genseg/display/templates``; every text in it is escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    """Load templates once: to compile them takes longer than to render a page."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("genseg.display"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )


def table(rows: Sequence[Mapping[str, str]], caption: str) -> str:
    """Return a table of rows, of which the first has all the headings, below a caption."""
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row.values())}</tr>" for row in rows)
    what = f'<caption style="text-align: left">{escape(caption)}</caption>'
    return f"<table>{what}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
