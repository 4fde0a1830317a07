"""Loading of the families of released diffusion models: the parts of a checkpoint, and a backend over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import diffusers
import torch
from torch import Tensor, nn

from genseg_backends.loading.checkpoints import load_network, load_network_config, load_part
from genseg_backends.loading.hub import file_of, local_path, the_hub
from genseg_backends.loading.placement import (
    check_fit,
    device_of,
    dtype_of,
    features_dtype_of,
    parameters_of,
    place,
    without_weights,
)
from genseg_backends.loading.prompts import cached_prompt, given_prompt
from genseg_backends.loading.schedulers import load_scheduler
from genseg_backends.loading.text import described, load_text


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, and how its parts are to be read; see `Pretrained.from_pretrained`.

    Attributes:
        model: The folder, hub id or file.
        home: The folder or hub id that a single file belongs to unless ``config`` names another one.
        config: The folder or hub id that the caller names for a single file.
        revision: Branch, tag or commit on the hub.
        prediction_type: What the network predicts; None for what the checkpoint says.
        offline: Whether only what has been downloaded before is used.
        dtype: What the network computes in.
        features_dtype: What features are read in, by the network's number of parameters.
        room: Where the weights have to fit.
        prompt_embeds: A safetensors file with the conditioning, in place of the empty prompt's; None for that.
    """

    model: str
    home: str | None
    config: str | None
    revision: str | None
    prediction_type: str | None
    offline: bool
    dtype: torch.dtype
    features_dtype: Callable[[int], torch.dtype]
    room: torch.device
    prompt_embeds: str | None

    @cached_property
    def file(self) -> Path | None:
        """The single file; None for a folder or hub id."""
        return file_of(local_path(self.model, None if self.config else self.revision))

    @property
    def whole(self) -> str:
        """The folder or hub id with all parts: of a single file, the one that it belongs to."""
        return (self.config or self.home or self.model) if self.file else self.model


class Parts(NamedTuple):
    """Parts of a checkpoint, on the CPU.

    Attributes:
        network: The denoiser, in the dtype that features are read in.
        vae: The autoencoder, or None.
        scheduler: The noise schedule.
        conditioning: What the network is told beside x and the timestep: of the empty prompt, or as the caller says.
        encode_prompt: Makes ``conditioning`` of a prompt; None where there is no text encoder.
    """

    network: nn.Module
    vae: nn.Module | None
    scheduler: Any
    conditioning: Mapping[str, Tensor]
    encode_prompt: Callable[[str], Mapping[str, Tensor]] | None


