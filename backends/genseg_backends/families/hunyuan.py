"""HunyuanDiT: skip connections, rotary positions, and cross-attention to the tokens of BERT and T5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from diffusers.models.embeddings import get_2d_rotary_pos_embed
from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid
from torch import Tensor

from genseg.interface import ModelCard
from genseg_backends.engine.diffusion import rows_of
from genseg_backends.engine.transformers import Spot, Stack, TransformerBackend
from genseg_backends.families.released import Released


class HunyuanDiT(TransformerBackend):
    """The networks of HunyuanDiT (Li et al., 2405.08748), 1.1 and 1.2."""

    network_class = "HunyuanDiT2DModel"
    pipeline_class = "HunyuanDiTPipeline"
    guidance_scale = 5.0
    levels = (0.27, 0.44)
    stacks: ClassVar = {
        "b": Stack(
            "blocks",
            {
                "query": Spot("attn2.to_q"),
                "self-query": Spot("attn1.to_q"),
                "normed": Spot("norm1"),
                "output": Spot(""),
            },
            {"cross": Spot("attn2.to_out.0", "input"), "self": Spot("attn1.to_out.0", "input")},
        )
    }
    tap, point = ("b", "query", (25, 40)), ("b", "cross", (25, 40))

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """Tokens of BERT and T5, padded, and which are no padding: the network has an embedding of its own for that."""
        conditioning: dict[str, Tensor] = {}
        for index, suffix in enumerate(("", "_t5")):
            embeds, _, mask, _ = pipeline.encode_prompt(
                prompt,
                dtype=(pipeline.text_encoder, pipeline.text_encoder_2)[index].dtype,
                do_classifier_free_guidance=False,
                max_sequence_length=(77, 256)[index],
                text_encoder_index=index,
            )
            conditioning |= {f"encoder_hidden_states{suffix}": embeds, f"text_embedding_mask{suffix}": mask}
        return conditioning

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The output without the learned variance; 1.1 is told style and size."""
        height, width = x.shape[2:]
        grid, base = (height // self.patch(), width // self.patch()), 64 // self.patch()
        positions = get_2d_rotary_pos_embed(
            self.network.config["attention_head_dim"],
            get_resize_crop_region_for_grid(grid, base),
            grid,
            device=x.device,
            output_type="pt",
        )
        size = [height * self.codec.stride, width * self.codec.stride]
        output = network(
            x,
            timesteps.to(x.dtype),
            image_meta_size=rows_of([*size, *size, 0, 0], x),
            style=torch.zeros(len(x), dtype=torch.long, device=x.device),
            image_rotary_emb=positions,
            **{name: value.contiguous() for name, value in conditioning.items()},  # the network views rows as one
        ).sample
        return output[:, : x.shape[1]]


hunyuan_dit = Released(
    HunyuanDiT,
    "hunyuan-dit",
    "HunyuanDiT 1.2 at 1024 pixels",
    ModelCard(
        "HunyuanDiT",
        "Tencent Hunyuan Community License",
        "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers",
        parameters=1_499_952_032,
    ),
)
