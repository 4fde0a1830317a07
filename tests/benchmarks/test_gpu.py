"""The benchmark for whoever has a card: its table, on the CPU and by hand."""

import pytest
import torch

import genseg
import gpu
import procedures
from procedures import Procedure


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so():
    with pytest.raises(genseg.GensegError, match="no CUDA device here"):
        gpu.main([])


def test_the_table_has_medians_speed_ups_and_shares_of_the_rate():
    def measured(*seconds):
        photos = {str(each): {"seconds": each, "stages": {"cluster": each / 10}} for each in seconds}
        return {"photos": photos, "flops": 4e12, "peak_memory": 3 << 30, "launches": 26165}

    published = gpu.figures_of("sd15", Procedure("published"), measured(20, 40) | {"launches": None})
    paper = gpu.figures_of("sd15", Procedure("paper", options=("draws=1",)), measured(1, 2, 9))
    _, _, first, second = gpu.table([published, paper], rate=1e13)
    assert first == "| sd15 | `published` | 30 | 1.0× | 3 | 4 | 1% | 3.0 |  |"
    assert second == "| sd15 | `paper,draws=1` | 2 | 15.0× | 0.2 | 4 | 20% | 3.0 | 26,165 |"


@pytest.mark.slow
def test_every_procedure_is_measured_and_what_cannot_be_is_named(photo, tmp_path, capsys):
    photo.save(tmp_path / "photo.png")
    recipe = ["size=32", "margin=0", "draws=2", "n_init=1", "num_inference_steps=2", "t_m=1"]
    where = ["--device", "cpu", "--dtype", "float32", "--gemm", "64", "--images", str(tmp_path / "photo.png")]
    gpu.main([*recipe, *where, "--models", "tiny", "nothing", "--clusters", "3", "--procedures", "published", "fast"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[2].strip() for line in lines if line.startswith("| tiny")] == ["`published`", "`fast`"]
    assert sum(line.startswith("- left out: nothing, ") for line in lines) == 2


def test_the_shape_is_that_of_sdxl():
    backend = procedures.random_sdxl("meta", "bfloat16")
    assert sum(p.numel() for p in backend.network.parameters()) == 2_567_463_684
    assert backend.image_size == 1024
