"""Base of the families of released diffusion models: their parts in memory, and how those are loaded.

A family declares its network, pipeline and autoencoder, how the network is called, how a prompt is encoded, and its
taps and points. All else is here and in `genseg_backends.engine.diffusion`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import diffusers
import torch
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg.interface import Capabilities, FeatureTap, ModulationPoint
from genseg_backends.engine.codecs import Codec, KLCodec
from genseg_backends.engine.diffusion import DiffusionBackend
from genseg_backends.engine.parts import check_class, check_conditioning, codec_of
from genseg_backends.engine.patches import check_patches, uncompiled
from genseg_backends.engine.schedule import FlowSchedule, NoiseSchedule, Schedule
from genseg_backends.loading.checkpoints import load_network, load_network_config, load_part
from genseg_backends.loading.hub import file_of, local_path, the_hub
from genseg_backends.loading.placement import (
    check_memory,
    compute_dtype,
    device_of,
    dtype_of,
    features_dtype_of,
    parameters_of,
    place,
    without_weights,
)
from genseg_backends.loading.schedulers import is_flow, load_scheduler
from genseg_backends.loading.text import load_text

Sites = tuple[dict[str, FeatureTap], dict[str, ModulationPoint]]


class LatentBackend(DiffusionBackend):
    """A released diffusion model over in-memory parts, used as they are: only dropout is switched off, for good.

    Args:
        network: The denoiser, of `network_class`.
        vae: The autoencoder, or a codec with ``stride``, ``encode(image)`` and ``decode(latents)``; None for pixels.
        scheduler: A diffusers scheduler, of which only the noise schedule is used.
        conditioning: What the network is told beside x and the timestep, of one row each; see `describe`.
        name: The name under which results are reported.
        recipe: Calibrated recipe values, laid over the preset; None for those derived from `levels`.
        preset: The preset used when the caller names none.
        device: Where to compute; None for where the network is. Given where hooks bring the network there.
        reader: The same network in another dtype, to read features from; None for the network itself.
        compile: Whether the passes of branches are compiled, the first time they run.
        tiny_vae: An `AutoencoderTiny` of the same latents for `preview`, or what loads one when it is first needed.
        encode_prompt: What makes ``conditioning`` of a prompt, for `generate`; None where no text encoder is at hand.

    Raises:
        GensegError: If network and scheduler are not what the family needs.

    Attributes:
        network_class: Name of the network's class in diffusers.
        part: Folder of the network in a checkpoint.
        pipeline_class: Name of the class in diffusers whose text encoders are used; empty for none.
        vae_class: Name of the autoencoder's class in diffusers; empty for none.
        codec_class: What makes a codec of the autoencoder.
        exact_vae: Whether the autoencoder overflows in float16 and is kept in float32 then.
        taesd: Hub id of the tiny autoencoder; empty for none.
        packing: Latent pixels that are packed into the channels of one position.
        levels: Noise levels s (`genseg_backends.engine.schedule`) at which features are read and the offset is added.
        strength: λ in multiples of the point's RMS, for recipes that are derived.
    """

    network_class: ClassVar[str]
    part: ClassVar[str] = "transformer"
    pipeline_class: ClassVar[str] = ""
    vae_class: ClassVar[str] = "AutoencoderKL"
    codec_class: ClassVar[Callable[..., Codec]] = KLCodec
    exact_vae: ClassVar[bool] = True
    packing: ClassVar[int] = 1
    taesd: ClassVar[str] = ""
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
        compile: bool = False,
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
        self.compiled = network if network is not bare else torch.compile(network) if compile else None
        self.codec = codec_of(vae, self.vae_class, type(self).codec_class, bare.config["in_channels"] // self.packing)
        self.conditioning = self._here(conditioning)
        self._tiny_vae, self._encode_prompt = tiny_vae, encode_prompt
        self.capabilities = Capabilities(generates=True)
        self.preset = preset
        self.taps, self.points = self.declare()
        self.schedule = self.schedule_of(scheduler)
        self.recipe = self.derived() if recipe is None else recipe

    @abstractmethod
    def declare(self) -> Sites:
        """The taps and points, and on the way ``image_size``, ``size_multiple`` and ``width``."""

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> None:
        """Refuse the configuration of a network of another family, where both have the same class.

        Raises:
            GensegError: If it is one.
        """

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:  # noqa: ARG003
        """The conditioning of a prompt, each of one row, by a pipeline that has text encoders and nothing else."""
        return {}

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
        return self._here(self._encode_prompt(prompt))

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

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        name: str,
        device: str | None = None,
        dtype: str | None = None,
        *,
        home: str | None = None,
        recipe: Mapping[str, Any] | None = None,
        revision: str | None = None,
        config: str | None = None,
        prediction_type: str | None = None,
        offline: bool = False,
        tiling: bool = False,
        offload: bool = False,
        compile: bool = False,
        channels_last: bool | None = None,
        features_dtype: str | None = None,
        tiny_vae: str | None = None,
    ) -> Self:
        """Load a checkpoint: a diffusers folder, a hub id, or a single ``.safetensors`` file of the network.

        Args:
            model: The folder, hub id or file.
            name: The name under which results are reported.
            device: A torch device; None for CUDA where there is one, else the CPU.
            dtype: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"auto"``, for half precision on CUDA with features
                in float32 where memory allows; None for float32.
            home: The folder or hub id that a single file belongs to unless ``config`` names another one.
            recipe: Recipe values beside those of the family.
            revision: Branch, tag or commit on the hub.
            config: The diffusers folder or hub id that all but the network is taken from, for a single file.
            prediction_type: What the network predicts, ``"epsilon"``, ``"v_prediction"`` or ``"sample"``; None for
                what the checkpoint says. A single file that does not say it is a warning.
            offline: Whether only what has been downloaded before is used.
            tiling: Whether the autoencoder works in tiles, which saves memory on large images and shows at their seams.
            offload: Whether network and autoencoder wait on the CPU while the other computes, for small cards.
            compile: Whether the passes of branches are compiled, the first time they run.
            channels_last: Whether convolutions keep channels last in memory; None for where that is faster and as
                exact: in float32 on the CPU.
            features_dtype: What features are read in, by a second copy of the network; None for ``dtype``.
            tiny_vae: Hub id or folder of an `AutoencoderTiny` of the same latents; None for the family's.

        Returns:
            The backend.

        Raises:
            GensegError: If the weights are missing or of another architecture, there is too little memory, or the
                device is not available.
        """
        where = device_of(device)
        precision = dtype_of(dtype, where)
        wide = torch.float32 if cls.exact_vae and precision == torch.float16 else precision
        kind = getattr(diffusers, cls.network_class)
        file = file_of(local_path(model, None if config else revision))
        whole = (config or home or model) if file else model

        with the_hub(whole, offline=offline):
            part, folder = cls.folders(whole, revision)
            shape = load_network_config(kind, whole, part, revision)
            cls.check_config(shape)
            reading = features_dtype_of(features_dtype, dtype, where, parameters_of(kind, shape))
            check_memory(kind, shape, reading, torch.device("cpu") if offload else where)

            def encode_prompt(prompt: str) -> Mapping[str, Tensor]:
                denoiser = {part: partial(without_weights, kind, shape)}
                with the_hub(whole, offline=offline), torch.inference_mode():
                    pipeline = load_text(getattr(diffusers, cls.pipeline_class), whole, precision, revision, denoiser)
                    return {key: value.clone() for key, value in cls.describe(pipeline, prompt).items()}

            scheduler = load_scheduler(whole, revision, folder, prediction_type=prediction_type, file=file)
            conditioning = encode_prompt("") if cls.pipeline_class else cls.describe(None, "")  # and is free again
            network = load_network(kind, model, part, reading, revision, whole)
            vae = load_part(getattr(diffusers, cls.vae_class), whole, "vae", wide, revision) if cls.vae_class else None
        placed = place(network, vae, where, precision, tiling=tiling, offload=offload, channels_last=channels_last)
        backend = cls(
            network=placed.network,
            vae=placed.vae,
            scheduler=scheduler,
            conditioning=conditioning,
            name=name,
            device=where,
            reader=placed.reader,
            compile=compile,
            tiny_vae=cls.tiny_vae_loader(tiny_vae, precision, where, offline),
            encode_prompt=encode_prompt if cls.pipeline_class else None,
        )
        backend.recipe = {**backend.recipe, **(recipe or {})}
        return backend

    @classmethod
    def folders(cls, model: str, revision: str | None) -> tuple[str, str]:  # noqa: ARG003
        """Folders of network and scheduler in a checkpoint."""
        return cls.part, "scheduler"

    @classmethod
    def tiny_vae_loader(
        cls, model: str | None, dtype: torch.dtype, device: torch.device, offline: bool
    ) -> Callable[[], nn.Module] | None:
        """A function that loads a tiny autoencoder, ``model`` or the family's; None where neither is given."""
        source = model or cls.taesd

        def load() -> Any:
            with the_hub(source, offline=offline):
                return load_part(diffusers.AutoencoderTiny, source, "", dtype).to(device)

        return load if source else None
