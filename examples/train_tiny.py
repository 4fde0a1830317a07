"""Train the bundled ``tiny`` model: an SD-shaped diffusion U-Net over space-to-depth pixels.

    python examples/train_tiny.py --images FOLDER --teacher DINOV2 --samples 1000000 --out runs/tiny

FOLDER holds one sub-folder of photos per group (any names); they are cut to centre squares. With a
teacher, a folder that ``transformers.Dinov2Model`` loads (examples/dinov2_from_onnx.py makes one), the
network also learns to tell the parts of a photo apart as the teacher does (examples/alignment.py).

Two of three batches show photos at twice the size, where segmentation reads them. With a teacher these run
as far as the features alone, at the noise that segmentation adds.

A run is ``--samples`` long. In its last fifth the learning rate goes to zero, and the teacher has a fifth
of its weight where photos are denoised, so that the decoder learns to rely on its own features. It writes a
checkpoint every ``--checkpoint-minutes`` and when it is told to end (SIGTERM, Ctrl-C), and resumes from it,
exactly, when started again with the same ``--out``.

What it writes into ``--out``:
    checkpoint.pt   weights, averaged weights and optimizer, to resume from
    log.jsonl       one line a checkpoint: step, samples, minutes, training and held-out loss, cosines to the teacher
    model/          unet/, scheduler/ and prompt_embeds.safetensors (float16, averaged weights)
    samples.png     unconditional samples of the averaged model, at the end
    ../tokens-*/    the teacher's tokens of the photos, float16, for every run on the same photos
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alignment import Heads, Teacher
from photos import Photos, load_images, noised

HEAD_BATCHES = 24  # batches that the heads begin with
SHARED_TOKENS = 8  # prompt tokens that every image has; one more names its group


def new_unet(image_size: int, patch: int, channels: tuple[int, ...], token_dim: int) -> UNet2DConditionModel:
    """An SD-shaped U-Net with cross-attention on the grid of 8×8-pixel cells alone, as SD 1.x has at 16×16."""
    levels = len(channels)
    grid = [image_size // patch // 2**level for level in range(levels)]
    attends = [side == image_size // 8 and level < levels - 1 for level, side in enumerate(grid)]
    if not any(attends):
        raise SystemExit(
            f"no level of {grid} is {image_size // 8} wide above the deepest; change --patch or --channels"
        )
    return UNet2DConditionModel(
        sample_size=image_size // patch,
        in_channels=3 * patch**2,
        out_channels=3 * patch**2,
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        block_out_channels=channels,
        layers_per_block=2,
        cross_attention_dim=token_dim,
        attention_head_dim=4,  # diffusers' historic name for the number of heads
        norm_num_groups=16,
    )


class TinyModel(nn.Module):
    """The U-Net, its learned prompt (shared tokens, and one token a group; the last: no group) and alignment heads."""

    def __init__(self, unet: UNet2DConditionModel, groups: int, null: Tensor | None = None, components: int = 0):
        super().__init__()
        self.unet = unet
        self.heads = Heads(unet, components) if components else None
        if null is None:
            null = 0.5 * torch.randn(SHARED_TOKENS + 1, unet.config["cross_attention_dim"])
        self.shared = nn.Parameter(null[:SHARED_TOKENS].clone())
        self.group = nn.Parameter(null[SHARED_TOKENS:].repeat(groups + 1, 1))

    def prompt(self, group: Tensor) -> Tensor:
        """Prompt embeddings [N, tokens, dim] of group numbers [N]."""
        return torch.cat([self.shared.expand(len(group), -1, -1), self.group[group][:, None]], dim=1)

    def forward(self, latents: Tensor, timesteps: Tensor, group: Tensor, *, read: bool = False) -> Tensor | None:
        """The prediction; with ``read``, None: the U-Net runs as far as the features of the heads."""
        inputs = latents, timesteps, self.prompt(group)
        if not read:
            return self.unet(*inputs).sample
        return self.heads.read(self.unet, *inputs)


@torch.no_grad()
def held_out_loss(model: nn.Module, images: Tensor, scheduler: DDIMScheduler, patch: int, none: int) -> float:
    """Mean v-prediction loss over fixed noise at 8 noise levels, without a group."""
    generator = torch.Generator(images.device).manual_seed(0)
    losses = []
    for part, level in zip(images.tensor_split(8), torch.arange(50, 850, 100), strict=True):
        timesteps = level.to(images.device).expand(len(part))
        latents, target = noised(part, timesteps, scheduler, patch, generator)
        losses.append(F.mse_loss(model(latents, timesteps, torch.full_like(timesteps, none)).float(), target))
    return torch.stack(losses).mean().item()


@torch.no_grad()
def sample(
    model: TinyModel, scheduler: DDIMScheduler, patch: int, none: int, count: int, device: torch.device
) -> Image.Image:
    """A contact sheet of ``count`` unconditional samples (50 DDIM steps, eta 0)."""
    scheduler.set_timesteps(50)
    size, channels = model.unet.config["sample_size"], model.unet.config["in_channels"]
    x = torch.randn(count, channels, size, size, device=device, generator=torch.Generator(device).manual_seed(0))
    for t in scheduler.timesteps:
        v = model(x, t.to(device).expand(count), torch.full((count,), none, device=device)).float()
        x = scheduler.step(v, t, x).prev_sample
    pixels = ((F.pixel_shuffle(x, patch).clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
    rows = [torch.cat(list(row), dim=2) for row in pixels.split(8)]
    return Image.fromarray(torch.cat(rows, dim=1).permute(1, 2, 0).numpy())


def export(model: TinyModel, scheduler: DDIMScheduler, names: list[str], out: Path) -> None:
    """Write the diffusers folder in float16."""
    unet = UNet2DConditionModel(**{k: v for k, v in model.unet.config.items() if not k.startswith("_")})
    unet.load_state_dict({k: v.detach().cpu() for k, v in model.unet.state_dict().items()})
    unet.half().save_pretrained(out / "unet")
    scheduler.save_pretrained(out / "scheduler")
    with torch.no_grad():
        prompts = model.prompt(torch.arange(len(names) + 1, device=model.shared.device)).half().cpu()
    tensors = {"null": prompts[-1].contiguous(), "groups": prompts[:-1].contiguous()}
    save_file(tensors, out / "prompt_embeds.safetensors", metadata={"groups": json.dumps(names)})


def replace(path: Path, payload: dict) -> None:
    """Save under a temporary name, then rename: a killed run never leaves half a checkpoint."""
    torch.save(payload, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--teacher", type=Path, help="a Dinov2Model folder whose patch tokens the features learn")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--checkpoint-minutes", type=float, default=5.0)
    parser.add_argument("--init", type=Path, help="start from this model/ folder in place of random weights")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--patch", type=int, default=2, help="side of the pixel squares folded into channels")
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 64, 192, 128])
    parser.add_argument("--token-dim", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--warmup-steps", type=int, default=500)
    parser.add_argument("--ema-decay", type=float, default=0.999)
    parser.add_argument("--no-group", type=float, default=0.5, help="share of samples trained without their group")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model (pays on a GPU)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    accelerator = Accelerator(mixed_precision="bf16")
    device = accelerator.device
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    images, groups, names = load_images(args.images, args.image_size)
    held = torch.arange(len(images)) % max(len(images) // 128, 2) == 0  # about 128 photos, spread over the groups
    held_images = images[held].to(device).float() / 127.5 - 1
    order = (~held).nonzero()[:, 0][torch.randperm(int((~held).sum()))]
    images, groups = images[order].to(device), groups[order].to(device)
    teacher = Teacher(args.teacher, images, args.out.parent) if args.teacher else None

    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    if args.init is None:
        unet, null = new_unet(args.image_size, args.patch, tuple(args.channels), args.token_dim), None
    else:
        unet = UNet2DConditionModel.from_pretrained(
            args.init, subfolder="unet", torch_dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        null = load_file(args.init / "prompt_embeds.safetensors")["null"].float()
    model = TinyModel(unet, len(names), null, len(teacher.basis) if teacher else 0).to(device)
    patch = round((unet.config["in_channels"] / 3) ** 0.5)
    ema = EMAModel(model.parameters(), decay=args.ema_decay, foreach=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    model, optimizer = accelerator.prepare(model, optimizer)
    bare = accelerator.unwrap_model(model)
    forward = torch.compile(model) if args.compile else model

    photos = Photos(images, groups, len(names), args.no_group, scheduler, patch, teacher)

    def head_batches() -> Iterator[Tensor]:
        for _ in range(HEAD_BATCHES):
            batch = photos.draw(args.batch_size * 3 // 8, 2, teacher.pool(0), read=True)
            model(batch.latents, batch.timesteps, batch.group, read=True)
            yield batch.tokens

    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint, step, samples, minutes = args.out / "checkpoint.pt", 0, 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        bare.load_state_dict(saved["model"])
        ema.load_state_dict(saved["ema"])
        optimizer.load_state_dict(saved["optimizer"])
        step, samples, minutes = saved["step"], saved["samples"], saved["minutes"]
    elif teacher:
        bare.heads.fit(head_batches())
    parameters = sum(p.numel() for p in bare.parameters())
    print(
        f"{parameters / 1e6:.1f}M parameters, {len(images)} photos in {len(names)} groups, {device}, from step {step}",
        flush=True,
    )

    def report(figures: dict[str, list[float]]) -> None:
        ema.store(bare.parameters())
        ema.copy_to(bare.parameters())
        row = {"step": step, "samples": samples, "minutes": minutes,
               **{name: sum(values) / len(values) for name, values in figures.items()},
               "held_out": held_out_loss(model, held_images, scheduler, patch, len(names))}  # fmt: skip
        row = {name: round(value, 5) for name, value in row.items()}
        export(bare, scheduler, names, args.out / "model")
        ema.restore(bare.parameters())
        replace(checkpoint, {"model": bare.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict(),
                             "step": step, "samples": samples, "minutes": minutes})  # fmt: skip
        with (args.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        print(row, flush=True)

    ending: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ending.append(number))
    clock = time.monotonic()
    figures: dict[str, list[float]] = defaultdict(list)
    while samples < args.samples:
        torch.manual_seed(args.seed + step)  # a resumed run draws what an uninterrupted one would
        last = min(1.0, 5 * (1 - samples / args.samples))  # from 1 to 0 in the last fifth
        for parameter_group in optimizer.param_groups:
            parameter_group["lr"] = args.learning_rate * min(last, (step + 1) / args.warmup_steps)
        read = teacher is not None and step % 3 > 0
        n, scale = (args.batch_size * 3 // 8, 2) if step % 3 else (args.batch_size, 1)
        batch = photos.draw(n, scale, teacher.pool(samples) if teacher else len(images), read=read)
        prediction = (model if read else forward)(batch.latents, batch.timesteps, batch.group, read=read)
        loss = torch.zeros((), device=device)
        if prediction is not None:
            loss = F.mse_loss(prediction.float(), batch.target)
            figures["loss"].append(loss.item())
        if batch.tokens is not None and len(batch.tokens):
            with accelerator.autocast():
                aligned, cosines = bare.heads.loss(batch.clear, batch.tokens)
            loss = loss + (1.0 if read or last == 1 else 0.2) * aligned
            for name, cosine in cosines.items():
                figures[f"cosine_{name}"].append(cosine.item())
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(bare.parameters())
        step, samples = step + 1, samples + n
        elapsed = (time.monotonic() - clock) / 60
        if elapsed >= args.checkpoint_minutes or samples >= args.samples or ending:
            minutes += elapsed
            report(figures)
            clock, figures = time.monotonic(), defaultdict(list)
            if ending:
                return

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ema.copy_to(bare.parameters())
    with accelerator.autocast():
        sample(bare, scheduler, patch, len(names), 32, device).save(args.out / "samples.png")


if __name__ == "__main__":
    main()
