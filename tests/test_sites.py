import pytest
import torch
from torch import nn

from genseg import FeatureTap, GensegError, ModulationPoint
from genseg.sites import (
    as_map,
    edited,
    module_at,
    offset,
    prefix_recorded,
    prefix_replayed,
    read,
    read_all,
    recorded,
    tokens_to_map,
)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))


def test_recorded_is_what_the_module_puts_out(model: nn.Module):
    x = torch.randn(5, 3)
    with recorded(model, "1.0") as outputs:
        model(x)
        model(2 * x)
    assert torch.equal(outputs[0], model[0](x).relu())
    assert len(outputs) == 2


def test_edited_changes_the_output_inside_the_block_alone(model: nn.Module):
    x = torch.randn(5, 3)
    before = model(x)
    with edited(model, "1.1", lambda output: output + 1):
        assert torch.equal(model(x), before + 1)
    assert torch.equal(model(x), before)


def test_tuple_outputs_are_edited_in_their_first_item():
    class Pair(nn.Module):
        def forward(self, x):
            return x, "kept"

    model = nn.Sequential(Pair())
    with edited(model, "0", lambda output: output * 3):
        first, second = model(torch.ones(2))
    assert first.tolist() == [3, 3]
    assert second == "kept"


def test_no_hook_stays_after_an_exception(model: nn.Module):
    with pytest.raises(ZeroDivisionError), edited(model, "0", lambda output: output):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in model.modules())


def test_a_module_that_never_ran_is_an_error(model: nn.Module):
    with pytest.raises(GensegError, match=r"never ran its module 1\.1"), recorded(model, "1.1"):
        model[0](torch.ones(3))


def test_a_path_that_does_not_exist_names_where_it_ends(model: nn.Module):
    with pytest.raises(GensegError, match="1 has no '7'"):
        module_at(model, "1.7.query")


def test_tokens_to_map_is_in_row_order():
    tokens = torch.arange(12).view(1, 6, 2)
    assert tokens_to_map(tokens, (2, 3))[0, 0].tolist() == [[0, 2, 4], [6, 8, 10]]


def test_a_recording_may_end_the_pass_at_the_module(model: nn.Module):
    x, ran = torch.randn(5, 3), []
    model[1][1].register_forward_hook(lambda *_: ran.append(True))
    with recorded(model, "1.0", stop=True) as outputs:
        model(x)
        ran.append("the rest of the block")
    assert torch.equal(outputs[0], model[0](x).relu())
    assert ran == []


def test_taps_are_read_together_before_the_model_writes_into_them():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2), nn.Tanh()), torch.randn(5, 3)
    taps = [FeatureTap(path, 1, 1, (1, 1)) for path in ("2", "0")]
    with read_all(model, taps) as tensors:
        model(x)
    last, first = tensors
    assert torch.equal(first, model[0](x))
    assert first.min() < 0
    assert torch.equal(last, model[2](model[0](x).relu()))
    with pytest.raises(GensegError, match="never ran its module 2"), read_all(model, taps):
        model[0](x)
    assert not any(module._forward_hooks for module in model.modules())


