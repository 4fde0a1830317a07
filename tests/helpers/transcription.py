"""EmerDiff transcribed from the paper, one branch at a time: slow, and independent of the code under test.

Namekata et al., "EmerDiff: Emerging Pixel-level Semantic Knowledge in Diffusion Models", ICLR 2024. Timesteps count
as diffusers counts them, 0 to 999. Everything is float32 and every tensor holds a single sample.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Tape:
    """Queries and keys of the unmodified run, and what the attentions are to do with them right now.

    Attributes:
        mode: "plain": attend as usual; "record": keep queries and keys; "replay": use those that were kept.
        timestep: The timestep of the running pass.
        kept: (timestep, attention) -> queries and keys after the split into heads, [heads, tokens, d].
        offset: Attention and c·M as a column [tokens, 1], to be added to its output; None for no offset.
    """

    mode: str = "plain"
    timestep: int = -1
    kept: dict[tuple[int, str], tuple[Tensor, Tensor]] = field(default_factory=dict)
    offset: tuple[str, Tensor] | None = None


class Attention:
    """An attention of the U-Net written out: f(softmax(QKᵀ/√d) V) + c·M, f the output projection (section 3.3)."""

    def __init__(self, name: str, tape: Tape) -> None:
        self.name, self.tape = name, tape

    def __call__(self, attn, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_) -> Tensor:
        tokens = hidden_states[0]
        context = tokens if encoder_hidden_states is None else encoder_hidden_states[0]
        q, k, v = (split(x, attn.heads) for x in (attn.to_q(tokens), attn.to_k(context), attn.to_v(context)))

        # Section 3.3, attention injection: Q and K are those of the unmodified run at the same timestep.
        if self.tape.mode == "record":
            self.tape.kept[self.tape.timestep, self.name] = q, k
        if self.tape.mode == "replay":
            q, k = self.tape.kept[self.tape.timestep, self.name]

        scores = (q @ k.transpose(1, 2) / math.sqrt(q.shape[2])).exp()
        mixed = (scores / scores.sum(dim=2, keepdim=True)) @ v
        output = attn.to_out[0](torch.cat(list(mixed), dim=1))

        # Section 3.3, modulation: the scalar is added to all channels at the mask's positions.
        if self.tape.offset is not None and self.tape.offset[0] == self.name:
            output = output + self.tape.offset[1]
        return output[None]


def split(tokens: Tensor, heads: int) -> Tensor:
    """[tokens, heads·d] to [heads, tokens, d]."""
    return torch.stack(tokens.chunk(heads, dim=1))


@dataclass
class Model:
    """The parts of a latent diffusion model, and its attentions' tape while `attached`."""

    unet: torch.nn.Module
    alphas_cumprod: Tensor
    prediction_type: str
    prompt_embeds: Tensor
    tape: Tape = field(default_factory=Tape)

    def __enter__(self) -> "Model":
        self.before = self.unet.attn_processors
        names = {key: key.removesuffix(".processor") for key in self.before}
        self.unet.set_attn_processor({key: Attention(name, self.tape) for key, name in names.items()})
        return self

    def __exit__(self, *_: object) -> None:
        self.unet.set_attn_processor(self.before)

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """The U-Net's output for x [C, h, w]: one conditional pass, no guidance."""
        self.tape.timestep = t
        return self.unet(x[None], t, self.prompt_embeds).sample[0]

    def abar(self, t: int) -> float:
        """ᾱ_t."""
        return self.alphas_cumprod[t].item()

    def sigma(self, t: int, before: int) -> float:
        """σ_t of the DDIM update with η = 1 (= DDPM)."""
        return math.sqrt((1 - self.abar(before)) / (1 - self.abar(t)) * (1 - self.abar(t) / self.abar(before)))

    def mu(self, x: Tensor, t: int, before: int) -> Tensor:
        """μ_t(x_t) = √ᾱ_{t-1} x̂_0 + √(1-ᾱ_{t-1}-σ_t²) ε̂."""
        output, abar = self(x, t), self.abar(t)
        if self.prediction_type == "epsilon":
            noise = output
            clean = (x - math.sqrt(1 - abar) * noise) / math.sqrt(abar)
        else:
            assert self.prediction_type == "v_prediction"
            clean = math.sqrt(abar) * x - math.sqrt(1 - abar) * output
            noise = math.sqrt(abar) * output + math.sqrt(1 - abar) * x
        direction = math.sqrt(1 - self.abar(before) - self.sigma(t, before) ** 2)
        return math.sqrt(self.abar(before)) * clean + direction * noise


