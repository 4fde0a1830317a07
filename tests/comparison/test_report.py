"""The report's page: that it needs nothing else, says what the comparison holds, and shows the pictures."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import urlparse

import numpy as np
import pytest
import skimage.data
from models import sd_parts
from PIL import Image

import genseg
from genseg.comparison import result as report
from genseg.display import html as markup
from genseg.display.palette import palette
from genseg.evaluation.agreement import matched_colors
from genseg_backends.families.stable_diffusion import StableDiffusion

QUICK = {"n_clusters": 4, "n_init": 1, "draws": 1, "replay_steps": 1, "size": 64, "margin": 0}
NAMES = ["tiny", "<b>&mine"]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Every tag with its attributes, the text of each section, and the rows of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self.section = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["id"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closes another tag"

    def handle_data(self, data):
        self.text[self.section] = self.text.get(self.section, "") + data
        if {"td", "th"} & set(self.open[-2:]):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def found(tiny):
    """Two models on a photo wider than a picture of the page and on a small one, with ground truth; one is missing."""
    cat = Image.fromarray(skimage.data.chelsea()).resize((360, 240))
    images = [cat, cat.resize((90, 64)), "a<i>.png"]
    truths = [np.tile(np.arange(im.width) * 2 // im.width, (im.height, 1)) for im in images[:2]]
    other = StableDiffusion(**sd_parts(), name=NAMES[1])
    return genseg.compare(images, [tiny, other], truths=[*truths, truths[0]], seed=7, **QUICK)


@pytest.fixture(scope="module")
def text(found, tmp_path_factory) -> str:
    return found.to_html(tmp_path_factory.mktemp("page") / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def pictures(page: Page) -> list[tuple[str, Image.Image]]:
    """Each picture of an image with its caption."""
    sources = [(attrs["alt"], attrs["src"]) for tag, attrs in page.tags if tag == "img"]
    raster = [(alt, source) for alt, source in sources if "svg" not in source[:20]]
    return [(alt, Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))) for alt, source in raster]


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(page, text):
    assert page.open == []
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"} == set()
    for _, attrs in page.tags:
        for key in ("src", "href", "srcset"):
            assert urlparse(attrs.get(key) or "data:").scheme == "data"
    assert "url(" not in text
    assert "@import" not in text
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_what_users_name_is_escaped(page, text):
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;&amp;mine" in text
    assert "a<i>.png does not exist" in page.text["failures"]


def test_the_heading_says_what_was_run(page):
    words = " ".join(page.text[""].split())
    assert f"2 images, seed 7, 4 clusters; genseg {genseg.__version__}, torch " in words
    assert "tiny · <b>&mine" in words


def test_matrices_hold_the_means_in_both_directions(found, tmp_path):
    summary = found.summary.copy()
    summary.loc[summary["figure"] == "first_explains_second", "mean"] = 0.125  # unlike the other direction
    found = replace(found, summary=summary)
    page = Page(found.to_html(tmp_path / "index.html").read_text(encoding="utf-8"))
    heat = [row for row in page.rows if len(row) == 3 and re.fullmatch(r"\d\.\d\d|-\d\.\d\d", row[1])][:8]
    pair = {key: f"{value[0]:.2f}" for key, value in found.figures(*NAMES).items()}
    for i, keys in enumerate([("ari",) * 2, ("matched_miou",) * 2, ("boundary_f",) * 2]):
        assert heat[2 * i : 2 * i + 2] == [["tiny", "1.00", pair[keys[0]]], [NAMES[1], pair[keys[1]], "1.00"]]
    forward, back = pair["first_explains_second"], pair["second_explains_first"]
    assert forward != back
    assert heat[6:] == [["tiny", "1.00", forward], [NAMES[1], back, "1.00"]]


def test_tables_hold_cost_reconstruction_and_ground_truth_with_intervals(page, found):
    rows = {row[0]: row[1:] for row in page.rows if row}
    figures = found.figures("tiny")
    for heading, key in (("seconds", "seconds"), ("RMSE", "reconstruction_rmse"), ("oracle mIoU", "oracle_miou")):
        mean, low, high = (report._number(value) for value in figures[key])
        assert rows[heading][0] == (mean if low == high else f"{mean}{low} to {high}")
    assert rows["decodes"][0] == report._number(figures["decodes"][0])  # the same for both images: no interval
    assert rows["peak memory, MB"][0].startswith(f"{figures['peak_memory'][0] / 1e6:.0f}")
    assert rows["t_f"] == [str(found.recipes[name].t_f) for name in NAMES]


def test_a_figure_that_a_backend_has_not_is_a_dash(found):
    summary = found.summary[(found.summary["first"] != NAMES[1]) | (found.summary["figure"] != "oracle_miou")]
    rows = {row[0]: row[1:] for row in Page(report.page(replace(found, summary=summary))).rows if row}
    assert rows["oracle mIoU"][1] == "–"
    assert rows["oracle mIoU"][0] != "–"


def test_each_image_has_its_photo_and_each_backends_overlay_small(page, found):
    shown = pictures(page)
    segments = [found.segmentation("image0", name).n_segments for name in NAMES]
    alts = ["image0, photo", *(f"image0, {name}: {n} segments" for name, n in zip(NAMES, segments, strict=True))]
    assert [alt for alt, _ in shown[:3]] == alts
    assert [picture.size for _, picture in shown] == [(320, 213)] * 3 + [(90, 64)] * 3
    photo = np.asarray(shown[3][1].convert("RGB"), dtype=float)
    assert np.abs(photo - found.segmentation("image1", "tiny").image).mean() < 4


def test_the_page_begins_with_the_pictures(page):
    sections = [section for section in page.text if section]
    assert sections[:3] == ["pictures", "failures", "agreement"]
    assert "1 left out, listed below the pictures" in " ".join(page.text[""].split())


def test_many_images_do_not_stand_before_the_tables(found, monkeypatch):
    monkeypatch.setattr(report, "SHOWN", 1)
    shown, folded = report.page(found).split('<section id="failures">')[0].split("<summary>1 more</summary>")
    assert re.findall("<h3>(.*?)</h3>", shown) == ["image0"]
    assert re.findall("<h3>(.*?)</h3>", folded) == ["image1"]


def test_the_smallest_format_is_taken():
    plain = markup.embedded(Image.new("RGB", (300, 200), (10, 20, 30)))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8))
    noisy = markup.embedded(noise)
    assert not noisy.startswith("data:image/png")
    buffer = io.BytesIO()
    noise.save(buffer, format="PNG", optimize=True)
    assert len(noisy) < len(base64.b64encode(buffer.getvalue()))
    assert len(plain) < 1000


def test_segments_that_match_have_the_color_of_the_first_backends():
    reference = np.tile(np.arange(12) // 4, (6, 1)).astype(np.int32)
    renumbered = np.array([3, 0, 2], dtype=np.int32)[reference]  # of 4 labels, 1 is unused
    colors = matched_colors(renumbered, reference, 4)
    assert np.array_equal(colors[renumbered], palette(4)[reference])
    assert {tuple(color) for color in colors} == {tuple(color) for color in palette(4)}
    moved = renumbered.copy()
    moved[:, 3:5] = 3
    assert np.array_equal(matched_colors(moved, reference, 4), colors)


def test_overlays_are_colored_by_the_matching(found):
    tiny, other = (found.segmentation("image1", name).resized(report.WIDTH) for name in NAMES)
    colors = matched_colors(other.labels, tiny.labels, 4)
    overlay = dict(report._pictures(found, "image1"))[f"{NAMES[1]}: {other.n_segments} segments"]
    picture = Image.open(io.BytesIO(base64.b64decode(overlay.split(",")[1]))).convert("RGB")
    seen = np.asarray(picture, dtype=float)
    matched, plain = (np.asarray(replace(other, colors=c).overlay(), dtype=float) for c in (colors, palette(4)))
    differs = (matched != plain).any(axis=2)
    assert differs.any()
    assert np.abs(seen - matched)[differs].mean() < np.abs(seen - plain)[differs].mean() / 2


def test_one_backend_alone_has_a_page_without_agreement(tiny, tmp_path):
    found = genseg.compare([np.zeros((64, 64, 3), np.uint8)], [tiny], **QUICK)
    page = Page(found.to_html(tmp_path / "i.html").read_text(encoding="utf-8"))
    assert set(page.text) == {"", "cost-of-an-image", "reconstruction", "pictures", "recipe"}
