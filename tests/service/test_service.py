"""The service's own route, /segment, and what it refuses."""

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import labelme_files
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the app's extra is not installed")

from colors import Colors
from serving import QUICK, client, client_of, expected, labels_of, png, segmenter  # noqa: F401

from genseg import GensegError
from genseg.service.answers import StoppedError
from genseg.service.images import ImageReader
from genseg.service.segmenting import ImageSegmenter
from genseg.service.server import Service
from genseg.service.token import checked_token
from genseg.web.limits import Limits
from genseg.web.request import SegmentRequest

TOKEN = "0123456789abcdef"


def segment(client, content: bytes, query: str = "", **options):
    return client.post(f"/segment{query}", content=content, **options)


def test_a_form_is_answered_with_the_masks_that_the_api_makes(client, photo, expected):
    answer = client.post("/segment", files={"image": ("café.png", png(photo))})
    assert answer.status_code == 200
    content = answer.json()
    assert content["images"] == [{"id": 1, "file_name": "café.png", "height": 64, "width": 96}]
    found = labels_of([each["segmentation"] for each in content["annotations"]], (64, 96))
    assert np.array_equal(found, expected.labels)
    assert content == expected.to_coco("café.png")


def test_a_body_is_answered_as_segment_anything_answers(client, photo, expected):
    records = segment(client, png(photo), "?format=sam", headers={"content-type": "image/png"}).json()
    assert [record["area"] for record in records] == [mask.area for mask in expected.masks()]
    for record, mask in zip(records, expected.masks(), strict=True):
        assert np.array_equal(labels_of([record["segmentation"]], (64, 96)) == 0, mask.segmentation)
        assert (record["label"], record["stability_score"]) == (mask.label, pytest.approx(mask.confidence))


def test_labelme_reads_the_answer_beside_the_image(client, photo, expected, tmp_path):
    answer = client.post("/segment?format=labelme", files={"image": ("../a.png", png(photo))})
    photo.save(tmp_path / "a.png")
    (tmp_path / "a.json").write_bytes(answer.content)
    content, _ = labelme_files.read(tmp_path / "a.json")
    masks = labelme_files.instances(content)
    assert all(np.array_equal(mask, expected.labels == label) for (_, label), mask in masks.items())
    assert sum(mask.sum() for mask in masks.values()) == expected.labels.size


def test_a_request_chooses_clusters_and_segments(client, photo):
    content = segment(client, png(photo), "?n_clusters=6&n_segments=2").json()
    assert len(content["annotations"]) == 2


def test_segments_are_named_by_the_classes_of_a_request(photo):
    named = ImageSegmenter(SegmentRequest(options=QUICK, device="cpu"), embedder=Colors())
    content = segment(client_of(named), png(photo), "?classes=red,blue").json()
    assert {category["name"] for category in content["categories"]} <= {"red", "blue"}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?format=cocco", "did you mean coco"),
        ("?n_segment=3", "did you mean n_segments"),
        ("?n_segments=0", "n_segments needs a number of at least 1, or auto"),
        ("?n_clusters=101", "n_clusters must be auto, or a number from 2 to 100"),
        ("?n_clusters=1", "n_clusters must be auto, or a number from 2 to 100"),
        ("?classes=sky", "start genseg serve with --embedder"),
        ("?classes=sky,,", "a class has no name"),
    ],
)
def test_a_choice_that_cannot_be_is_a_sentence(client, photo, query, words):
    answer = segment(client, png(photo), query)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_what_is_no_image_that_may_be_segmented_is_refused_and_the_next_is_served(client, photo):
    for body, status, words in (
        (b"", 415, "is empty"),
        (b"no image", 415, "is not an image"),
        (png(photo)[:300], 400, "damaged or truncated"),
        (png(Image.new("RGB", (300, 300))), 413, "300x300 pixels, over the limit of 50000"),
        (bytes(100_001), 413, "more than 100,000 bytes"),
    ):
        answer = segment(client, body)
        assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    assert segment(client, png(photo)).status_code == 200


