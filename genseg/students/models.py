"""Students by name: architectures of transformers in their published sizes, without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    MobileNetV2Config,
    PretrainedConfig,
    PreTrainedModel,
    SegformerConfig,
    SegformerImageProcessorPil,
)

from genseg.errors import GensegError, unknown


def segformer(hidden: Sequence[int], depths: Sequence[int], decoder: int, **names: Any) -> PretrainedConfig:
    """SegFormer (Xie et al., 2021): widths and depths of its four stages, and its decoder's width."""
    heads = [1, 2, hidden[2] // hidden[0], hidden[3] // hidden[0]]
    return SegformerConfig(
        hidden_sizes=list(hidden), depths=list(depths), num_attention_heads=heads, decoder_hidden_size=decoder, **names
    )


def mobilenet_v2(**names: Any) -> PretrainedConfig:
    """MobileNetV2 with the head of DeepLabV3+ (Sandler et al., 2018), at an eighth of the image's resolution."""
    return MobileNetV2Config(output_stride=8, tf_padding=False, **names)  # TensorFlow's padding fixes sizes in ONNX


STUDENTS: Mapping[str, Callable[..., PretrainedConfig]] = {
    # Table 6 of the SegFormer paper; nano is no published size, but one that a CPU trains in minutes.
    "segformer-nano": lambda **names: segformer((16, 32, 64, 128), (1, 1, 1, 1), 64, **names),
    "segformer-b0": lambda **names: segformer((32, 64, 160, 256), (2, 2, 2, 2), 256, **names),
    "segformer-b1": lambda **names: segformer((64, 128, 320, 512), (2, 2, 2, 2), 256, **names),
    "segformer-b2": lambda **names: segformer((64, 128, 320, 512), (3, 4, 6, 3), 768, **names),
    "mobilenet-v2": mobilenet_v2,
}
"""Students by name: factories of configurations, which take names of classes."""


def new_student(student: str, checkpoint: str | None, classes: Sequence[str]) -> PreTrainedModel:
    """Make a model for the classes, to be trained.

    Args:
        student: One of `STUDENTS`, with random weights; no matter where there is a checkpoint.
        checkpoint: A local folder or hub id of a model for semantic segmentation, or of an encoder for one; layers
            that do not fit the classes get random weights.
        classes: Names.

    Raises:
        GensegError: For an unknown student, or a checkpoint that cannot be used.
    """
    names = {"id2label": dict(enumerate(classes)), "label2id": {name: i for i, name in enumerate(classes)}}
    if checkpoint is None:
        if student not in STUDENTS:
            raise unknown("student", student, STUDENTS)
        return AutoModelForSemanticSegmentation.from_config(STUDENTS[student](**names), trust_remote_code=False)
    try:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False, **names)
        return AutoModelForSemanticSegmentation.from_pretrained(
            checkpoint,
            config=config,
            ignore_mismatched_sizes=True,
            dtype="float32",
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise GensegError(f"{checkpoint} cannot be loaded as a model for semantic segmentation: {reason}") from error


def processor_for(checkpoint: str | None, image_size: int) -> Any:
    """Load the image processor of a student: the checkpoint's own, or SegFormer's; neither needs torchvision.

    Args:
        checkpoint: As for `new_student`.
        image_size: Pixels of the shorter side of an image.

    Raises:
        GensegError: If the checkpoint's own is code.
    """
    size = {"shortest_edge": image_size}
    if checkpoint is not None:
        try:
            return AutoImageProcessor.from_pretrained(
                checkpoint, size=size, do_center_crop=False, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            if "trust_remote_code" in str(error):
                raise GensegError(
                    f"the image processor of {checkpoint} is code, which is not run; remove preprocessor_config.json "
                    "from a copy to use SegFormer's"
                ) from error  # else it has none
    return SegformerImageProcessorPil(size=size)
