"""The protocols of labeling tools: Label Studio's, read by its own converter, and X-AnyLabeling's."""

import logging

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("gradio", reason="the app's extra is not installed")

from colors import Colors
from label_studio_converter.brush import decode_rle
from serving import QUICK, client, client_of, data_uri, expected, segmenter  # noqa: F401

from genseg.service.answers import RefusedError
from genseg.service.label_studio import interface_of
from genseg.service.segmenting import ImageSegmenter
from genseg.web.request import SegmentRequest

BRUSH = "<BrushLabels name='brush' toName='img'>{}</BrushLabels>"
IMAGE = "<Image name='img' value='$photo'/>"
ONE, TWO = "<Label value='segment'/>", "<Label value='red'/><View><Label value='x' alias='blue'/></View>"


def config(tag: str = BRUSH, labels: str = ONE) -> str:
    return f"<View>{IMAGE}{tag.format(labels)}</View>"


def tasks(*addresses: str) -> list[dict]:
    return [{"id": number, "data": {"photo": address}} for number, address in enumerate(addresses)]


def predict(client, *addresses: str, label_config: str = ""):
    body = {"tasks": tasks(*addresses), "label_config": label_config or config(), "project": "1.1", "params": {}}
    return client.post("/predict", json=body)


def test_it_is_up_and_has_a_version_and_nothing_to_train(client):
    assert client.get("/").json() == client.get("/health").json() == {"status": "UP"}
    version = client.post("/setup", json={"project": "1.1", "schema": config()}).json()["model_version"]
    assert version.startswith("genseg ")
    assert version.endswith(f"tiny {' '.join(QUICK)}")
    assert client.post("/webhook", content=bytes(1_000_000)).status_code == 200
    assert client.post("/train", json={}).status_code == 200


def test_brush_masks_are_those_of_the_api(client, photo, expected):
    answer = predict(client, data_uri(photo)).json()
    (prediction,) = answer["results"]
    assert prediction["model_version"] == answer["model_version"]
    assert prediction["score"] == pytest.approx(expected.confidence.mean(dtype=float), abs=1e-4)
    labels = np.full((64, 96), -1)
    for region in prediction["result"]:
        assert (region["from_name"], region["to_name"], region["type"]) == ("brush", "img", "brushlabels")
        assert (region["original_width"], region["original_height"], region["image_rotation"]) == (96, 64, 0)
        assert region["value"]["brushlabels"] == ["segment"]
        mask = decode_rle(region["value"]["rle"]).reshape(64, 96, 4)[..., 3] > 0
        assert region["score"] == pytest.approx(expected.mask_confidence[int(region["id"])], abs=1e-4)
        labels[mask] = int(region["id"])
    assert np.array_equal(labels, expected.labels)


def test_a_task_that_fails_has_no_prediction_and_the_others_have(client, photo, caplog):
    with caplog.at_level(logging.WARNING, "genseg.service"):
        answer = predict(client, "http://example.org/a.png", data_uri(photo), "upload/7/a b.png", "upload/7/no.png")
    first, second, third, fourth = answer.json()["results"]
    assert first == fourth == []
    assert second["result"] == third["result"]
    assert second["result"]
    assert [record.message[:6] for record in caplog.records] == ["task 0", "task 3"]


def test_where_all_tasks_fail_the_answer_says_why(client):
    answer = predict(client, "http://example.org/a.png", "data:image/png;base64,")
    assert answer.status_code == 400
    assert "example.org is not asked for images" in answer.json()["error"]
    assert predict(client, "data:image/png;base64,").status_code == 415


