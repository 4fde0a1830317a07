"""Base of the families of released diffusion models, over their parts in memory.

A family declares its network, pipeline and autoencoder, how the network is called, how a prompt is encoded, and its
taps and points. All else is here, in `genseg_backends.engine.diffusion` and, for
loading, in `genseg_backends.engine.pretrained`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg.interface import Capabilities, FeatureTap, ModulationPoint
from genseg_backends.engine.codecs import Codec, KLCodec
from genseg_backends.engine.parts import check_class, check_conditioning, codec_of
from genseg_backends.engine.patches import check_patches, uncompiled
from genseg_backends.engine.pretrained import Pretrained
from genseg_backends.engine.readable import ReadableNetwork, prompt_tokens
from genseg_backends.engine.schedule import FlowSchedule, NoiseSchedule, Schedule
from genseg_backends.loading.placement import compute_dtype
from genseg_backends.loading.schedulers import is_flow

Sites = tuple[dict[str, FeatureTap], dict[str, ModulationPoint]]


class LatentBackend(Pretrained, ReadableNetwork):
    """A released diffusion model over in-memory parts, used as they are: only dropout is switched off, for good.

    Args:
        network: The denoiser, of `network_class`; wrapped by ``torch.compile``, that runs where no site is used.
        vae: The autoencoder, or a codec with ``stride``, ``encode(image)`` and ``decode(latents)``; None for pixels.
        scheduler: A diffusers scheduler, of which only the noise schedule is used.
        conditioning: What the network is told beside x and the timestep, of one row each; see `describe`.
        name: The name under which results are reported.
        recipe: Calibrated recipe values, laid over the preset; None for those derived from `levels`.
        preset: The preset used when the caller names none.
        device: Where to compute; None for where the network is. Given where hooks bring the network there.
        reader: The same network in another dtype, to read features from; None for the network itself.
        tiny_vae: An `AutoencoderTiny` of the same latents for `preview`, or what loads one when it is first needed.
        encode_prompt: What makes ``conditioning`` of a prompt, for `generate`; None where no text encoder is at hand.

    Raises:
        GensegError: If network and scheduler are not what the family needs.

    Attributes:
        codec_class: What makes a codec of the autoencoder.
        packing: Latent pixels that are packed into the channels of one position.
        levels: Noise levels s (`genseg_backends.engine.schedule`) at which features are read and the offset is added.
        strength: λ in multiples of the point's RMS, for recipes that are derived.
    """

    codec_class: ClassVar[Callable[..., Codec]] = KLCodec
    packing: ClassVar[int] = 1
    levels: ClassVar[tuple[float, float]] = (0.26, 0.44)
    strength: ClassVar[float] = 10.0

    def __init__(
        self,
        *,
        network: nn.Module,
        vae: Any,
        scheduler: Any,
        conditioning: Mapping[str, Tensor],
        name: str | None = None,
        recipe: Mapping[str, Any] | None = None,
        preset: str = "paper",
        device: torch.device | str | None = None,
        reader: nn.Module | None = None,
        tiny_vae: nn.Module | Callable[[], nn.Module] | None = None,
        encode_prompt: Callable[[str], Mapping[str, Tensor]] | None = None,
    ) -> None:
        super().__init__(name or type(self).__name__.lower())
        bare = uncompiled(network)
        check_class(bare, self.network_class)
        self.check_config(bare.config)
        check_patches(bare)
        check_conditioning(conditioning)
        self._device = torch.device(device or next(bare.parameters()).device)
        self.network, self.reader = bare.eval(), uncompiled(reader or bare).eval()
        self.dtype = compute_dtype(bare)
        self.compiled = network if network is not bare else None
        self.codec = codec_of(vae, self.vae_class, type(self).codec_class, bare.config["in_channels"] // self.packing)
        self.conditioning = self._here(conditioning)
        self._tiny_vae, self._encode_prompt = tiny_vae, encode_prompt
        self._prompts: dict[str, Mapping[str, Tensor]] = {}
        self.token_names = {"": list(getattr(conditioning, "tokens", ()))}
        self.capabilities = Capabilities(generates=True)
        self.preset = preset
        self.taps, self.points = self.declare()
        self.schedule = self.schedule_of(scheduler)
        self.recipe = self.derived() if recipe is None else recipe

    @abstractmethod
    def declare(self) -> Sites:
        """The taps and points, and on the way ``image_size``, ``size_multiple`` and ``width``."""

    def derived(self) -> dict[str, Any]:
        """A recipe from the paper's noise levels and where others found semantics; no weights were run for it."""
        t_f, t_m = (self.schedule.nearest(level) for level in self.levels)
        return {"t_f": t_f, "t_m": t_m, "strength": self.strength, "strength_unit": "rms"}

    def schedule_of(self, scheduler: Any) -> Schedule:
        """The noise schedule of a diffusers scheduler.

        Raises:
            GensegError: If it is neither a rectified flow nor variance-preserving.
        """
        if is_flow(scheduler.config | {"_class_name": type(scheduler).__name__}):
            height, width = next(iter(self.taps.values())).grid
            return FlowSchedule.of(scheduler.config, height * width)
        return NoiseSchedule.of(scheduler)

    @property
    def device(self) -> torch.device:
        """Device on which the network computes, also while its weights are offloaded."""
        return self._device

    def described(self, prompt: str) -> Mapping[str, Tensor]:
        """The conditioning for a prompt; a text encoder is loaded for it and dropped again."""
        if not prompt or self._encode_prompt is None:
            return super().described(prompt)
        if prompt not in self._prompts:
            described = self._encode_prompt(prompt)
            self.token_names[prompt] = list(getattr(described, "tokens", ()))
            self._prompts = {prompt: self._here(described)}  # the last one alone: many may be asked for
        return self._prompts[prompt]

    def tokens(self, prompt: str = "") -> list[str]:
        """The tokens of a prompt as its text encoder has them, or their numbers where there is no tokenizer."""
        count, names = prompt_tokens(self.described(prompt)), self.token_names.get(prompt, [])
        return names if len(names) == count else [str(number) for number in range(count)]

    def _here(self, conditioning: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """On the device, floating-point tensors in what features are read in."""
        dtype = compute_dtype(self.reader)
        return {k: v.to(self._device, dtype if v.is_floating_point() else v.dtype) for k, v in conditioning.items()}

    @torch.inference_mode()
    def preview(self, estimates: Tensor, decoder: str) -> Tensor:
        """A substitute for decoded images where decoding is too slow: float32.

        Args:
            estimates: What `regenerate` returned, [N, C, h, w].
            decoder: ``"latent"`` for the estimates themselves, or ``"tiny"`` for images [N, 3, H, W] by the tiny
                autoencoder, nominally in [-1, 1] and not clamped.

        Raises:
            GensegError: If the tiny autoencoder is asked for and there is none, or it cannot be loaded.
        """
        if decoder == "latent":
            return estimates.float()
        vae = self.tiny_vae
        images: Tensor = vae.decode(estimates.to(vae.dtype) / vae.config["scaling_factor"]).sample
        self.meter.count(decodes=len(images))
        return images.float()

    @cached_property
    def tiny_vae(self) -> Any:
        """The tiny autoencoder, loaded when it is first asked for.

        Raises:
            GensegError: If there is none, or it cannot be loaded.
        """
        vae = self._tiny_vae
        if vae is None:
            raise GensegError(f"backend {self.name!r} has no tiny autoencoder; pass tiny_vae=... or use decoder=latent")
        return (vae if isinstance(vae, nn.Module) else vae()).eval()
