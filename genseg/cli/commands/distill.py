"""The command ``genseg distill``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from genseg.cli import completion as complete
from genseg.cli import options as opt
from genseg.cli.options import OFFLINE, go_offline
from genseg.cli.progress import Bars

NAMES = ("segformer-nano", "segformer-b0", "segformer-b1", "segformer-b2", "mobilenet-v2")


def distill(
    run: Annotated[str, typer.Argument(metavar="RUN", help="What 'genseg run' or 'genseg synth' wrote.")],
    classes: Annotated[str, typer.Option(metavar="NAME", help="A set of classes of the run, such as concepts-27.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the student goes.")],
    student: Annotated[
        str, typer.Option(help=f"One of {', '.join(NAMES)}.", autocompletion=complete.words(*NAMES))
    ] = "segformer-b0",
    checkpoint: Annotated[
        str | None, typer.Option(help="A local folder or hub id of transformers to start from; else random weights.")
    ] = None,
    image_size: Annotated[int, typer.Option(min=1, metavar="PIXELS", help="Side of the square crops.")] = 512,
    epochs: Annotated[float, typer.Option(help="How often each image is seen.")] = 20,
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Batches, in place of epochs.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Crops in a batch.")] = 16,
    lr: Annotated[float, typer.Option(help="Largest learning rate of AdamW.")] = 6e-4,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Ignore pixels whose confidence is below it.")
    ] = 0.0,
    confidence_weighting: Annotated[
        bool,
        typer.Option("--confidence-weighting/--no-confidence-weighting", help="Let pixels count as confidence says."),
    ] = True,
    val_fraction: Annotated[float, typer.Option(help="Part of the images held out to measure agreement.")] = 0.05,
    save_every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Steps from one saved state and measurement to the next.")
    ] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same student.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu; else what there is, such as CUDA.")] = None,
    dtype: opt.Dtype = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that DIR holds.")] = False,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Train a small, fast segmentation model of transformers on the masks of a run.

    Writes model.safetensors with its configuration, model.onnx, training.json and curves/ for TensorBoard. An image
    that cannot be read any more is left out; the exit code is then 1.
    """
    from genseg.students.distill import distill as train

    with Bars(1) as bars:
        train(
            run,
            classes,
            out,
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
            device=device,
            dtype=dtype or "float32",
            resume=resume,
            progress=bars.stage,
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
        typer.echo(f"genseg: {left_out} images are left out; the first: {record['unreadable']['why']}", err=True)
        raise typer.Exit(1)