def test_polygons_and_boxes_are_in_percent_of_the_image(client, photo, expected):
    tag = "<PolygonLabels name='p' toName='img'>{}</PolygonLabels>"
    (prediction,) = predict(client, data_uri(photo), label_config=config(tag)).json()["results"]
    drawn = Image.new("L", photo.size)
    for region in prediction["result"]:
        corners = np.array(region["value"]["points"]) / 100 * photo.size - 0.5
        label = 1 + int(region["id"].partition("-")[0])
        ImageDraw.Draw(drawn).polygon([tuple(corner) for corner in corners], fill=label, outline=label)
    assert (np.asarray(drawn) == 1 + expected.labels).mean() > 0.9
    tag = "<RectangleLabels name='r' toName='img'>{}</RectangleLabels>"
    (prediction,) = predict(client, data_uri(photo), label_config=config(tag)).json()["results"]
    boxes = [[region["value"][side] for side in ("x", "y", "width", "height")] for region in prediction["result"]]
    share = np.array([96, 64, 96, 64]) / 100
    assert np.allclose(np.array(boxes) * share, [mask.bbox for mask in expected.masks()], atol=0.01)


def test_annotators_choose_among_several_labels(client, photo):
    answer = predict(client, data_uri(photo), label_config=config(labels=TWO)).json()
    assert all(region["value"]["brushlabels"] == [] for region in answer["results"][0]["result"])


def test_an_embedder_chooses_among_several_labels(photo):
    named = ImageSegmenter(SegmentRequest(options=QUICK, device="cpu"), embedder=Colors())
    answer = predict(client_of(named), data_uri(photo), label_config=config(labels=TWO)).json()
    labels = [region["value"]["brushlabels"] for region in answer["results"][0]["result"]]
    assert labels
    assert all(label in (["red"], ["blue"]) for label in labels)


def test_the_most_exact_tag_of_an_image_is_taken():
    other = "<RectangleLabels name='r' toName='img'/><BrushLabels name='b' toName='audio'/>"
    found = interface_of(f"<View>{IMAGE}{other}<PolygonLabels name='p' toName='img'>{TWO}</PolygonLabels></View>")
    assert (found.control, found.key) == (("polygonlabels", "p", "img"), "photo")
    assert found.labels == ("red", "blue")


@pytest.mark.parametrize(
    ("label_config", "words"),
    [
        ("<View>", "is no XML"),
        (f"<View>{IMAGE}<Choices name='c' toName='img'/></View>", "has no BrushLabels"),
        (f"<!DOCTYPE a [<!ENTITY b 'c'>]>{config()}", "declares a document type"),
    ],
)
def test_an_interface_without_regions_is_refused(label_config, words):
    with pytest.raises(RefusedError, match=words):
        interface_of(label_config)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"[" * 100_000, b'{"tasks": [1], "label_config": ""}', b'{"tasks": {}}']
)
@pytest.mark.parametrize("path", ["/predict", "/v1/predict"])
def test_bodies_that_no_tool_sends_are_refused(client, path, body):
    assert client.post(path, content=body).status_code in (400, 404)


def test_x_anylabeling_finds_the_model_and_its_polygons(client, photo):
    ((model, about),) = client.get("/v1/models").json()["data"].items()
    assert (model, about["display_name"], about["batch_processing_mode"]) == ("genseg-tiny", "genseg tiny", "default")
    body = {"model": model, "image": data_uri(photo), "params": {"conf_threshold": 0.0}}
    answer = client.post("/v1/predict", json=body).json()
    assert answer["success"]
    drawn = Image.new("L", photo.size)
    for shape in answer["data"]["shapes"]:
        assert (shape["label"], shape["shape_type"], shape["group_id"] != 0) == ("segment", "polygon", True)
        ImageDraw.Draw(drawn).polygon([tuple(point) for point in shape["points"]], fill=1, outline=1)
    assert np.asarray(drawn).mean() > 0.95
    raw = body | {"image": data_uri(photo).partition(",")[2]}
    assert client.post("/v1/predict", json=raw).json() == answer


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "yolo11n", "image": ""}, 404, "MODEL_NOT_FOUND"),
        ({"model": "genseg-tiny", "image": "data:image/png;base64,"}, 415, "INVALID_IMAGE"),
        ({"model": "genseg-tiny", "image": "/etc/passwd"}, 400, "INVALID_IMAGE"),
    ],
)
def test_x_anylabeling_is_told_what_is_wrong(client, body, status, code):
    answer = client.post("/v1/predict", json=body)
    assert (answer.status_code, answer.json()["success"]) == (status, False)
    assert answer.json()["error"]["code"] == code