def steps(timesteps: Tensor) -> list[tuple[int, int]]:
    """Each timestep with the one after it; the last goes to t = 0 (set_alpha_to_one=False)."""
    times = timesteps.tolist()
    return list(zip(times, [*times[1:], 0], strict=True))


def features(unet, x_t: Tensor, t: int, prompt_embeds: Tensor, attention: str) -> Tensor:
    """Section 3.2: the query vectors of a cross-attention for x_t [C, h, w], all heads together: [C', h', w']."""
    with Model(unet, torch.empty(0), "none", prompt_embeds, Tape("record")) as model:
        model(x_t, t)
        queries = torch.cat(list(model.tape.kept[t, attention][0]), dim=1)
    stride = math.isqrt(x_t.shape[1] * x_t.shape[2] // len(queries))
    return queries.T.reshape(-1, x_t.shape[1] // stride, x_t.shape[2] // stride)


def invert(model: Model, timesteps: Tensor, latents: Tensor) -> Tensor:
    """Edit-friendly DDPM inversion (arXiv 2304.06140): z_t = (x_{t-1} − μ_t(x_t)) / σ_t, [S, C, h, w]."""
    model.tape.mode = "plain"
    z = []
    for i, (t, before) in enumerate(steps(timesteps)):
        z.append((latents[i + 1] - model.mu(latents[i], t, before)) / model.sigma(t, before))
    return torch.stack(z)


def denoise(model: Model, timesteps: Tensor, x: Tensor, z: Tensor, attention: str, offset: Tensor | None) -> Tensor:
    """From x_{t_m} down to x_0 with the recorded z_t: x_{t-1} = μ_t(x_t) + σ_t z_t; the offset at t_m alone."""
    for i, (t, before) in enumerate(steps(timesteps)):
        model.tape.offset = (attention, offset) if i == 0 and offset is not None else None
        x = model.mu(x, t, before) + model.sigma(t, before) * z[i]
    model.tape.offset = None
    return x


def blur(image: Tensor) -> Tensor:
    """A 3×3 Gaussian, σ = 0.8, borders reflected; image [3, H, W]."""
    weights = [[math.exp(-(dy**2 + dx**2) / (2 * 0.8**2)) for dx in (-1, 0, 1)] for dy in (-1, 0, 1)]
    total = sum(sum(row) for row in weights)
    _, height, width = image.shape
    rows = torch.tensor([1, *range(height), height - 2])  # reflected: the border pixel itself is not repeated
    columns = torch.tensor([1, *range(width), width - 2])
    padded = image[:, rows][:, :, columns]
    blurred = torch.zeros_like(image)
    for dy in range(3):
        for dx in range(3):
            blurred += weights[dy][dx] / total * padded[:, dy : dy + height, dx : dx + width]
    return blurred


@torch.no_grad()
def difference_maps(
    unet,
    decode: Callable[[Tensor], Tensor],
    alphas_cumprod: Tensor,
    prediction_type: str,
    prompt_embeds: Tensor,
    timesteps: Tensor,
    latents: Tensor,
    masks: Tensor,
    module_path: str,
    strength: float,
    injection: bool = True,
) -> Tensor:
    """Sections 3.3 and 3.4 for given latents [S + 1, C, h, w] and masks [K, h', w']: d_k(x, y), [K, H, W]."""
    maps = []
    with Model(unet, alphas_cumprod, prediction_type, prompt_embeds) as model:
        z = invert(model, timesteps, latents)

        model.tape.mode = "record"  # the unmodified run
        denoise(model, timesteps, latents[0], z, module_path, None)

        model.tape.mode = "replay" if injection else "plain"
        for mask in masks:
            column = mask.reshape(-1, 1)
            x_minus = denoise(model, timesteps, latents[0], z, module_path, -strength * column)
            x_plus = denoise(model, timesteps, latents[0], z, module_path, +strength * column)
            image_minus, image_plus = blur(decode(x_minus[None])[0]), blur(decode(x_plus[None])[0])
            maps.append((image_minus - image_plus).pow(2).sum(dim=0).sqrt())  # L2 over RGB
    return torch.stack(maps)
