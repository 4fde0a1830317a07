"""Which channels of a diffusion transformer should be clustered? A small one is trained here, and each choice measured.

    python benchmarks/small_dit.py train --images FOLDER --minutes 60 --out runs/dit
    python benchmarks/small_dit.py measure --data FOLDER --out runs/dit

The network is diffusers' DiT over space-to-depth pixels: 128×128 photos, a grid of 16×16 tokens, no teacher. Measured
are raw block outputs and inputs of attention after AdaLN (``normed``), each with every value of the recipe key
``channels``: mIoU under the protocol ``oracle`` of clusters upsampled bilinearly, with 95 % intervals of the paired
difference from raw outputs with all channels. FOLDER of ``measure`` is that of benchmarks/quality.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DiTTransformer2DModel
from diffusers.training_utils import EMAModel
from rich.progress import track

import genseg
from genseg.cluster.channels import massive_channels
from genseg.evaluation.baselines import METHODS
from genseg.evaluation.method import MethodInput
from genseg.evaluation.protocols import paired_interval
from genseg_backends.families.dit import DiT
from genseg_backends.tiny import SpaceToDepth
from quality import SIDE, load_set, record_of, score_of, values_of

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from train_tiny import load_images, noised, random_views, replace, resampled

PATCH, GROUPS = 4, 128
SHAPE = {
    "num_attention_heads": 4, "attention_head_dim": 48, "in_channels": 3 * PATCH**2, "out_channels": 3 * PATCH**2,
    "num_layers": 8, "patch_size": 2, "sample_size": SIDE // PATCH, "num_embeds_ada_norm": GROUPS,
}  # fmt: skip
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
CHANNELS = ("all", "standardized", "without-massive", "massive")


def train(images: Path, out: Path, minutes: float, batch_size: int = 32, learning_rate: float = 4e-4) -> None:
    """Train for some minutes, less those of earlier runs with the same ``out``, and write a diffusers folder."""
    torch.manual_seed(0)
    photos, groups, _ = load_images(images, SIDE)
    network, scheduler = DiTTransformer2DModel(**SHAPE), DDIMScheduler(**SCHEDULE)
    average = EMAModel(network.parameters(), decay=0.999, foreach=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    out.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = {"step": 0, "minutes": 0.0}
    if (out / "checkpoint.pt").exists():
        state = torch.load(out / "checkpoint.pt", weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    step, spent, losses = state["step"], state["minutes"], []
    clock = saved = time.monotonic()
    while (elapsed := spent + (time.monotonic() - clock) / 60) < minutes:
        torch.manual_seed(step)
        rate = learning_rate * min(1, (step + 1) / 500, 5 * (1 - elapsed / minutes))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.randint(len(photos), (batch_size,))
        timesteps = (1000 * torch.rand(batch_size) ** 1.5).long()
        views = resampled(photos[rows].float() / 127.5 - 1, random_views(batch_size, torch.device("cpu")), SIDE)
        latents, target = noised(views, timesteps, scheduler, PATCH, None)
        with torch.autocast("cpu", torch.bfloat16):
            prediction = network(latents, timesteps, groups[rows]).sample
        loss = F.mse_loss(prediction.float(), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(network.parameters())
        losses.append(loss.item())
        step += 1
        if time.monotonic() - saved > 300:
            saved = time.monotonic()
            parts = {"network": network, "average": average, "optimizer": optimizer}
            weights = {name: part.state_dict() for name, part in parts.items()}
            replace(out / "checkpoint.pt", weights | {"step": step, "minutes": elapsed})
            print(f"{elapsed:.1f} minutes, {step * batch_size:,} samples, loss {np.mean(losses):.4f}", flush=True)
            losses.clear()
    average.copy_to(network.parameters())
    network.save_pretrained(out / "transformer")
    print(f"{step * batch_size:,} samples; written: {out / 'transformer'}")


def measure(data: Path, out: Path, blocks: list[int], limit: int) -> None:
    """Print mIoU of each tap and choice of channels, and its paired difference from raw outputs, as Markdown."""
    network = DiTTransformer2DModel.from_pretrained(out / "transformer", use_safetensors=True, trust_remote_code=False)
    backend = DiT(network=network, vae=SpaceToDepth(PATCH), scheduler=DDIMScheduler(**SCHEDULE), conditioning={})
    options = {"n_clusters": 15, "n_init": 10, "draws": 4, "t_f": 201, "resize": "square"}
    print("| set | tap | channels | massive | mIoU | difference in points |\n|---|---|---|---|---|---|")
    for folder in sorted(folder for folder in data.iterdir() if (folder / "labels").is_dir()):
        samples, n_classes = load_set(folder, limit)
        for block in blocks:
            base = None
            for kind in ("output", "normed"):
                for channels in CHANNELS:
                    recipe = backend.resolve("paper", tap=f"b{block}.{kind}", channels=channels, **options)
                    segmenter, records, massive = genseg.Segmenter(backend, recipe), {}, []
                    try:
                        for sample in track(samples, f"{folder.name} b{block}.{kind} {channels}"):
                            scene = MethodInput(sample.square, (SIDE, SIDE), recipe, 0, segmenter)
                            records[sample.name] = record_of(METHODS["naive"](scene).segments, sample.truths, n_classes)
                            massive.append(int(massive_channels(scene.clusters.features).sum()))
                    except genseg.GensegError as error:
                        print(f"| {folder.name} | b{block}.{kind} | {channels} | 0 | – | {error} |", flush=True)
                        continue
                    score = score_of(records, n_classes)
                    base = base or score
                    low, high = (100 * end for end in paired_interval(score, base, "miou"))
                    miou = values_of(score)["miou"]
                    print(
                        f"| {folder.name} | b{block}.{kind} | {channels} | {np.mean(massive):.1f} | {miou:.3f} | "
                        f"{low:+.1f} to {high:+.1f} |",
                        flush=True,
                    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--images", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=60)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--data", type=Path, required=True)
    measuring.add_argument("--blocks", type=int, nargs="+", default=[3, 5])
    measuring.add_argument("--limit", type=int, default=100)
    for command in (training, measuring):
        command.add_argument("--out", type=Path, default=Path("runs/dit"))
    args = vars(parser.parse_args())
    {"train": train, "measure": measure}[args.pop("command")](**args)


if __name__ == "__main__":
    main()
