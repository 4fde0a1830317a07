import pytest
import torch
from torch import nn

from genseg import GensegError
from genseg.sites import edited, module_at, recorded, tokens_to_map


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
