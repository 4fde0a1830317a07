"""Text encoders of checkpoints: loaded before all else, asked for the embedding of a prompt, and dropped."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg_backends.loading.checkpoints import load_config, load_part, load_text_config, load_tokenizer
from genseg_backends.loading.hub import extra
from genseg_backends.loading.placement import check_fit, parameters_of

LONGEST = 512  # tokens, where neither a tokenizer nor its text encoder says how many it takes


def load_text(
    kind: Any,
    model: str,
    dtype: torch.dtype,
    revision: str | None = None,
    denoiser: Mapping[str, Callable[[], nn.Module]] = MappingProxyType({}),
) -> Any:
    """A pipeline of a checkpoint with its tokenizers and text encoders and nothing else, on the CPU.

    Args:
        kind: The pipeline's class in diffusers.
        model: A folder or hub id.
        dtype: What the network computes in; text encoders, which overflow in float16, are then in bfloat16.
        revision: Branch, tag or commit on the hub.
        denoiser: Name in the pipeline, and what makes the network without weights: where a text encoder was left out,
            as SD3's T5 may be, its width is asked for.

    Raises:
        GensegError: If a part is missing, unreadable or too large, or a package is missing.
    """
    index = load_config(kind, model, "", revision)
    precision = torch.float32 if dtype == torch.float32 else torch.bfloat16
    expected = {name: p for name, p in inspect.signature(kind.__init__).parameters.items() if name != "self"}
    parts: dict[str, Any] = {name: None for name, p in expected.items() if p.default is p.empty}
    parts |= {name: value for name, value in index.items() if name in expected and not isinstance(value, list | tuple)}
    names = [name for name in expected if name.startswith(("tokenizer", "text_encoder"))]
    classes = {name: _class_of(model, name, index[name]) for name in names if any(index.get(name) or ())}
    if not classes:
        raise GensegError(f"{model} has no text encoder; use the backend of its family, or a whole checkpoint")
    encoders = {name: part for name, part in classes.items() if name.startswith("text_encoder")}
    configs = {name: load_text_config(part, model, name, revision) for name, part in encoders.items()}
    parameters = sum(parameters_of(part, configs[name]) for name, part in encoders.items())
    check_fit(f"the text encoders of {model} take", parameters, precision, torch.device("cpu"))
    if len(classes) < len(names):
        parts |= {name: make() for name, make in denoiser.items()}
    for name, part in classes.items():
        if name in encoders:
            parts[name] = load_part(part, model, name, precision, revision)
        else:
            parts[name] = load_tokenizer(part, model, name, revision)
            limit_length(parts[name], configs.get(name.replace("tokenizer", "text_encoder")))
    return kind(**parts)


class Prompt(dict[str, Tensor]):
    """The conditioning of a prompt.

    Attributes:
        tokens: Its tokens in the order in which they are in attention; empty if not known.
    """

    tokens: Sequence[str] = ()


def described(describe: Callable[[Any, str], Mapping[str, Tensor]], pipeline: Any, prompt: str) -> Prompt:
    """Describe a prompt by a pipeline of `load_text`, with the names of its tokens."""
    calls: list[tuple[list[str], list[bool]]] = []
    for name, part in vars(pipeline).items():
        if name.startswith("tokenizer") and hasattr(part, "convert_ids_to_tokens"):
            part.__class__ = _recording(type(part), calls)
    conditioning = Prompt({key: value.clone() for key, value in describe(pipeline, prompt).items()})
    conditioning.tokens = _named(calls, sum(value.shape[1] for value in conditioning.values() if value.ndim == 3))
    return conditioning


def _recording(kind: Any, calls: list[tuple[list[str], list[bool]]]) -> Any:
    """A subclass of a tokenizer's class that takes down the tokens it makes, and which of them are no padding."""

    def record(self: Any, *args: Any, **kwargs: Any) -> Any:
        encoded = kind.__call__(self, *args, **kwargs)
        ids = encoded["input_ids"][0]
        mask = encoded.get("attention_mask", [[1] * len(ids)])[0]
        calls.append((self.convert_ids_to_tokens([int(each) for each in ids]), [bool(each) for each in mask]))
        return encoded

    return type(kind.__name__, (kind,), {"__call__": record})


def _named(calls: Sequence[tuple[list[str], list[bool]]], count: int) -> list[str]:
    """Names of ``count`` tokens: those of one tokenizer, with or without padding, or of several one after the other.

    Templates' beginnings, which some pipelines cut off, are cut off here. Empty if nothing fits.
    """
    whole = [names for names, _ in calls]
    bare = [[name for name, keep in zip(names, mask, strict=True) if keep] for names, mask in calls]
    for names in (*whole, *bare):
        if len(names) == count:
            return names
    for first, second in itertools.combinations(whole, 2):
        if len(first) + len(second) == count:
            return first + second
    return next((names[-count:] for names in bare if len(names) > count > 0), [])


def _class_of(model: str, name: str, entry: Any) -> Any:
    """The class of transformers that an entry of ``model_index.json`` names, which must be a concrete one."""
    transformers = extra("transformers")
    library, kind = entry
    part = getattr(transformers, str(kind), None) if library == "transformers" else None
    bases = (transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase)
    if not (isinstance(part, type) and issubclass(part, bases)):
        raise GensegError(
            f"the {name} of {model} is a {library}.{kind}, which is no model or tokenizer of transformers, and no code "
            "of a checkpoint is run; correct its model_index.json"
        )
    return part


def limit_length(tokenizer: Any, config: Any) -> None:
    """Let a tokenizer make no more tokens than its text encoder takes; one without a configuration has no limit."""
    longest = getattr(config, "max_position_embeddings", None) or LONGEST
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest)


def clip_prompt(model: str, prompt: str = "", revision: str | None = None) -> Prompt:
    """The embedding of a prompt, [1, tokens, dim] float32, by the checkpoint's own CLIP text encoder.

    Raises:
        GensegError: If transformers is not installed, or the text encoder cannot be loaded.
    """
    transformers = extra("transformers")
    tokenizer = load_tokenizer(transformers.CLIPTokenizer, model, "tokenizer", revision)
    encoder = load_part(transformers.CLIPTextModel, model, "text_encoder", torch.float32, revision).eval()
    if len(tokenizer) != encoder.config.vocab_size:  # transformers makes up a tokenizer where the files are missing
        raise GensegError(f"the tokenizer of {model} is missing or not its text encoder's; get the checkpoint again")
    limit_length(tokenizer, encoder.config)
    length = tokenizer.model_max_length
    tokens = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    conditioning = Prompt(encoder_hidden_states=encoded(encoder, tokens.input_ids))
    conditioning.tokens = tokenizer.convert_ids_to_tokens(tokens.input_ids[0].tolist())
    return conditioning


@torch.inference_mode()
def encoded(encoder: Any, tokens: Tensor) -> Tensor:
    """The last hidden state of a CLIP text encoder for token ids [1, tokens]: [1, tokens, dim]."""
    return encoder(tokens).last_hidden_state.clone()
