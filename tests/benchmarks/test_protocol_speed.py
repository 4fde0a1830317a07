"""The benchmark of protocols measures every stage and tells truthfully what it measured."""

import protocols
from genseg.evaluation.protocols import PROTOCOLS


def test_every_stage_is_timed(tmp_path, capsys):
    protocols.make_set(tmp_path, 6, 64, 5, 8)
    seconds = protocols.measure(tmp_path, 5)
    assert {"read", "tables", "regions", "classes", "boundaries", "add up", "figures"} < set(seconds)
    assert {"learn: traditional", "learn: concept"} < set(seconds)
    printed = " ".join(capsys.readouterr().out.split())
    assert "images/s" in printed
    assert all(name in printed for name in PROTOCOLS)
    assert "MiB" in printed
