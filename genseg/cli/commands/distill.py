"""The command ``genseg distill``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.errors import complain
from genseg.cli.options import OFFLINE, go_offline
from genseg.cli.progress import Bars
from genseg.errors import GensegError
from genseg.students.settings import StudentSettings

NAMES = ("segformer-nano", "segformer-b0", "segformer-b1", "segformer-b2", "mobilenet-v2")


def distill(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="What 'genseg run' or 'genseg synth' wrote.")],
    classes: Annotated[str, typer.Option(metavar="NAME", help="A set of classes of the run, such as concepts-27.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the student goes.")],
    student: Annotated[
        str, typer.Option(help=f"One of {', '.join(NAMES)}.", autocompletion=complete.words(*NAMES))
    ] = StudentSettings.student,
    checkpoint: Annotated[
        str | None, typer.Option(help="A local folder or hub id of transformers to start from; else random weights.")
    ] = None,
    image_size: Annotated[
        int, typer.Option(metavar="PIXELS", help="Side of the square crops, at least 32.")
    ] = StudentSettings.image_size,
    epochs: Annotated[float, typer.Option(help="How often each image is seen.")] = StudentSettings.epochs,
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Batches, in place of epochs.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Crops in a batch.")] = StudentSettings.batch_size,
    lr: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = StudentSettings.lr,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Ignore pixels whose confidence is below it.")
    ] = 0.0,
    confidence_weighting: Annotated[
        bool,
        typer.Option("--confidence-weighting/--no-confidence-weighting", help="Weight the loss by confidence."),
    ] = True,
    val_fraction: Annotated[float, typer.Option(help="Validation fraction.")] = StudentSettings.val_fraction,
    save_every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Checkpoint and validate every N steps.")
    ] = StudentSettings.save_every,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same student.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the training in DIR.")] = False,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Train a small, fast segmentation model of transformers on the masks of a run.

    Writes model.safetensors with its configuration, model.onnx, training.json and curves/ for TensorBoard. Images
    that can no longer be read are skipped; the exit code is then 1.
    """
    if steps is not None and cli_options.given(context, ["epochs"]):
        raise GensegError("--steps takes the place of --epochs; give one of them")
    from genseg.students.distill import distill as train

    with Bars(1) as bars:
        train(
            run,
            classes,
            out,
            device=device,
            resume=resume,
            progress=bars.stage,
            student=student,
            checkpoint=checkpoint,
            image_size=image_size,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            min_confidence=min_confidence,
            confidence_weighting=confidence_weighting,
            val_fraction=val_fraction,
            save_every=save_every,
            seed=seed,
            dtype=dtype or StudentSettings.dtype,
        )
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    measured = record["validation"]
    if measured:
        typer.echo(
            f"agreement with the masks of {record['validation_images']} images held out: "
            f"mIoU {measured['miou']:.3f}, accuracy {measured['accuracy']:.3f}"
        )
    typer.echo(f"files in {out}: model.safetensors, model.onnx, training.json, curves/")
    if left_out := record["unreadable"]["images"]:
        complain(f"{left_out} images or shards are left out; the first: {record['unreadable']['why']}")
        raise typer.Exit(1)
