"""A worker without Ray: no image, name or error keeps the other images of a shard from being written."""

import os
import struct

import genseg
from genseg.runs.plan import items_of, make_plan, shard_name
from genseg.runs.rows import DONE
from genseg.runs.store import Store
from genseg.runs.tables import SCHEMA, rows_of
from genseg.runs.worker import Worker, WorkerSettings


def test_no_image_keeps_a_shard_from_being_written(tiny, photo, tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "bug.png", "z.png"):
        photo.save(folder / name)
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:  # noqa: PTH123
        photo.save(file, format="PNG")
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to("nowhere")
    tag = b"Exif\0\0II*\0" + struct.pack("<IHHHIIIii", 8, 1, 0x011A, 10, 1, 26, 0, -1, 0)
    photo.save(folder / "odd.jpg", exif=tag)
    segmenter, seen = genseg.Segmenter(tiny, "fast", n_clusters=4, draws=1, size=32, margin=0, n_init=1), []
    encode = tiny.encode

    def encode_or_crash(*args):
        seen.append(args)
        if len(seen) == 2:
            raise OverflowError("of a library \udce9")
        return encode(*args)

    monkeypatch.setattr(tiny, "encode", encode_or_crash)
    store = Store(str(tmp_path / "run"))
    make_plan(store, items_of(str(folder)), 64)
    settings = WorkerSettings(str(tmp_path / "run"), "tiny", {}, 0, "")
    result = Worker(settings, segmenter)({"shard": [0]})
    assert result == {"shard": [0], "images": [7], "failed": [3], "problem": [""]}
    rows = {row.key: row for batch in store.batches(shard_name(0), SCHEMA) for row in rows_of(batch)}
    assert [key for key, row in rows.items() if row.status == DONE] == ["a.png", "caf\\xe9.png", "odd.jpg", "z.png"]
    assert rows["bug.png"].error == r"unexpected OverflowError: of a library \xe9; please report it"
    assert "does not exist" in rows["gone.png"].error
    assert "is no regular file" in rows["pipe.png"].error
    assert rows["caf\\xe9.png"].picture().size == photo.size
