"""Options that several commands have in common."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from genseg.cli import completion as complete
from genseg.errors import GensegError

Backend: TypeAlias = Annotated[
    str, typer.Option("--backend", "-b", help="See 'genseg backends'.", autocompletion=complete.plugins("backend"))
]

BackendName: TypeAlias = Annotated[
    str, typer.Argument(help="See 'genseg backends list'.", autocompletion=complete.plugins("backend"))
]

Recipe: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        help="A preset (see 'genseg recipes') or a YAML file; the backend's own unless given: plus for tiny.",
        autocompletion=complete.recipes,
    ),
]

Dtype: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="float32 (the default), float16, bfloat16, or auto: half precision on CUDA.",
        autocompletion=complete.words("float32", "float16", "bfloat16", "auto"),
    ),
]

Inputs: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT|KEY=VALUE",
        help="Images, folders, patterns such as 'photos/*.jpg', - for a list of paths on standard input, and recipe "
        "keys such as size=256.",
        autocompletion=complete.keys,
    ),
]

Clusters: TypeAlias = Annotated[
    str | None, typer.Option("--clusters", "-k", metavar="K|auto", help="Number of clusters: n_clusters=K.")
]

Keys: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys such as size=256.", autocompletion=complete.keys),
]

Dataset: TypeAlias = Annotated[str, typer.Argument(metavar="DATASET", help="See 'genseg datasets'; or 'folder'.")]

Root: TypeAlias = Annotated[Path, typer.Argument(metavar="ROOT", help="Root folder of the dataset.")]

Protocols: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--protocol", "-p", metavar="A,B,...", help="How masks are given classes; 'all' for each; repeatable."
    ),
]
ORACLE = ["oracle"]
"""The default of `Protocols`."""

Rules: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Those of a published method, in place of protocol, resolution and refinement: diffcut, diffseg, stego, "
        "cause or seg4diff; diffcut+pamr, stego+crf and cause+crf refine masks.",
        autocompletion=complete.words(
            "diffcut", "diffcut+pamr", "diffseg", "stego", "stego+crf", "cause", "cause+crf", "seg4diff"
        ),
    ),
]

Baselines: TypeAlias = Annotated[
    list[str],
    typer.Option("--baselines", metavar="A,B,...", help="Compared with modulation; 'all', or 'none'; repeatable."),
]
Resolution: TypeAlias = Annotated[str, typer.Option(help="full, 512, 320 or 128: the side of the center square.")]

Limit: TypeAlias = Annotated[int | None, typer.Option(metavar="N", help="At most N images, evenly spaced.")]

Split: TypeAlias = Annotated[str | None, typer.Option(help="Split of the dataset; its default unless given.")]

Refine: TypeAlias = Annotated[str | None, typer.Option(help="A refinement of every method's masks, such as pamr.")]

MinPixels: TypeAlias = Annotated[
    int, typer.Option(min=0, metavar="N", help="Merge parts smaller than N pixels, of every method.")
]

Model: TypeAlias = Annotated[str | None, typer.Option(help="A local checkpoint or hub id in place of the backend's.")]

Models: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=MODEL", help="A local checkpoint or hub id for one of the backends; repeatable."),
]

Load: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Another option of the backend, such as offload=true; repeatable."),
]

Out: TypeAlias = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where files go.")]

Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Make files again that exist already.")]

Device: TypeAlias = Annotated[str | None, typer.Option(help="A torch device; else CUDA where there is one.")]

Host: TypeAlias = Annotated[
    str, typer.Option(help="Network address of the server; 0.0.0.0 for all addresses of this machine.")
]

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Values of `Host` that this machine alone can reach."""

Port: TypeAlias = Annotated[int, typer.Option(min=1, max=65535, help="Port of the server.")]

MaxUpload: TypeAlias = Annotated[float, typer.Option(min=0.001, max=10_000, metavar="MB", help="Largest image file.")]

MaxPixels: TypeAlias = Annotated[int, typer.Option(min=256, max=100_000_000, help="Largest image, in pixels.")]

Queue: TypeAlias = Annotated[
    int, typer.Option(min=0, max=100, metavar="N", help="Upper bound of waiting runs; one runs at a time.")
]

OFFLINE = "Use only what has been downloaded before."