def test_a_body_of_unknown_length_is_bounded_too(client):
    assert segment(client, (bytes(4096) for _ in range(100))).status_code == 413


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"json": {}}, 415, "'application/json' is no image"),
        ({"files": {"photo": b"x"}}, 400, "no file in the field image"),
        ({"data": {"image": "x"}, "files": {"other": b"x"}}, 400, "no file in the field image"),
        ({"files": [("image", b"x"), ("image", b"y")]}, 400, "the form cannot be read"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "the form cannot be read"),
    ],
)
def test_a_body_of_another_kind_is_refused(client, body, status, words):
    answer = client.post("/segment", **body)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_files_of_forms_are_in_memory_alone(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    client = client_of(ImageSegmenter(SegmentRequest(), Limits(upload_mb=3)))
    answer = client.post("/segment", files={"image": bytes(2_000_000)})
    assert "is not an image" in answer.json()["error"]


def test_routes_that_are_not_there_are_json_too(client):
    assert client.get("/segment").status_code == 405
    assert client.get("/etc/passwd").status_code == 404
    assert "nothing at this address" in client.get("/docs").json()["error"]


def test_no_request_waits_beyond_the_queue(segmenter, client, photo):
    with segmenter._engine._queue_slot(lambda *_: None):
        answer = segment(client, png(photo))
    assert answer.status_code == 503
    assert "try again in a while" in answer.json()["error"]


def test_a_run_ends_when_nobody_waits_for_it(segmenter, photo, monkeypatch):
    monkeypatch.setattr(segmenter._engine, "_max_waiting", 1)
    has_left = threading.Event()
    with ThreadPoolExecutor(1) as pool, segmenter._engine._queue_slot(lambda *_: None):
        run = pool.submit(segmenter, png(photo), "a", has_left)
        has_left.set()
        with pytest.raises(StoppedError):
            run.result(10)


def test_a_service_that_ends_says_so(segmenter, client, photo):
    segmenter.closing.set()
    try:
        answer = segment(client, png(photo))
    finally:
        segmenter.closing.clear()
    assert (answer.status_code, "stopping" in answer.json()["error"]) == (503, True)


def test_a_backend_that_fails_is_one_line_of_the_log(segmenter, client, photo, monkeypatch, caplog):
    monkeypatch.setattr(segmenter._engine, "_loaded", (SegmentRequest(), object()))  # no backend
    answer = segment(client, png(photo))
    assert (answer.status_code, answer.json()) == (500, {"error": "this request cannot be answered"})
    assert "'/segment' failed: AttributeError" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:9090"}, 200),
        ({"host": "host.docker.internal:9090"}, 200),
        ({"host": "evil.example"}, 403),
        ({"origin": "http://evil.example"}, 403),
    ],
)
def test_other_pages_and_names_are_refused(client, headers, status):
    assert client.post("/setup", headers=headers).status_code == status


def test_a_token_is_asked_for_in_each_way_in_which_tools_send_it(segmenter):
    client = client_of(segmenter, token=checked_token(TOKEN))
    assert client.get("/health", headers={"host": "labels.example"}).json() == {"status": "UP"}
    refused = client.post("/setup")
    assert (refused.status_code, "token is missing" in refused.json()["error"]) == (401, True)
    sent = [{"authorization": f"Bearer {TOKEN}"}, {"token": TOKEN}]
    assert all(client.post("/setup", headers=headers).status_code == 200 for headers in sent)
    assert client.post("/setup", auth=("label-studio", TOKEN)).status_code == 200
    wrong = [{"authorization": f"Bearer {TOKEN}x"}, {"token": TOKEN[:-1]}, {"authorization": "Basic ???"}]
    assert all(client.post("/setup", headers=headers).status_code == 401 for headers in wrong)
    with pytest.raises(GensegError, match="at least 16 characters"):
        checked_token(TOKEN[:-1])


def test_it_is_served_and_closed(segmenter):
    import httpx

    service, again = (Service(segmenter, ImageReader(1)) for _ in range(2))
    address = service.launch(port=0)
    try:
        assert httpx.get(f"{address}/health").json() == {"status": "UP"}
        with pytest.raises(GensegError, match=r"already in use.*choose another --port"):
            again.launch(int(address.rpartition(":")[2]))
    finally:
        service.close()
        segmenter.closing.clear()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health")
