"""The contract's checks: an honest backend passes all of them, and each planted defect is caught by name."""

import pytest
import torch
from torch import nn

from genseg import Backend, Capabilities, FeatureTap, GensegError, ModulationPoint
from genseg.contract.checks import CHECKS
from genseg.contract.context import CheckContext, NotApplicable
from genseg.sites import as_map, offset, read

TEXT, WIDTH, PATCH = 3, 32, 8


class Block(nn.Module):
    """Every token looks at all, text and image, and a little of what it sees is added."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.to_q, self.to_v, self.to_out = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen = self.norm(tokens)
        query = self.to_q(seen)
        weights = (4 * nn.functional.normalize(query, dim=2) @ nn.functional.normalize(query, dim=2).mT).softmax(dim=2)
        return tokens + self.to_out(weights @ self.to_v(seen))


class Network(nn.Module):
    """An autoencoder of patches with text tokens ahead of the image's."""

    def __init__(self) -> None:
        super().__init__()
        self.text = nn.Parameter(torch.randn(1, TEXT, WIDTH))
        self.embed = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.dropout = nn.Dropout(0.5)
        self.last_norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 3 * PATCH**2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = self.embed(image)
        tokens = torch.cat([self.text.expand(len(image), -1, -1), 3 * maps.flatten(2).transpose(1, 2)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        patches = self.head(self.last_norm(self.dropout(tokens)))[:, TEXT:].transpose(1, 2)
        return nn.functional.pixel_shuffle(patches.unflatten(2, maps.shape[2:]), PATCH)


SITE = (WIDTH, PATCH, (4, 4))


class Honest(Backend):
    """The network's reconstruction, and what it lacks given back with every branch."""

    image_size, size_multiple = 32, PATCH
    recipe = {"strength": 3.0, "strength_unit": "rms"}  # noqa: RUF012
    capabilities = Capabilities()

    def __init__(self) -> None:
        super().__init__("honest")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = Network().eval()
        self.taps = {"block": FeatureTap("blocks.0", *SITE, first=TEXT)}
        self.points = {
            f"out{index}": ModulationPoint(f"blocks.{index}.to_out", *SITE, side="input", first=TEXT)
            for index in (0, 1)
        }

    device = torch.device("cpu")

    def encode(self, image, recipe, seed):  # noqa: ARG002
        return image, torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def features(self, state, tap, recipe):  # noqa: ARG002
        image, noise = state
        with read(self.network, tap) as seen:
            self.network(image + 0.02 * noise)
        self.meter.count(evaluations=1)
        return as_map(seen[0], tap, tap.grid_for(*image.shape[2:]))[0]

    @torch.no_grad()
    def regenerate(self, state, point, offsets, recipe):
        image, _ = state
        if offsets.shape[1:] != point.grid_for(*image.shape[2:]):
            raise GensegError("the offsets are on another grid")
        rows = []
        for part in offsets.split(recipe.batch_size or len(offsets)):
            with offset(self.network, point, part, recipe.strength_unit):
                rows.append(self.network(image.expand(len(part), -1, -1, -1)))
        self.meter.count(evaluations=len(offsets) + 1)
        return torch.cat(rows) + image - self.network(image)

    def decode(self, estimates):
        self.meter.count(decodes=len(estimates))
        return estimates


def failing(backend) -> dict[str, str]:
    """The checks that a backend fails, and what they say."""
    context, found = CheckContext(backend), {}
    for name, check in CHECKS.items():
        try:
            check(context)
        except NotApplicable:
            pass
        except Exception as error:  # as a test may fail by any
            found[name] = str(error)
    return found


def test_an_honest_backend_passes_every_check():
    assert failing(Honest()) == {}


def test_every_check_states_its_property():
    assert all(check.__doc__ and check.__doc__.count("\n") == 0 for check in CHECKS.values())


# Planted defects


class LayerNormTakesItOut(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.points |= {"last": ModulationPoint("last_norm", *SITE, side="input", first=TEXT)}


class WrongGrid(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.taps = {"block": FeatureTap("blocks.0", WIDTH, 4, (8, 8), first=TEXT)}


class WrongChannels(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.taps = {"block": FeatureTap("blocks.0", 2 * WIDTH, PATCH, (4, 4), first=TEXT)}


class GridThatDoesNotGoWithTheStride(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.taps = {"block": FeatureTap("blocks.0", WIDTH, PATCH, (4, 2), first=TEXT)}


class TextTokensNotSkippedByTheTap(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.taps = {"block": FeatureTap("blocks.0", *SITE)}


class TextTokensNotSkippedByThePoint(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.points = {"out": ModulationPoint("blocks.0.to_out", *SITE, side="input")}


class HookLeftBehind(Honest):
    def regenerate(self, *arguments):
        self.network.head.register_forward_hook(lambda *_: None)
        return super().regenerate(*arguments)


class HookLeftBehindByAnException(Honest):
    def regenerate(self, *arguments):
        handle = self.network.head.register_forward_hook(lambda *_: None)
        estimates = super().regenerate(*arguments)
        handle.remove()
        return estimates


class RowsThatLeak(Honest):
    def regenerate(self, state, point, offsets, recipe):
        estimates = super().regenerate(state, point, offsets, recipe)
        return estimates + 0.1 * (estimates.mean(dim=0, keepdim=True) - state[0])


class NoiseWithoutSeed(Honest):
    def encode(self, image, recipe, seed):  # noqa: ARG002
        return image, torch.randn(image.shape)


class SeedIgnored(Honest):
    def encode(self, image, recipe, seed):  # noqa: ARG002
        return super().encode(image, recipe, 0)


class DropoutOn(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.network.dropout.train()


class ImageLost(Honest):
    def regenerate(self, state, point, offsets, recipe):
        return super().regenerate(state, point, offsets, recipe) + self.network(state[0]).detach() - state[0]


class PixelsOutOfRange(Honest):
    def decode(self, estimates):
        return 127.5 * (super().decode(estimates) + 1)


class PixelsFromZeroToOne(Honest):
    def decode(self, estimates):
        return (super().decode(estimates) + 1) / 2


class AnyGridTaken(Honest):
    def regenerate(self, state, point, offsets, recipe):
        grid = point.grid_for(*state[0].shape[2:])
        return super().regenerate(state, point, nn.functional.interpolate(offsets[None], grid)[0], recipe)


class PixelsInHalf(Honest):
    def decode(self, estimates):
        return super().decode(estimates).half()


class CostNotCounted(Honest):
    def regenerate(self, *arguments):
        before = self.meter.evaluations
        estimates = super().regenerate(*arguments)
        self.meter.evaluations = before + 1
        return estimates


class OffsetsTransposed(Honest):
    def regenerate(self, state, point, offsets, recipe):
        return super().regenerate(state, point, offsets.mT if offsets.shape[1] == offsets.shape[2] else offsets, recipe)


class GeneratesSecretly(Honest):
    def generate(self, prompt, seed, recipe):  # noqa: ARG002
        return self.encode(torch.zeros(1, 3, 32, 32), None, seed)


@pytest.mark.parametrize(
    ("defect", "check", "words"),
    [
        (LayerNormTakesItOut, "an_offset_changes_pixels", "at last changes no pixel"),
        (WrongGrid, "sites_are_as_declared", "blocks.0 was declared with"),
        (WrongChannels, "sites_are_as_declared", "64 channels"),
        (GridThatDoesNotGoWithTheStride, "declarations", r"declares the grid (4, 2)"),
        (TextTokensNotSkippedByTheTap, "positions_are_the_images", "what block reads elsewhere"),
        (TextTokensNotSkippedByThePoint, "positions_are_the_images", "at a corner of out changes pixels elsewhere"),
        (HookLeftBehind, "nothing_is_left_behind", "modes behind in the model"),
        (HookLeftBehindByAnException, "nothing_is_left_behind", "when an exception ends it"),
        (RowsThatLeak, "rows_are_independent", "differs by"),
        (NoiseWithoutSeed, "the_same_seed_gives_the_same", "gives other features"),
        (SeedIgnored, "the_same_seed_gives_the_same", "another seed changes nothing"),
        (DropoutOn, "a_zero_offset_changes_nothing", "the second time"),
        (ImageLost, "a_zero_offset_changes_nothing", "keep the residual"),
        (PixelsOutOfRange, "pixels_are_pixels", "meant to lie in [-1, 1]"),
        (PixelsFromZeroToOne, "pixels_are_pixels", "meant to lie in [-1, 1]"),
        (AnyGridTaken, "another_grid_is_refused", "refuse them"),
        (PixelsInHalf, "pixels_are_pixels", "give float32"),
        (CostNotCounted, "cost_is_counted", "counts 1 evaluations for 4 rows"),
        (OffsetsTransposed, "positions_are_the_images", "order of the tokens"),
        (GeneratesSecretly, "generation_is_as_declared", "declare it"),
    ],
)
def test_a_planted_defect_is_caught_and_named(defect, check, words):
    found = failing(defect())
    assert words in found.get(check, ""), found


def test_the_pytest_class_runs_every_check_and_skips_what_does_not_apply(pytester):
    pytester.makepyfile("""
        import pytest
        from genseg.testing import BackendContract
        from test_contract import Honest

        class TestMine(BackendContract):
            locality = False

            @pytest.fixture(scope="class")
            def backend(self):
                return Honest()
    """)
    result = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=len(CHECKS) - 2, skipped=2)
    result.stdout.fnmatch_lines("*untrained weights need not be local*")
