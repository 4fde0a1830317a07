"""Which images an input stands for, and which shard each belongs to."""

import io
import tarfile
import zipfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genseg import GensegError
from genseg.runs.plan import items_in, items_of, make_plan, shard_name
from genseg.runs.rows import png_of
from genseg.runs.store import Store
from genseg.runs.worker import shards_left


def png(value: int) -> bytes:
    return png_of(np.full((20, 30, 3), value, dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    for name in ("b/2.png", "b/1.JPG", "a.png", "b/c/3.webp", ".hidden/4.png", ".5.png", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(len(name)))
    return root


LEFT_OUT = pytest.mark.filterwarnings("ignore:1 file was skipped")


def keys(given) -> list[str]:
    return [key for key, _ in items_of(str(given))]


@LEFT_OUT
def test_a_folder_is_walked_in_order_without_what_is_hidden(folder):
    with pytest.warns(UserWarning, match=r"1 file was skipped.*notes\.txt"):
        assert keys(folder) == ["a.png", "b/1.JPG", "b/2.png", "b/c/3.webp"]
    assert next(source.uri for _, source in items_of(str(folder))) == str(folder / "a.png")


def test_patterns_and_single_files(folder):
    assert keys(folder / "b" / "*.*") == ["1.JPG", "2.png"]
    assert keys(folder / "*" / "*.png") == ["b/2.png"]
    assert keys(folder / "a.png") == ["a.png"]


@LEFT_OUT
def test_links_to_folders_are_followed_as_folders_are(folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.png").write_bytes(png(1))
    (folder / "b" / "linked").symlink_to(tmp_path / "other")
    (folder / "b" / "up").symlink_to("..")
    (folder / "b" / "self").symlink_to(".")
    (tmp_path / "other" / "back").symlink_to(folder)
    (folder / ".hidden-link").symlink_to(tmp_path / "other")
    assert keys(folder) == ["a.png", "b/1.JPG", "b/2.png", "b/c/3.webp", "b/linked/x.png"]
    assert keys(folder / "*" / "l*" / "*.png") == ["b/linked/x.png"]
    assert keys(folder / "**" / "*.png") == ["a.png", "b/2.png", "b/linked/x.png"]
    assert keys(folder / "b" / "l*") == ["linked/x.png"]


def test_images_in_a_tar_are_parts_of_the_file(folder):
    with tarfile.open(folder / "set.tar", "w") as tar:
        for name, content in (("x/0.png", png(7)), ("x/0.json", b"{}"), ("x/1.png", png(8))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    found = dict(items_of(str(folder / "*.tar")))
    assert list(found) == ["set.tar/x/0.png", "set.tar/x/1.png"]
    assert [source.read() for source in found.values()] == [png(7), png(8)]


@pytest.mark.parametrize("kind", ["bytes", "struct"])
def test_images_in_a_parquet_file_are_its_rows(tmp_path, kind):
    contents = [png(value) for value in range(5)]
    images = contents if kind == "bytes" else [{"bytes": content, "path": None} for content in contents]
    table = pa.table({"image": images, "label": range(5)})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=2)
    found = dict(items_of(str(tmp_path)))
    assert list(found) == [f"rows.parquet/{row}" for row in range(5)]
    assert [source.read() for source in found.values()] == contents


def test_rows_are_named_by_their_column_each_once(tmp_path):
    pq.write_table(pa.table({"image": [png(0)] * 3, "key": ["one", "two", "one"]}), tmp_path / "rows.parquet")
    assert keys(tmp_path) == ["rows.parquet/one", "rows.parquet/two", "rows.parquet/one#2"]


def test_a_bucket_is_read_by_its_url():
    bucket = fsspec.filesystem("memory")
    bucket.pipe_file("/bucket/deep/a.png", png(3))
    bucket.pipe_file("/bucket/b.png", png(4))
    found = dict(items_of("memory://bucket"))
    assert {key: source.read() for key, source in found.items()} == {"b.png": png(4), "deep/a.png": png(3)}
    assert all(source.uri.startswith("memory://") for source in found.values())


def test_two_colons_are_part_of_a_local_path_and_chain_urls(tmp_path):
    folder = tmp_path / "a::b"
    folder.mkdir()
    (folder / "c::d.png").write_bytes(png(5))
    pq.write_table(pa.table({"image": [png(6)]}), folder / "e::f.parquet")
    for given in (folder, folder / "*", folder.as_uri().replace("%3A", ":")):
        found = dict(items_of(str(given)))
        assert {key: source.read() for key, source in found.items()} == {"c::d.png": png(5), "e::f.parquet/0": png(6)}
    store = Store(str(folder / "run::1"))
    store.write("a::b", b"")
    assert store.local
    assert store.inside(str(folder))
    assert store.names("a*") == ["a::b"]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/y.png", png(7))
    assert keys(f"zip://in::{tmp_path / 'x.zip'}") == ["y.png"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("nowhere", "does not exist"),
        ("empty", "holds no image"),
        ("*.gif", "holds no image"),
        ("bad.tar", "cannot be read"),
        ("bad.parquet", "cannot be read"),
        ("labels.parquet", "no column of images"),
        ("nothing://x", "cannot be read"),
    ],
)
def test_inputs_that_cannot_be_used_are_a_sentence(tmp_path, given, problem):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    pq.write_table(pa.table({"label": [1]}), tmp_path / "labels.parquet")
    with pytest.raises(GensegError, match=problem):
        list(items_of(given if "://" in given else str(tmp_path / given)))


@LEFT_OUT
def test_the_plan_has_each_image_once_in_shards_of_one_size(folder, monkeypatch):
    monkeypatch.setattr("genseg.runs.plan.PART", 1)  # two files of a plan
    store = Store(str(folder.parent / "out"))
    assert make_plan(store, items_of(str(folder)), 3) == (4, 2)
    shards = [items_in(store, shard) for shard in range(2)]
    assert [len(items) for items in shards] == [3, 1]
    assert [item for items in shards for item in items] == list(items_of(str(folder)))


@pytest.mark.parametrize("name", ["run", "masks [v2]", "masks*", "what?"])
def test_shards_that_have_a_file_are_not_left(tmp_path, name):
    store = Store(str(tmp_path / name))
    assert list(shards_left(store, 3)) == [0, 1, 2]
    store.write(shard_name(1), b"")
    store.write("shards/of another program.parquet", b"")
    assert list(shards_left(store, 3)) == [0, 2]