class Pretrained:
    """Mixin of `genseg_backends.engine.latent.LatentBackend` that loads its parts from a checkpoint.

    Attributes:
        network_class: Name of the network's class in diffusers.
        part: Folder of the network in a checkpoint.
        pipeline_class: Name of the class in diffusers whose text encoders are used; empty for none.
        prompt_inputs: Names of the conditioning that text encoders make.
        vae_class: Name of the autoencoder's class in diffusers; empty for none.
        exact_vae: Whether the autoencoder overflows in float16 and is kept in float32 then.
        taesd: Hub id of the tiny autoencoder; empty for none.
    """

    network_class: ClassVar[str]
    part: ClassVar[str] = "transformer"
    pipeline_class: ClassVar[str] = ""
    prompt_inputs: ClassVar[tuple[str, ...]] = ("encoder_hidden_states",)
    vae_class: ClassVar[str] = "AutoencoderKL"
    exact_vae: ClassVar[bool] = True
    taesd: ClassVar[str] = ""
    recipe: Mapping[str, Any]
    token_names: dict[str, list[str]]

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
        channels_last: bool | None = None,
        features_dtype: str | None = None,
        tiny_vae: str | None = None,
        prompt_embeds: str | None = None,
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
            channels_last: Whether convolutions keep channels last in memory; None for where that is faster: in
                float32 on the CPU, and in half precision on CUDA.
            features_dtype: What features are read in, by a second copy of the network; None for ``dtype``.
            tiny_vae: Hub id or folder of an `AutoencoderTiny` of the same latents; None for the family's.
            prompt_embeds: A safetensors file with another `conditioning` than that of the empty prompt, one tensor for
                each input of the network; no text encoder is loaded then. None for the empty prompt, which is encoded
                once for a checkpoint and then read from a cache (`genseg_backends.loading.prompts`).

        Returns:
            The backend.

        Raises:
            GensegError: If the weights are missing or of another architecture, there is too little memory, or the
                device is not available.
        """
        where = device_of(device)
        precision = dtype_of(dtype, where)
        reading = partial(features_dtype_of, features_dtype, dtype, where)
        room = torch.device("cpu") if offload else where
        checkpoint = Checkpoint(
            model, home, config, revision, prediction_type, offline, precision, reading, room, prompt_embeds
        )
        with the_hub(checkpoint.whole, offline=offline):
            parts = cls.load_parts(checkpoint)
        placed = place(
            parts.network, parts.vae, where, precision, tiling=tiling, offload=offload, channels_last=channels_last
        )
        backend = cls.of_parts(
            placed.network,
            parts.conditioning,
            vae=placed.vae,
            scheduler=parts.scheduler,
            name=name,
            device=where,
            reader=placed.reader,
            tiny_vae=cls.tiny_vae_loader(tiny_vae, precision, where, offline),
            encode_prompt=parts.encode_prompt,
        )
        backend.recipe = {**backend.recipe, **(recipe or {})}
        backend.token_names = {"": list(getattr(parts.conditioning, "tokens", ()))}
        return backend

    @classmethod
    def load_parts(cls, checkpoint: Checkpoint) -> Parts:
        """Read the parts of a checkpoint: the text encoders first, which are free again before the network is read.

        Raises:
            GensegError: As `from_pretrained`.
        """
        kind, whole, revision = getattr(diffusers, cls.network_class), checkpoint.whole, checkpoint.revision
        part, folder = cls.folders(whole, revision)
        shape = load_network_config(kind, whole, part, revision)
        cls.check_config(shape)
        parameters = parameters_of(kind, shape)
        dtype = checkpoint.features_dtype(parameters)
        check_fit(f"this {kind.__name__} takes", parameters, dtype, checkpoint.room)
        wide = torch.float32 if cls.exact_vae and checkpoint.dtype == torch.float16 else checkpoint.dtype

        def empty_prompt() -> Mapping[str, Tensor]:
            if not cls.pipeline_class:
                return cls.describe(None, "")
            if checkpoint.prompt_embeds is not None:
                return given_prompt(checkpoint.prompt_embeds, cls.prompt_inputs)
            maker = f"{cls.__name__} {checkpoint.dtype}"
            return cached_prompt(whole, revision, maker, lambda: encode_prompt(""))

        def encode_prompt(prompt: str) -> Mapping[str, Tensor]:
            with the_hub(whole, offline=checkpoint.offline), torch.inference_mode():
                return cls.encode_text(checkpoint, prompt, {part: partial(without_weights, kind, shape)})

        return Parts(
            scheduler=load_scheduler(
                whole, revision, folder, prediction_type=checkpoint.prediction_type, file=checkpoint.file
            ),
            conditioning=empty_prompt(),
            network=load_network(kind, checkpoint.model, part, dtype, revision, whole),
            vae=load_part(getattr(diffusers, cls.vae_class), whole, "vae", wide, revision) if cls.vae_class else None,
            encode_prompt=encode_prompt if cls.pipeline_class else None,
        )

    @classmethod
    def encode_text(
        cls, checkpoint: Checkpoint, prompt: str, denoiser: Mapping[str, Callable[[], nn.Module]]
    ) -> Mapping[str, Tensor]:
        """The conditioning of a prompt, by the checkpoint's text encoders; ``denoiser`` is as `load_text` takes it."""
        kind = getattr(diffusers, cls.pipeline_class)
        pipeline = load_text(kind, checkpoint.whole, checkpoint.dtype, checkpoint.revision, denoiser)
        return described(cls.describe, pipeline, prompt)

    @classmethod
    def of_parts(cls, network: nn.Module, conditioning: Mapping[str, Tensor], **others: Any) -> Self:
        """The backend over parts that were read; ``others`` are further arguments of the class."""
        return cls(network=network, conditioning=conditioning, **others)  # type: ignore[call-arg]

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
