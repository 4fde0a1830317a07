"""The whole path through the app in a real browser: Debian's Chromium, headless.

``GENSEG_SCREENSHOTS=docs/images`` runs it with the default settings on an example and writes the pictures of the docs.
"""

import base64
import io
import os
import shutil
import time
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
K = 15 if SCREENSHOTS else 5
MERGED = 8 if SCREENSHOTS else 3
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
    """Write a screenshot as a palette of 256 colours, which is small."""
    file = Path(SCREENSHOTS or "") / f"{name}.png"
    page.mouse.move(2, 2)
    page.wait_for_timeout(500)
    page.screenshot(path=file, full_page=True)
    shot = Image.open(file).convert("RGB")
    many, rare = shot.quantize(176, Image.Quantize.MEDIANCUT), shot.quantize(80, Image.Quantize.MAXCOVERAGE)
    palette = Image.new("P", (1, 1))
    palette.putpalette((many.getpalette() or [])[: 3 * 176] + (rare.getpalette() or [])[: 3 * 80])
    shot.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(file, optimize=True)


def test_upload_segment_click_merge_download(served, browser, tmp_path):
    app, address = served
    photo = next(path for path in examples() if path.stem == "coffee")
    expected = genseg.segment(photo, n_clusters=K, **QUICK)
    page = browser.new_page(viewport={"width": 1280, "height": 860}, device_scale_factor=1)
    page.set_default_timeout(1000 * PATIENCE)
    foreign, problems = [], []
    page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or foreign.append(r.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)

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
    page.fill("#clusters input[type=number]", str(K))
    page.press("#clusters input[type=number]", "Tab")
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
    page.wait_for_selector(f"#first [data-shown='{expected.n_segments}']")
    assert page.locator(".gs-list button").count() == expected.n_segments

    # Pointing at a segment tells which it is, clicking shows what it was made from.
    height, width = expected.labels.shape
    y, x = height // 2, width // 2
    box = page.locator("#first .gs-lines").bounding_box()
    page.mouse.move(box["x"] + (x + 0.5) / width * box["width"], box["y"] + (y + 0.5) / height * box["height"])
    label = expected.labels[y, x]
    page.wait_for_selector(f".gs-tip:has-text('Segment {label}: {(expected.labels == label).sum():,} pixels')")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector(f"#details:has-text('Segment {label} of tiny')")
    assert page.locator("#details img").count() == 2
    if SCREENSHOTS:
        page.click("text=Advanced options")
        picture(page, "app-desktop")

    # Merging needs no model, and the download is what the API gives.
    page.fill("#merge input[type=number]", str(MERGED))
    page.press("#merge input[type=number]", "Tab")
    page.wait_for_selector(f"#first [data-shown='{MERGED}']")
    with page.expect_download() as download:
        page.click("text=Labels PNG")
    assert download.value.suggested_filename == "coffee.labels.png"
    labels = np.asarray(Image.open(download.value.path()))
    assert np.array_equal(labels, expected.merge(MERGED).labels)
    page.click("text=Reproduce")
    page.wait_for_selector(f"#command:has-text('--merge {MERGED}')")
    if SCREENSHOTS:
        page.click("text=Reproduce")
        page.set_viewport_size({"width": 390, "height": 844})
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
    page.click("#go")
    page.wait_for_selector(f"#first [data-shown='{expected.n_segments}']")

    assert foreign == []
    assert problems == []
    page.close()
