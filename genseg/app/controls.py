"""The settings of a request: their components, and the request that their values make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import gradio as gr

from genseg.app.options import CLUSTERS, Option, as_text, recipe_help
from genseg.recipe import BOUNDS, list_presets
from genseg.web.request import SegmentRequest

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
OWN = "default"  # recipe
NONE = "none"  # second backend


class Controls(NamedTuple):
    """The components for a request, in the order in which `requests` takes their values; advanced options follow."""

    backend: gr.Dropdown
    recipe: gr.Dropdown
    clusters: gr.Slider
    seed: gr.Number
    other: gr.Dropdown
    other_recipe: gr.Dropdown


def make_controls() -> tuple[Controls, gr.HTML]:
    """Make the components for the settings that are chosen most often, and one for backends that cannot be."""
    recipes = [OWN, *list_presets()]
    with gr.Group():
        with gr.Row():
            backend = gr.Dropdown(["tiny"], value="tiny", label="Backend", min_width=130)
            recipe = gr.Dropdown(recipes, value=OWN, label="Recipe", min_width=130, elem_id="recipe")
        about = gr.HTML(_about("tiny", OWN), elem_id="recipe-help", padding=True)
    gr.on([backend.change, recipe.change], _about, [backend, recipe], about, **QUIET)
    unusable = gr.HTML(visible=False)
    with gr.Group():
        clusters = gr.Slider(
            *CLUSTERS.bounds, value=25, step=1, label="Clusters, K", info="before they are merged", elem_id="clusters"
        )
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
    with gr.Accordion("Compare with a second backend", open=False), gr.Row():
        other = gr.Dropdown([NONE], value=NONE, label="Second backend", min_width=130)
        other_recipe = gr.Dropdown(recipes, value=OWN, label="Recipe of the second", min_width=130)
    return Controls(backend, recipe, clusters, seed, other, other_recipe), unusable


def make_option(option: Option) -> Any:
    """Make the component of one advanced option; empty for the recipe's own value."""
    words = {"label": option.key, "info": option.help, "elem_id": f"option-{option.key}"}
    if option.kind == "choice":
        return gr.Dropdown([("as in the recipe", ""), *((c, c) for c in option.choices)], value="", **words)
    # Text for numbers, too: Gradio's number makes a 0 of an empty field.
    span = "{:g} to {:.10g}; ".format(*option.bounds) if option.key in BOUNDS else ""
    return gr.Textbox("", max_lines=1, placeholder=f"{span}empty: as in the recipe", **words)


def requests(chosen: Sequence[Any], typed: Iterable[tuple[Option, str]]) -> list[SegmentRequest]:
    """One or two requests, from the values of the controls and of the advanced options."""
    values = Controls(*chosen)
    keys = as_text([(CLUSTERS, str(int(values.clusters))), *typed])
    pairs = [(values.backend, values.recipe)]
    if values.other != NONE:
        pairs.append((values.other, values.other_recipe))
    seed = int(values.seed or 0)
    return [SegmentRequest(backend, None if recipe == OWN else recipe, keys, seed) for backend, recipe in pairs]


def _about(backend: str, recipe: str) -> str:
    return f"<p class='gs-note'>{recipe_help(backend, None if recipe == OWN else recipe)}</p>"
