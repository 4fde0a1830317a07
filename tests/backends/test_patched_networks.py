"""Networks that other tools have changed in memory: the results are the unchanged one's, or a sentence says why not."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import FirstBlockCacheConfig
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from families import PIPELINES
from models import sd_parts, sd_unet

import genseg
from genseg.sites import offset
from genseg_backends.families.flux import Flux
from genseg_backends.families.sd3 import SD3
from genseg_backends.families.stable_diffusion import StableDiffusion

QUICK = {"n_clusters": 3, "n_init": 1, "draws": 1, "replay_steps": 2, "num_inference_steps": 10}


def built(family):
    """A backend over the parts of a small pipeline, in memory."""
    if family is StableDiffusion:
        return StableDiffusion(**sd_parts())
    pipeline = PIPELINES["flux-dev" if family is Flux else "sd3"]()
    with torch.inference_mode():
        conditioning = {key: value.clone() for key, value in family.describe(pipeline, "").items()}
    network = pipeline.transformer.eval()
    return family(network=network, vae=pipeline.vae, scheduler=pipeline.scheduler, conditioning=conditioning)


@pytest.mark.parametrize("family", [StableDiffusion, SD3, Flux])
def test_fused_projections_give_the_labels_of_separate_ones_and_stay_fused(family, photo):
    backend = built(family)
    query = next(name for name in backend.taps if name.endswith("self-query" if family is StableDiffusion else "query"))
    options = QUICK | {"tap": query, "size": 64}
    separate = genseg.segment(photo, backend, options, keep_scores=True)
    backend.network.fuse_qkv_projections()
    processors = dict(backend.network.attn_processors)
    fused = genseg.segment(photo, backend, options, keep_scores=True)
    assert (fused.scores == separate.scores).all()
    assert (fused.labels == separate.labels).all()
    assert backend.network.attn_processors == processors
    assert any(getattr(module, "fused_projections", False) for module in backend.network.modules())


@pytest.mark.parametrize("family", [StableDiffusion, Flux])
def test_another_attention_backend_of_diffusers_gives_the_same_labels(family, photo):
    backend = built(family)
    own = genseg.segment(photo, backend, QUICK | {"size": 64})
    backend.network.set_attention_backend("_native_math")
    assert (genseg.segment(photo, backend, QUICK | {"size": 64}).labels == own.labels).all()


def test_freeu_which_writes_into_tensors_acts_once_on_every_branch(pixels):
    backend = StableDiffusion(**sd_parts())
    backend.network.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    recipe = genseg.load_recipe(QUICK, injection=False, replay_steps=1)
    state, point = backend.encode(pixels(64, 64), recipe, seed=0), next(iter(backend.points.values()))
    offsets = 10 * torch.eye(16)[:3].reshape(3, 4, 4)
    found = backend.regenerate(state, point, offsets, recipe)
    x, (step,) = state.latents[:1], state.steps
    with torch.inference_mode():
        unmodified = backend.step(x, *step)
        with offset(backend.network, point, offsets):
            moved = backend.step(x.expand(3, -1, -1, -1), *step)
    torch.testing.assert_close(found, moved + state.latents[-1:] - unmodified, rtol=1e-4, atol=1e-4)


def test_weights_in_float8_are_computed_with_in_the_dtype_that_they_are_cast_to(pixels):
    backend = StableDiffusion(**sd_parts())
    backend.network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    cast = StableDiffusion(**sd_parts() | {"unet": backend.network})
    assert cast.dtype == cast.prompt_embeds.dtype == torch.bfloat16
    recipe, point = genseg.load_recipe(QUICK), next(iter(cast.points.values()))
    state = cast.encode(pixels(64, 64), recipe, seed=0)
    assert cast.regenerate(state, point, torch.ones(2, 4, 4), recipe).isfinite().all()


class BlockQuantized(torch.nn.Linear):
    """A layer as GGUF files have them: integers, and the dtype that they are computed in."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features)
        self.scale, self.compute_dtype = layer.weight.abs().max().item() / 127, torch.float32
        self.weight = torch.nn.Parameter((layer.weight / self.scale).round().to(torch.int8), requires_grad=False)
        self.bias = layer.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.linear(inputs, self.weight.to(inputs.dtype) * self.scale, self.bias)


