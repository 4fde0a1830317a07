"""How Sphinx builds these pages: ``make docs``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.domains.python import PyObject

sys.path.insert(0, str(Path(__file__).parent))

import agents
import generated
import genseg

project = "genseg"
author = "genseg contributors"
release = genseg.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["**/README.md"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "py:obj"  # `name` in docstrings is a link where there is such a name, and code elsewhere
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the text says dtype and shape
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
add_module_names = False

nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:.*", r"(?!genseg\.).*"),  # other libraries' names, and names that only type checkers import
]

html_theme = "furo"
html_title = f"genseg {release}"
html_static_path = ["_static"]
html_css_files = ["genseg.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}


def fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Put what is made from the code where a page says ``<!-- generated: NAME ARGUMENTS -->``."""
    mark = re.compile(r"<!-- generated: ([\w-]+)([\w -]*) -->")
    source[0] = mark.sub(lambda match: generated.PARTS[match[1]](*match[2].split()), source[0])


def shorten(*given: Any) -> tuple[str | None, str | None]:
    """Write arrays in signatures as the code does: ``NDArray[int32]``."""
    arrays = re.compile(r"[~\w.]*ndarray\[tuple\[[~\w.]*Any, \.\.\.\], [~\w.]*dtype\[[~\w.]*?(\w+)\]\]")
    signature, returned = (text and arrays.sub(r"NDArray[\1]", text) for text in given[-2:])
    return signature, returned


def skip(_app: Sphinx, _kind: str, _name: str, thing: Any, skipped: bool, _options: Any) -> bool:
    """Leave out the fields of named tuples, which the class's own text says more of."""
    return skipped or type(thing).__name__ == "_tuplegetter"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", fill)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-skip-member", skip)
    app.connect("build-finished", agents.write)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
