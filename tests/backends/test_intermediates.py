"""Features are those of diffusers' and transformers' own intermediate outputs, in three families."""

import families
import pytest
import torch

import genseg
from genseg_backends.engine.noise import noise_generator
from genseg_backends.families.sd3 import SD3

SEED, T = 3, 201


@pytest.fixture
def outputs():
    """Outputs of modules, by hooks of torch's own; the first of several unless another item is named."""
    handles = []

    def of(module, item=0):
        seen = []
        handles.append(
            module.register_forward_hook(
                lambda *ran: seen.append(ran[-1][item] if isinstance(ran[-1], tuple) else ran[-1])
            )
        )
        return seen

    yield of
    for handle in handles:
        handle.remove()


def noise_like(latents):
    return torch.randn(latents.shape, generator=noise_generator(SEED, "features"))


@torch.inference_mode()
def test_of_stable_diffusion_they_are_what_diffusers_unet_puts_out(sd, sd_parts, pixels, outputs):
    image, unet = pixels(64, 96), sd_parts["unet"]
    latents = sd_parts["vae"].encode(image).latent_dist.mode() * sd_parts["vae"].config.scaling_factor
    noisy = sd_parts["scheduler"].add_noise(latents, noise_like(latents), torch.tensor([T]))
    paths = {"up1.output": "up_blocks.1", "mid.0.output": "mid_block.attentions.0", "down0.output": "down_blocks.0"}
    expected = {name: outputs(unet.get_submodule(path)) for name, path in paths.items()}
    query = outputs(unet.up_blocks[1].attentions[0].transformer_blocks[0].attn2.to_q)
    unet(noisy, T, sd_parts["prompt_embeds"])
    found = sd.intermediates(image, [*paths, "up1.0.query"], T, seed=SEED)
    for name, (tensor, *_) in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    height, width = found["up1.0.query"].shape[2:]
    expected_query = query[0].reshape(1, height, width, -1).permute(0, 3, 1, 2)
    torch.testing.assert_close(found["up1.0.query"], expected_query, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_of_sd3_they_are_what_diffusers_transformer_puts_out(pixels, outputs):
    pipeline, image = families.sd3(), pixels(48, 80)
    network, vae = pipeline.transformer, pipeline.vae
    prompt = SD3.describe(pipeline, "")
    backend = SD3(network=network, vae=vae, scheduler=pipeline.scheduler, conditioning=prompt)
    latents = (vae.encode(image).latent_dist.mode() - vae.config.shift_factor) * vae.config.scaling_factor
    sigma = T / 1000
    noisy = (1 - sigma) * latents + sigma * noise_like(latents)
    blocks = {f"b{index}.output": outputs(network.transformer_blocks[index], item=1) for index in range(3)}
    network(noisy, timestep=torch.tensor([float(T)]), **prompt)
    found = backend.intermediates(image, indices=3, timesteps=T, seed=SEED)
    assert list(found) == list(blocks)
    for name, (tokens, *_) in blocks.items():
        expected = tokens.transpose(1, 2).reshape(1, -1, *found[name].shape[2:])
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_of_a_masked_autoencoder_they_are_transformers_hidden_states(pixels, tmp_path):
    backend = genseg.load_backend("vitmae", model=str(families.write_checkpoint(tmp_path / "mae", "vitmae")))
    image = pixels(64, 64)
    state = backend.encode(image, backend.resolve(), 0)
    order = torch.arange(16.0)[None]
    hidden = backend.network(state.pixels, noise=order, output_hidden_states=True).hidden_states
    found = backend.intermediates(image, "encoder*.output")
    assert list(found) == ["encoder0.output", "encoder1.output", "encoder2.output"]
    for name, tokens in zip(list(found)[:2], hidden[1:3], strict=True):  # the last has been normalized
        expected = tokens[:, 1:].transpose(1, 2).reshape(1, -1, 4, 4)
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(genseg.GensegError, match="adds no noise"):
        backend.intermediates(image, timesteps=T)