def test_a_network_whose_first_weights_are_integers_computes_in_floating_point(pixels):
    unet = sd_unet()
    plain = StableDiffusion(**sd_parts())
    unet.time_embedding.linear_1 = BlockQuantized(unet.time_embedding.linear_1)
    unet.register_module("conv_in", unet._modules.pop("conv_in"))  # behind it
    backend = StableDiffusion(**sd_parts() | {"unet": unet})
    assert backend.dtype == torch.float32
    recipe, tap = genseg.load_recipe(QUICK), next(iter(plain.taps.values()))
    found, expected = (b.features(b.encode(pixels(64, 64), recipe, 0), tap, recipe) for b in (backend, plain))
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.99


def test_the_wrapper_of_torch_compile_runs_the_passes_of_branches_alone(pixels):
    kinds = {f"{way.lower()}_block_types": (f"CrossAttn{way}Block2D",) for way in ("Down", "Up")}
    unet, graphs = sd_unet(block_out_channels=(32,), **kinds), []  # of one level, since to trace takes its time

    def traced(graph, _):
        graphs.append(graph)
        return graph.forward

    wrapped, plain = (
        StableDiffusion(**sd_parts() | {"unet": network}) for network in (torch.compile(unet, backend=traced), unet)
    )
    recipe, point = genseg.load_recipe(QUICK), next(iter(plain.points.values()))
    offsets = 10 * torch.eye(16)[:3].reshape(3, 4, 4)
    found, expected = (
        b.regenerate(b.encode(pixels(32, 32), recipe, 0), point, offsets, recipe) for b in (wrapped, plain)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert graphs


# What is refused, and in what words


def test_a_cache_across_passes_is_refused(pixels):
    backend = built(Flux)
    backend.network.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(
        genseg.GensegError, match=r"reuses results of other passes \(fbc_leader_block_hook\).*disable_cache"
    ):
        backend.encode(pixels(64, 64), genseg.load_recipe(QUICK), seed=0)
    with pytest.raises(genseg.GensegError, match="reuses results of other passes"):
        backend.generate("", 0, genseg.load_recipe(QUICK))
    backend.network.disable_cache()
    assert backend.encode(pixels(64, 64), genseg.load_recipe(QUICK), seed=0)


def with_image_prompt(unet):
    unet.up_blocks[1].attentions[0].transformer_blocks[0].attn2.set_processor(IPAdapterAttnProcessor2_0(64, 32))
    return unet


def compiled_in_place(unet):
    unet.mid_block.compile()
    return unet


def wrapped(unet):
    own = unet.forward
    unet.forward = lambda *arguments, **options: own(*arguments, **options)
    return unet


@pytest.mark.parametrize(("patch", "words"), [
    (with_image_prompt, "IP-Adapter, which needs an image prompt; call unload_ip_adapter"),
    (compiled_in_place, "mid_block was compiled in place.*pass torch.compile"),
    (wrapped, "forward of this UNet2DConditionModel has been replaced by .*wrapped.*DeepCache.*disable it"),
])  # fmt: skip
def test_what_would_mix_up_branches_or_ignore_hooks_is_refused(patch, words, pixels):
    with pytest.raises(genseg.GensegError, match=words):
        StableDiffusion(**sd_parts() | {"unet": patch(sd_unet())})
    backend = built(StableDiffusion)
    patch(backend.network)  # only now
    with pytest.raises(genseg.GensegError, match=words):
        backend.encode(pixels(64, 64), genseg.load_recipe(QUICK), seed=0)


class OwnAttention:
    """An attention processor that projects by the weights rather than by the modules."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            F.linear(tokens, layer.weight).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for tokens, layer in ((hidden_states, attn.to_q), (context, attn.to_k), (context, attn.to_v))
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


def test_a_processor_whose_queries_cannot_be_shared_is_refused_or_left_alone(pixels):
    backend = built(StableDiffusion)
    backend.network.set_attn_processor(OwnAttention())
    recipe, point = genseg.load_recipe(QUICK), next(iter(backend.points.values()))
    state = backend.encode(pixels(64, 64), recipe, seed=0)
    with pytest.raises(genseg.GensegError, match=r"OwnAttention makes queries and keys .*injection=false"):
        backend.regenerate(state, point, torch.ones(1, 4, 4), recipe)
    free = genseg.load_recipe(recipe, injection=False)
    torch.testing.assert_close(
        backend.regenerate(state, point, torch.zeros(1, 4, 4), free), state.latents[-1:], rtol=0, atol=1e-5
    )
