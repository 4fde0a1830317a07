"""Queries and keys of branches are the unmodified sample's where an attention keeps its own processor."""

from collections import defaultdict

import pytest
import torch
from families import write_checkpoint

import genseg
from genseg.contract.context import CheckContext
from genseg_backends.engine.attention import FUSED, PROJECTIONS


@pytest.fixture(scope="module", params=["sana", "hunyuan-dit", "ddpm", "deepfloyd-if", "vitmae"])
def context(request, tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp("injection") / request.param, request.param)
    return CheckContext(genseg.load_backend(request.param, model=str(folder), device="cpu"))


def projected(context, **overrides):
    """Outputs of each projection to queries or keys, pass by pass, as branches with other offsets were made."""
    seen, handles = defaultdict(list), []
    for name, module in context.backend.network.named_modules():
        if name.rpartition(".")[2] in (*PROJECTIONS, FUSED):
            handles.append(module.register_forward_hook(lambda _, __, output, name=name: seen[name].append(output)))
    context.regenerated(context.offsets(context.point), **overrides)
    for handle in handles:
        handle.remove()
    return seen


def strayed(seen) -> list[str]:
    """The projections of which some row of a pass of branches is not that of the unmodified sample before it."""
    found = []
    for name, passes in seen.items():
        led = None
        for output in passes:
            if len(output) == 1:
                led = output
            elif not torch.equal(output, led.expand_as(output)):
                found.append(name)
    return found


def test_with_injection_every_branch_has_the_unmodified_samples_queries_and_keys(context):
    seen = projected(context)
    assert any(len(output) > 1 for passes in seen.values() for output in passes)
    assert strayed(seen) == []


def test_without_injection_branches_have_their_own(context):
    assert strayed(projected(context, injection=False))


def test_afterwards_the_projections_are_the_models_own(context):
    projected(context)
    assert not any("forward" in vars(module) for module in context.backend.network.modules())