OWN_OPTIONS = {key: f"--{key}" for key in ("model", "revision", "device", "dtype")} | {"name": "--backend"}
"""Loading options that have an option of their own in place of `--load`."""


def with_clusters(options: Iterable[str] | None, clusters: str | int | None) -> list[str]:
    """Recipe keys, and the number of clusters as another one.

    Raises:
        GensegError: If the keys have a number of clusters too.
    """
    keys = list(options or [])
    if clusters is None:
        return keys
    if other := next((key for key in keys if key.startswith("n_clusters=")), None):
        raise GensegError(f"-k {clusters} and {other} both set the number of clusters; give one of them")
    return [*keys, f"n_clusters={clusters}"]


def check_embedder(embedder: str | None, model: str | None) -> None:
    """Refuse a model for an embedder that is not there.

    Raises:
        GensegError: If there is one.
    """
    if model is not None and embedder is None:
        raise GensegError("--embedder-model needs --embedder; give both")


def names_in(values: Iterable[str]) -> list[str]:
    """The names in an option's values, which are comma-separated lists, each once."""
    return list(dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip()))


def pairs_in(option: str, values: Iterable[str]) -> dict[str, str]:
    """The names and models of an option that reads NAME=MODEL.

    Raises:
        GensegError: If one is of another form.
    """
    pairs = {}
    for each in values:
        name, equals, model = each.partition("=")
        if not (name and equals and model):
            raise GensegError(f"{option} {each} is not NAME=MODEL, such as sd15=checkpoints/mine")
        pairs[name] = model
    return pairs


def given(context: typer.Context, names: Iterable[str]) -> list[str]:
    """Those of the options that are on the command line, as they are spelled there."""
    sources = {name: context.get_parameter_source(name) for name in names}
    return [
        f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name == "COMMANDLINE"
    ]


def methods_in(baselines: Iterable[str], *, encoder: bool = False) -> list[str]:
    """Modulation, and the methods of ``--baselines`` after it; for an encoder those without modulation.

    Raises:
        GensegError: If an encoder is left without a method, or one that is named modulates.
    """
    from genseg.evaluation.baselines import METHODS, needs_modulation

    names = names_in(baselines)
    chosen = {"all": list(METHODS), "none": []}.get(",".join(names), names)
    if not encoder:
        return list(dict.fromkeys(["modulation", *chosen]))
    modulating = [name for name in chosen if needs_modulation(name)]
    if modulating and names != ["all"]:
        raise GensegError(f"an encoder has no modulation; leave out {', '.join(modulating)}")
    chosen = [name for name in chosen if name not in modulating]
    if not chosen:
        raise GensegError("an encoder has no modulation; name a baseline, such as --baselines naive")
    return chosen


def protocols_in(values: Iterable[str], *, has_classes: bool = True, named: bool = False) -> list[str]:
    """The protocols of ``--protocol``; for ``all`` those that there can be.

    Args:
        values: Those of the option.
        has_classes: Whether truths are maps of classes, and not annotators' regions.
        named: Whether masks are given classes by name.
    """
    from genseg.evaluation.protocols import PROTOCOLS

    names = names_in(values)
    if names != ["all"]:
        return names
    return [p for p in PROTOCOLS if (has_classes or p == "oracle") and (named or p != "open-vocabulary")]


def load_options(load: Sequence[str], revision: str | None = None) -> dict[str, Any]:
    """Options for the backend's factory, besides model, device and dtype."""
    from omegaconf import OmegaConf

    problem = "is not KEY=VALUE with a single YAML value, such as offload=true"
    options: dict[str, Any] = {"revision": revision}
    for option in load:
        key, equals, _ = option.partition("=")
        if key in OWN_OPTIONS:
            raise GensegError(f"--load {option} is refused; give {OWN_OPTIONS[key]} instead")
        try:
            values = OmegaConf.to_container(OmegaConf.from_dotlist([option]))
        except Exception as error:  # the YAML parser's own
            raise GensegError(f"--load {option} {problem}") from error
        assert isinstance(values, dict)
        if not equals or not isinstance(values.get(key, ()), str | int | float | None):
            raise GensegError(f"--load {option} {problem}")
        options[key] = values[key]
    return options


def go_offline(wanted: bool) -> None:
    """Keep the hub's client offline, by the variable that it reads when it is imported."""
    if wanted:
        os.environ["HF_HUB_OFFLINE"] = "1"
