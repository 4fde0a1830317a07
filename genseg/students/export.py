"""Saving a trained student: safetensors with its configuration, and ONNX."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSemanticSegmentation, PreTrainedModel

from genseg.files import write_whole

ONNX, OPSET = "model.onnx", 18


class _Logits(nn.Module):
    """Wraps a model into one input and one output, for ONNX."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixel_values).logits
        return logits


def write_student(model: PreTrainedModel, processor: Any, out: Path, image_size: int) -> None:
    """Write ``model.safetensors``, ``config.json``, ``preprocessor_config.json`` and ``model.onnx``."""
    model.save_pretrained(out)
    processor.save_pretrained(out)
    written = AutoModelForSemanticSegmentation.from_pretrained(  # without what mixed precision wraps it in
        out, use_safetensors=True, trust_remote_code=False
    )
    write_onnx(written, out / ONNX, image_size)


def write_onnx(model: PreTrainedModel, path: Path, image_size: int) -> None:
    """Write a model as ONNX.

    Its input is ``pixel_values``, float32 [batch, 3, height, width] as the image processor gives it; its output
    ``logits``, float32 [batch, C, h, w], at the resolution that the model itself has them. All but 3 and C may vary.

    Args:
        model: On the CPU.
        path: The file.
        image_size: Side of the example that the model is traced with.
    """
    traced = _Logits(model).eval()
    axes = {"pixel_values": {0: "batch", 2: "height", 3: "width"}, "logits": {0: "batch", 2: "rows", 3: "columns"}}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes taken for constants, which the tests show that none is
        torch.onnx.export(
            traced,
            (torch.zeros(2, 3, image_size, image_size),),
            buffer,  # type: ignore[arg-type]  # a file will do for this way
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,  # the newer way takes 40 times as long, and gives the same
        )
    write_whole(path, lambda file: file.write(buffer.getvalue()))