class Network(nn.Module):
    """Two blocks and a site between, modules in lists, one module that runs twice, and a tuple on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.twice = nn.Linear(3, 4), nn.Tanh()
        self.blocks = nn.ModuleList([nn.Linear(4, 4), Split(), nn.Linear(4, 4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.embed(x))
        first = self.blocks[0](x)
        left, (right,) = self.blocks[1](first)
        return self.twice(self.blocks[2](torch.cat([left, right], dim=1) + first)) + x


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.site = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor]]:
        left, right = self.site(x).chunk(2, dim=1)
        return left, (right,)


def test_a_replayed_prefix_gives_every_row_what_it_would_compute():
    torch.manual_seed(0)
    model, x, added = Network(), torch.randn(1, 3), torch.randn(5, 4)
    with prefix_recorded(model, "blocks.1.site") as prefix:
        alone = model(x)
    assert set(prefix) == {model.embed, model.blocks[0], model.blocks[1].site}
    with edited(model, "blocks.1.site", lambda output: output + added):
        expected = model(x.expand(5, 3))
    with prefix_replayed(prefix, 5), edited(model, "blocks.1.site", lambda output: output + added):
        calls = {module: module.forward for module in prefix}
        found = model(torch.full((5, 3), torch.nan))  # what the prefix hides is not looked at
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, alone)
    assert all(calls[module] is not module.forward for module in prefix)
    assert torch.equal(model(x), alone)


def test_a_replayed_prefix_leaves_nothing_behind_after_an_exception():
    model = Network()
    model.embed.forward = own = lambda x: x.new_zeros(len(x), 4)
    with prefix_recorded(model, "blocks.1.site") as prefix:
        model(torch.randn(1, 3))
    with pytest.raises(ZeroDivisionError), prefix_replayed(prefix, 2):
        raise ZeroDivisionError
    assert vars(model.embed)["forward"] is own
    assert "forward" not in vars(model.blocks[0])


def test_the_input_of_a_module_is_recorded_and_edited(model: nn.Module):
    x = torch.randn(5, 3)
    with edited(model, "1.1", lambda seen: seen + 1, side="input"), recorded(model, "1.1", side="input") as seen:
        changed = model(x)
    hidden = model[0](x).relu()
    assert torch.equal(changed, model[1][1](hidden + 1))
    assert torch.equal(seen[0], hidden + 1)


def test_a_prefix_up_to_an_input_leaves_the_module_itself_to_run():
    torch.manual_seed(0)
    model, x, added = Network(), torch.randn(1, 3), torch.randn(5, 4)
    with prefix_recorded(model, "blocks.1.site", side="input") as prefix:
        model(x)
    assert set(prefix) == {model.embed, model.blocks[0]}
    with edited(model, "blocks.1.site", lambda seen: seen + added, side="input"):
        expected = model(x.expand(5, 3))
    with prefix_replayed(prefix, 5), edited(model, "blocks.1.site", lambda seen: seen + added, side="input"):
        torch.testing.assert_close(model(torch.full((5, 3), torch.nan)), expected)


class Joint(nn.Module):
    """Puts out text tokens and, of three text and six image tokens in one, the whole."""

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return tokens[:, :3], tokens


TAP = FeatureTap("0", channels=2, stride=8, grid=(2, 3), item=1, first=3)
POINT = ModulationPoint("0", channels=2, stride=8, grid=(2, 3), item=1, first=3)


def test_a_tap_reads_the_images_tokens_and_its_own_channels_alone():
    model, tokens = nn.Sequential(Joint()), torch.arange(36.0).view(1, 9, 4)
    with read(model, TAP) as seen:
        model(tokens)
    found = as_map(seen[0], TAP, (2, 3))
    assert found[0, 1].tolist() == [[13, 17, 21], [25, 29, 33]]


@pytest.mark.parametrize("unit", ["absolute", "rms"])
def test_an_offset_is_added_to_the_images_tokens_and_the_sites_channels_alone(unit):
    model, tokens, mask = nn.Sequential(Joint()), torch.arange(36.0).view(1, 9, 4), torch.zeros(2, 2, 3)
    mask[0, 1, 2] = mask[1, 0, 0] = 2.0
    with offset(model, POINT, mask, unit):
        text, changed = model(tokens)
    scale = tokens[:, 3:, :2].square().mean().sqrt().item() if unit == "rms" else 1
    expected = tokens.expand(2, 9, 4).clone()
    expected[0, 8, :2] += 2 * scale
    expected[1, 3, :2] += 2 * scale
    torch.testing.assert_close(changed, expected)
    assert torch.equal(text, tokens[:, :3])


def test_an_offset_on_maps_reaches_its_positions_in_every_channel():
    model, maps = nn.Sequential(nn.Identity()), torch.zeros(1, 5, 2, 3)
    with offset(model, ModulationPoint("0", 5, 8, (2, 3)), torch.eye(6).view(6, 2, 3)):
        assert torch.equal(model(maps), torch.eye(6).view(6, 1, 2, 3).expand(6, 5, 2, 3))


@pytest.mark.parametrize("shape", [(1, 9, 2), (1, 7, 4), (1, 1, 2, 3), (1, 2, 3, 2)])
def test_a_site_that_is_not_as_declared_is_an_error_naming_it(shape):
    site = FeatureTap("somewhere", channels=4 if len(shape) == 3 else 2, stride=8, grid=(2, 3), first=3)
    with pytest.raises(GensegError, match="somewhere was declared with"):
        as_map(torch.zeros(shape), site, (2, 3))
