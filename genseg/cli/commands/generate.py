"""``genseg generate``: let a model make images, and segment them without inversion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genseg.cli import options as cli_options
from genseg.cli.errors import complain, report_errors
from genseg.cli.files import check_writable, files_of, kinds_of, planned, write
from genseg.cli.options import OFFLINE, go_offline, load_options
from genseg.cli.progress import Bars
from genseg.errors import GensegError, user_message
from genseg.files import KINDS

SAVED = ["image", "overlay", "labels"]


@report_errors()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the images show; none for anything.")] = "",
    options: cli_options.Keys = None,
    backend: cli_options.Backend = "tiny",
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many images, of seeds that follow.")] = 1,
    recipe: cli_options.Recipe = None,
    model: cli_options.Model = None,
    load: cli_options.Load = None,
    out: cli_options.Out = Path("genseg-output"),
    save: Annotated[
        list[str], typer.Option(metavar="KINDS", help=f"Comma-separated, any of {','.join(KINDS)}; repeatable.")
    ] = SAVED,
    seed: Annotated[int, typer.Option(min=0, help="Of the first image; same seed, same image.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    overwrite: cli_options.Overwrite = False,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Let a model make images and segment them, without inversion; for each, write SEED.overlay.png and so on.

    What fails for one image does not stop the others; the exit code is then 1.
    """
    if "=" in prompt and prompt.partition("=")[0].isidentifier():
        raise GensegError(f'the prompt comes before recipe keys; give "" before {prompt} for none')
    kinds = kinds_of(save)
    unusable: dict[str, str] = {}
    plan = planned([Path(f"{number:06d}") for number in range(seed, seed + number)], out, kinds, overwrite, unusable)
    check_writable(out)
    failed = {f"seed {int(name)}": problem for name, problem in unusable.items()}
    with Bars(number) as bars:
        for image in failed:
            bars.next_image(f"{image}: failed")
        bars.stage("load", 0, 1)
        from genseg.registry import load_backend

        loaded = load_backend(backend, model=model, device=device, dtype=dtype, **load_options(load or []))

        from genseg.segmenter import Segmenter

        resolved = loaded.resolve(recipe, options or [])
        segmenter = Segmenter(loaded, resolved, progress=bars.stage)
        for name, files in plan:
            image = f"seed {int(name.name)}"
            if not files:
                bars.next_image(f"{image}: skipped, its files exist; --overwrite makes them again")
                continue
            try:
                segmentation = segmenter.generate(prompt, int(name.name))
                write(segmentation, files, files_of(name, out, ["image"])["image"])
            except Exception as error:  # whatever is wrong with one image or its files, the others are made
                if isinstance(error, GensegError) and segmenter.backend.meter.evaluations == 0:
                    raise  # of the request: the model has refused it before its first pass
                failed[image] = user_message(error)
                bars.next_image(f"{image}: failed")
            else:
                spent = sum(segmentation.cost.seconds.values())
                bars.next_image(f"{image}: {segmentation.n_segments} segments, {spent:.1f} s")
        if len(failed) < number:
            bars.say(f"files in {out}: {', '.join('SEED' + KINDS[kind] for kind in kinds)}")
    for image, problem in failed.items():
        complain(f"{image}: {problem}")
    if failed:
        raise typer.Exit(1)
