"""Noise schedules of checkpoints, and what the network predicts: from a folder, a single file, or the caller."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import diffusers
from diffusers import DDIMScheduler, SchedulerMixin
from safetensors import SafetensorError, safe_open

from genseg.errors import GensegError
from genseg_backends.loading.checkpoints import load_config
from genseg_backends.loading.hub import first_line

PREDICTIONS = {"epsilon": "epsilon", "eps": "epsilon", "sample": "sample", "x0": "sample"} | dict.fromkeys(
    ("v", "v_prediction", "v-prediction", "v_pred", "vpred", "velocity"), "v_prediction"
)
"""Prediction types by the words that files use, in diffusers' words."""
ARCHITECTURES = {"stable-diffusion-v2-512": "epsilon", "stable-diffusion-v2-768-v": "v_prediction"}
"""Prediction types by ``modelspec.architecture``."""
EPSILON_STEPS = (875_000, 220_000)  # the ``global_step`` of Stable Diffusion 2.0 and 2.1 at 512 pixels
MOST_TIMESTEPS = 100_000


def load_scheduler(
    model: str,
    revision: str | None = None,
    folder: str = "scheduler",
    *,
    prediction_type: str | None = None,
    file: Path | None = None,
) -> Any:
    """The noise schedule of a checkpoint, whatever sampler it names: a `DDIMScheduler`, or a scheduler of a flow.

    Args:
        model: A folder or hub id.
        revision: Branch, tag or commit on the hub.
        folder: Of the scheduler in the checkpoint.
        prediction_type: What the network predicts; None for what its files say.
        file: The single file that the weights are read from, which knows better than ``model``; a warning says so if
            it does not.

    Raises:
        GensegError: If it is missing or of neither kind, or what the network predicts is not clear.
    """
    config = load_config(DDIMScheduler, model, folder, revision)
    name, timesteps = str(config.get("_class_name")), config.get("num_train_timesteps", 1000)
    kind: Any = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        raise GensegError(f"the scheduler of {model} is a {name}, which is no scheduler of diffusers; correct its file")
    if not isinstance(timesteps, int) or not 1 <= timesteps <= MOST_TIMESTEPS:
        raise GensegError(f"the scheduler of {model} has {timesteps!r} timesteps; correct its file")
    if is_flow(config):
        if prediction_type is not None:
            raise GensegError(f"{model} is a rectified flow, which predicts a velocity; leave prediction_type out")
        return kind.from_config(config)  # type: ignore[attr-defined]
    if "beta_start" not in config and not config.get("trained_betas"):
        raise GensegError(
            f"the scheduler of {model} is a {name}, which has no betas; this backend needs one of the DDPM family"
        )
    changes = prediction(prediction_type, file)
    scheduler = DDIMScheduler.from_config(config, **changes)
    if file is not None and "prediction_type" not in changes:
        assumed = scheduler.config["prediction_type"]
        other = "epsilon" if assumed == "v_prediction" else "v_prediction"
        warnings.warn(
            f"{file} does not say what its network predicts; {assumed} is assumed, so pass prediction_type={other!r} "
            "if that is wrong",
            stacklevel=2,
        )
    return scheduler


def is_flow(config: Any) -> bool:
    """Return whether a scheduler's configuration is that of a rectified flow."""
    return config.get("prediction_type") == "flow_prediction" or "FlowMatch" in str(config.get("_class_name"))


def prediction(prediction_type: str | None, file: Path | None) -> dict[str, Any]:
    """Changes to a scheduler's configuration by the prediction type that the caller or a single file states.

    Args:
        prediction_type: The caller's statement; None for none.
        file: The single file; None for a folder, whose scheduler states it.

    Raises:
        GensegError: If one is unknown, or the file contradicts itself.
    """
    if prediction_type is not None and prediction_type not in PREDICTIONS.values():
        raise GensegError(f"prediction_type must be epsilon, v_prediction or sample, not {prediction_type!r}")
    changes = {} if file is None else _said_by(file, ask=prediction_type is None)
    return changes if prediction_type is None else changes | {"prediction_type": prediction_type}


def _said_by(file: Path, *, ask: bool) -> dict[str, Any]:
    """Changes by the tensors of a single file that are marks, and by its metadata."""
    try:
        with safe_open(file, "pt") as opened:
            names, metadata = set(opened.keys()), opened.metadata() or {}
            step = int(opened.get_tensor("global_step").item()) if "global_step" in names else None
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise GensegError(f"{file} is damaged or no safetensors ({first_line(error)}); get it again") from error
    if marks := names & {"edm_mean", "edm_std", "edm_vpred.sigma_max"}:
        raise GensegError(f"{file} was trained with EDM's noise levels ({min(marks)}), which no backend has")
    said = {"v_prediction"} if "v_pred" in names else set()
    if word := metadata.get("modelspec.prediction_type"):
        said.add(PREDICTIONS.get(word.lower(), word))
    if word := metadata.get("ss_v_parameterization"):
        said.add("v_prediction" if word == "True" else "epsilon")
    if architecture := ARCHITECTURES.get(metadata.get("modelspec.architecture", "")):
        said.add(architecture)
    if step in EPSILON_STEPS:
        said.add("epsilon")
    if ask and (len(said) > 1 or not said <= set(PREDICTIONS.values())):
        raise GensegError(
            f"{file} says that its network predicts {' and '.join(sorted(said))}; pass prediction_type=..."
        )
    changes: dict[str, Any] = {"prediction_type": said.pop()} if said else {}
    if "ztsnr" in names or metadata.get("ss_zero_terminal_snr") == "True":
        changes["rescale_betas_zero_snr"] = True
    return changes
