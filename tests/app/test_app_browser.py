"""The whole path through the app in a real browser: Debian's Chromium, headless.

``GENSEG_SCREENSHOTS=docs/images`` runs it with the default settings on an example and writes the pictures of the docs.
"""

import base64
import io
import os
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genseg

pytest.importorskip("gradio", reason="the app's extra is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium here: apt-get install chromium", allow_module_level=True)

from test_app_server import _free_port  # noqa: E402

from genseg.app.photos import examples  # noqa: E402
from genseg.app.server import App  # noqa: E402

SCREENSHOTS = os.environ.get("GENSEG_SCREENSHOTS")
QUICK = {} if SCREENSHOTS else {"size": 64, "draws": 1, "n_init": 1, "replay_steps": 1}
K = 25 if SCREENSHOTS else 5
MERGED = 3
HEIGHT = 0.6
PATIENCE = 240  # seconds; a busy machine is no failure
SLOW = {"size": 128, "draws": 1000, "batch_size": 2}


@pytest.fixture(scope="module")
def served():
    app = App(device="cpu")
    address = app.launch(port=_free_port())
    yield app, address
    app.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def fill(page, **values) -> None:
    for key, value in values.items():
        page.fill(f"#option-{key} :is(input, textarea)", str(value))


def give(page, event: str, name: str) -> None:
    """Paste or drop a small image file."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(buffer, "PNG")
    page.evaluate(
        """([event, name, content]) => {
            const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0)), data = new DataTransfer();
            data.items.add(new File([bytes], name, { type: "image/png" }));
            const [where, made] = event === "paste"
                ? [document, new ClipboardEvent("paste", { clipboardData: data })]
                : [document.querySelector(".gs-drop"), new DragEvent("drop", { dataTransfer: data, cancelable: true })];
            where.dispatchEvent(made);
        }""",
        [event, name, base64.b64encode(buffer.getvalue()).decode()],
    )


def until(true, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def picture(page, name: str) -> None:
    """Write a screenshot as a palette of 128 colors, which is small."""
    file = Path(SCREENSHOTS or "") / f"{name}.png"
    page.mouse.move(2, 2)
    page.wait_for_timeout(500)
    page.screenshot(path=file, full_page=True)
    shot = Image.open(file).convert("RGB")
    many, rare = shot.quantize(80, Image.Quantize.MEDIANCUT), shot.quantize(48, Image.Quantize.MAXCOVERAGE)
    palette = Image.new("P", (1, 1))
    palette.putpalette((many.getpalette() or [])[: 3 * 80] + (rare.getpalette() or [])[: 3 * 48])
    shot.quantize(palette=palette, dither=Image.Dither.NONE).save(file, optimize=True)


def test_upload_segment_merge_point_select_export(served, browser, tmp_path):
    app, address = served
    photo = next(path for path in examples() if path.stem == "coffee")
    expected = genseg.segment(photo, n_clusters=K, **QUICK)
    page = browser.new_page(viewport={"width": 1280, "height": 860}, device_scale_factor=1)
    page.set_default_timeout(1000 * PATIENCE)
    requested, problems = [], []
    page.on("request", lambda request: request.url.startswith(("data:", "blob:")) or requested.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)

    def shows(segmentation) -> None:
        page.wait_for_selector(f"#first [data-shown='{segmentation.n_segments}']")

    def slide(slider: str, value: float) -> None:
        page.fill(f"{slider} input[type=number]", str(value))
        page.press(f"{slider} input[type=number]", "Tab")

    # Images are pasted, dropped and chosen; a file that is no image is refused.
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    until(lambda: len(app.sessions) == 1, "the session")
    page.wait_for_function("!document.querySelector('#first').hidden")
    page.wait_for_selector(".gs-drop[data-ready]")
    (session,) = app.sessions._open.values()
    for event in ("paste", "drop"):
        give(page, event, f"{event}.png")
        until(lambda name=f"{event}.png": session.name == name, f"the image of a {event}")
        assert session.image.size == (40, 30)
    page.set_input_files("#drop input[type=file]", bad)
    page.wait_for_selector(".gs-problem:has-text('bad.png is not an image')")
    page.set_input_files("#drop input[type=file]", photo)
    until(lambda: session.name == photo.name, "the image that was chosen")
    page.wait_for_selector("#first [data-shown=photo]")
    assert page.locator(".gs-problem").is_hidden()

    # Options are those of the recipe; a run can be cancelled, and what was cancelled is forgotten.
    page.click("text=Advanced options")
    slide("#clusters", K)
    fill(page, size="0x100")
    page.click("#go")
    page.wait_for_selector(".gs-bad:has-text('size must be a whole number')")
    fill(page, **SLOW)
    page.click("#go")
    page.wait_for_selector(".gs-status:has-text('reading features')")
    page.click("#stop")
    page.wait_for_selector(".gs-status:has-text('cancelled')")
    assert app.engine._queue == []
    fill(page, **dict.fromkeys(SLOW, ""))
    fill(page, **QUICK)
    page.click("#go")
    natural = expected.merge("auto")
    shows(natural)
    assert page.locator(".gs-list button").count() == natural.n_segments

    # The tree is cut without the model, by number or height or naturally; parts are split; outlines are hidden.
    page.click("text=Advanced options")
    page.click("#by >> text=height")
    slide("#height", HEIGHT)
    shows(expected.cut(HEIGHT))
    page.click("#by >> text=number")
    shows(expected)
    page.click("#connected input")
    shows(expected.components())
    page.click("#connected input")
    shows(expected)
    page.click("#by >> text=auto")
    shows(natural)
    page.click("#outlines input")
    assert page.locator("#first .gs-lines").evaluate("lines => getComputedStyle(lines).visibility") == "hidden"
    page.click("#outlines input")

    # Pointing at a segment says which it is, and asks the server nothing.
    height, width = natural.labels.shape
    masks = natural.masks()
    box = page.locator("#first .gs-lines").bounding_box()

    def places(mask) -> dict[str, float]:
        """The middle pixel of a mask, from the corner of the picture."""
        rows, columns = np.nonzero(mask.segmentation)
        y, x = rows[len(rows) // 2], columns[len(rows) // 2]
        return {"x": (x + 0.5) / width * box["width"], "y": (y + 0.5) / height * box["height"]}

    def words(*some) -> str:
        name = f"Segment {some[0].label}" if len(some) == 1 else f"{len(some)} segments"
        area = sum(mask.area for mask in some)
        return f"{name} · {100 * area / height / width:.{0 if area >= 0.1 * height * width else 1}f}% · {area:,} pixels"

    events = lambda: [url for url in requested if "queue/join" in url]  # noqa: E731
    before = events()
    for mask in masks:
        page.hover("#first .gs-stage", position=places(mask))
        assert page.inner_text("#first .gs-tip") == words(mask)
    assert events() == before

    # A click selects it and shows how it was found, with shift one more; Escape and a click on nothing select none.
    picked = page.locator("#first .gs-bar span")
    click = lambda mask, **how: page.click("#first .gs-stage", position=places(mask), **how)  # noqa: E731
    first = natural.at(width // 2, height * 2 // 5)
    second = next(mask for mask in masks if mask.label != first.label)
    click(first)
    assert picked.inner_text() == words(first)
    page.wait_for_selector("#details:has-text('How tiny found the')")
    assert page.locator("#details img").count() == 2
    if SCREENSHOTS:
        picture(page, "app-desktop")
    click(second, modifiers=["Shift"])
    assert picked.inner_text() == words(first, second)
    until(lambda: session.picked == (0, (first.label, second.label)), "the selection")
    click(first, modifiers=["Shift"])
    assert picked.inner_text() == words(second)
    page.keyboard.press("Escape")
    assert picked.inner_text().startswith("Click a segment")
    click(second)
    page.click("body", position={"x": 3, "y": 3})
    assert picked.inner_text().startswith("Click a segment")

    # A selection can be cut out, and merged into one until that is undone.
    def downloaded(selector: str):
        with page.expect_download() as download:
            page.click(selector)
        return download.value

    page.click("#first .gs-list button >> nth=0")
    cut = downloaded("text=Cut-out PNG")
    assert cut.suggested_filename == "coffee.cutout.png"
    assert (np.asarray(Image.open(cut.path()))[..., 3] > 0).sum() == masks[0].area
    page.click("#first .gs-list button >> nth=1", modifiers=["Shift"])
    page.click("text=Merge into one")
    page.wait_for_selector(f"#first [data-shown='{natural.n_segments - 1}']")
    page.click("text=Undo merge")
    shows(natural)

    # Exports are what the API gives, and the result can be reproduced.
    def export(kind: str):
        page.click("#kind input")
        page.click(f"[role=option]:has-text('{kind}')")
        return downloaded("#export")

    click(first)
    labels = export("Label map")
    assert labels.suggested_filename == "coffee.labels.png"
    assert np.array_equal(np.asarray(Image.open(labels.path())), natural.labels)
    annotated = export("labelme")
    assert annotated.suggested_filename == "coffee.labelme.zip"
    with zipfile.ZipFile(annotated.path()) as archive:
        assert {"coffee.json", "coffee.png"} <= set(archive.namelist())
    assert picked.inner_text() == words(first)  # choosing from a list is no click beside the picture
    page.click("text=Reproduce")
    page.wait_for_selector("#command:has-text('--merge auto')")
    page.click("text=Reproduce")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    if SCREENSHOTS:
        picture(page, "app-phone")

    # A tab that is closed in the middle of a run takes its run with it, and the others go on.
    other = browser.new_page()
    other.set_default_timeout(1000 * PATIENCE)
    other.goto(address)
    other.click(".gs-examples button >> nth=0")
    other.wait_for_selector("#first [data-shown=photo]")
    other.click("text=Advanced options")
    fill(other, **SLOW)
    other.click("#go")
    other.wait_for_selector(".gs-status:has-text('reading features')")
    assert len(app.sessions) == 2
    other.close()
    until(lambda: len(app.sessions) == 1 and app.engine._queue == [], "the end of the closed tab's run")
    page.click("#by >> text=number")
    slide("#number", MERGED)
    shows(expected.merge(MERGED))
    page.click("#go")
    shows(expected)  # all segments: the number was that of the result before it

    assert [url for url in requested if not url.startswith(address)] == []
    assert problems == []
    page.close()
