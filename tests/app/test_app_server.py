import io
import sys
import tempfile
import threading
from http.client import HTTPConnection
from pathlib import Path

import pytest
from PIL import Image

from genseg import GensegError
from genseg.web.request import SegmentRequest

pytest.importorskip("gradio", reason="the app's extra is not installed")

from genseg.app.downloads import download
from genseg.app.server import App
from genseg.web.limits import Limits

QUICK = ("n_clusters=4", "size=32", "margin=0", "draws=1", "replay_steps=1", "n_init=1")
JSON = "application/json"
PASSWD = Path("/etc/passwd")
contacted: list[str] = []
listening = threading.Event()


def _hear(event: str, arguments: tuple) -> None:
    if listening.is_set() and event in ("socket.connect", "socket.getaddrinfo"):
        contacted.append(str(arguments[1][0] if event == "socket.connect" else arguments[0]))


sys.addaudithook(_hear)  # of the whole process, and for good: it only listens while asked to


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def served(folder):
    """An app with small limits, the folder its temporary files would go to, and what it contacted at its start."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(folder))
        patched.setenv("GRADIO_TEMP_DIR", str(folder))
        patched.setenv("GRADIO_ALLOWED_PATHS", "/")  # nothing is to come of it
        contacted.clear()
        listening.set()
        app = App(Limits(upload_mb=0.1, max_pixels=50_000, queue=1), device="cpu")
        app.launch(port=_free_port())
        yield app
        listening.clear()
        app.close()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(app: App, path: str, method: str = "GET", body: bytes | None = None, **headers: str):
    """A request as it is, its path not tidied: the status, the body and the headers."""
    connection = HTTPConnection("127.0.0.1", app._blocks.server_port, timeout=30)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "path",
    [
        "/file=/etc/passwd",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file//etc/passwd",
        "/gradio_api/file=https://localhost/",
        "/gradio_api/proxy=https://localhost/",
        "/static/../../../../../../../../etc/passwd",
        "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/file/x/0/..%2f..%2f..%2fetc%2fpasswd",
        "/gradio_api/runs",
        "/gradio_api/openapi.json",
        "/monitoring",
        "/docs",
    ],
)
def test_no_file_and_no_tool_of_gradio_is_served(served, path):
    status, content, _ = ask(served, path)
    assert status in (403, 404)
    assert PASSWD.read_bytes()[:20] not in content


def test_files_in_the_temporary_folder_are_not_served_either(served, folder):
    file = folder / "0123" / "other.png"
    file.parent.mkdir()
    file.write_bytes(b"of another visitor")
    assert ask(served, f"/gradio_api/file={file}")[:2] == (404, b"not here")
    assert ask(served, f"/file={file}")[:2] == (404, b"not here")
    file.unlink()
    file.parent.rmdir()


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/run/run", "/gradio_api/call/run", "/api/predict"])
def test_nothing_can_be_sent_but_by_the_page(served, path):
    assert ask(served, path, "POST", b"{}")[:2] == (404, b"not here")


def test_the_page_may_load_nothing_from_elsewhere(served):
    status, content, headers = ask(served, "/")
    assert status == 200
    assert b"gs-head" in content
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert b"fonts.googleapis" not in content + ask(served, "/theme.css")[1]


def test_only_this_machine_is_served_and_nothing_else_contacted(served):
    assert served._blocks.server_name == "127.0.0.1"
    other = HTTPConnection("127.0.0.2", served._blocks.server_port, timeout=5)
    with pytest.raises(ConnectionRefusedError):
        other.request("GET", "/")
    assert contacted  # the server asks itself whether it is up
    assert set(contacted) <= {"127.0.0.1", "127.0.0.2", "localhost"}


def test_an_image_is_taken_segmented_and_given_to_its_own_tab_alone(served, photo, folder):
    mine, other = served.sessions.of("mine"), served.sessions.of("other")
    assert len(mine.token) >= 32
    assert mine.token != other.token
    taken = ask(served, f"/image/{mine.token}", "POST", png(photo), **{"x-name": "caf%C3%A9.png"})
    assert taken[0] == 204
    assert (mine.name, mine.image.size, other.image) == ("café.png", (96, 64), None)
    list(mine.segment([SegmentRequest(options=QUICK)]))
    mine.keep(*download(mine, 0, "image.png"))
    address = f"/{mine.keep(*download(mine, 0, 'labels.png'))}"
    assert len(mine.files) == 1
    for wrong in (address.replace(mine.token, other.token), address.replace(mine.token, "mine"), address[:-1]):
        assert ask(served, wrong)[0] == 404
    status, content, headers = ask(served, address)
    assert status == 200
    assert Image.open(io.BytesIO(content)).size == (96, 64)
    assert headers["content-disposition"] == "attachment; filename*=utf-8''caf%C3%A9.labels.png"
    assert headers["cache-control"] == "no-store"
    assert ask(served, address)[0] == 404  # it is not kept
    download(mine, 0, "npz")
    assert list(folder.rglob("*.*")) == []  # nothing of it was left
    served.sessions.end("mine")
    assert mine.image is None
    served.sessions.end("other")


def test_images_over_the_limits_are_refused_in_a_sentence_and_the_next_is_taken(served, photo):
    path = f"/image/{served.sessions.of('limits').token}"
    for body, status, why in (
        (bytes(200_000), 413, "Too Large"),
        (png(Image.new("RGB", (300, 300))), 400, "300x300 pixels, over the limit of 50000"),
        (b"", 400, "is empty"),
        (b"no image", 400, "is not an image"),
    ):
        answer = ask(served, path, "POST", body)
        assert answer[0] == status
        assert why in answer[1].decode()
    assert ask(served, path, "POST", png(photo))[0] == 204
    assert ask(served, "/image/unknown", "POST", png(photo))[0] == 404
    served.sessions.end("limits")


def event(app: App, name: str, data: str, event_data: str = "null") -> bytes:
    """Send an event as the page does; what comes of it."""
    number = next(i for i, function in app._blocks.fns.items() if getattr(function.fn, "__name__", "") == name)
    body = f'{{"data": {data}, "event_data": {event_data}, "fn_index": {number}, "session_hash": "events"}}'
    status, content, _ = ask(app, "/gradio_api/queue/join", "POST", body.encode(), **{"content-type": JSON})
    assert status == 200, content
    return ask(app, "/gradio_api/queue/data?session_hash=events")[1]


@pytest.mark.parametrize(
    ("name", "data", "event_data"),
    [
        ("pick", "[]", '{"which": 0, "labels": NaN}'),
        ("pick", "[]", "{}"),
        ("cut_at_number", "[null]", "null"),
        ("cut_at_height", "[]", "null"),
    ],
)
def test_an_event_with_impossible_data_is_one_line_of_the_log(served, caplog, capfd, name, data, event_data):
    assert b"load the page again" in event(served, name, data, event_data)
    assert [record.levelname for record in caplog.records if record.name == "genseg.web"] == ["WARNING"]
    assert "\n" not in caplog.messages[-1]
    assert "Traceback" not in capfd.readouterr().err


def test_a_request_that_gradio_fails_on_is_one_line_of_the_log(served, caplog, capfd):
    body = b'{"data": [], "fn_index": 99999, "session_hash": "x"}'
    assert ask(served, "/gradio_api/queue/join", "POST", body, **{"content-type": JSON})[0] == 500
    assert "KeyError(99999)" in caplog.text
    assert "Traceback" not in caplog.text + capfd.readouterr().err


def test_the_server_is_behind_its_checks(served):
    assert ask(served, "/", host="evil.example")[0] == 403
    body = bytes(100_000)
    assert ask(served, "/gradio_api/queue/join", "POST", body, **{"content-type": JSON})[0] == 413
    assert ask(served, "/login", "POST", body, **{"content-type": "multipart/form-data; boundary=x"})[0] == 413


def test_a_port_in_use_is_an_error(served):
    with pytest.raises(GensegError, match="choose another --port"):
        App(device="cpu").launch(port=served._blocks.server_port)


def test_auth_closes_everything_to_who_has_not_logged_in():
    app = App(device="cpu")
    app.launch(port=_free_port(), auth=("ada", "secret"))
    try:
        assert ask(app, "/config")[0] == 401
        assert ask(app, "/gradio_api/heartbeat/x")[0] == 401
        assert ask(app, "/gradio_api/queue/join", "POST", b'{"data": [], "fn_index": 0, "session_hash": "x"}')[0] == 401
        assert b"gs-head" not in ask(app, "/")[1]
        form, kind = "application/x-www-form-urlencoded", "content-type"
        wrong = ask(app, "/login", "POST", b"username=ada&password=guess", **{kind: form})
        right = ask(app, "/login", "POST", b"username=ada&password=secret", **{kind: form})
        assert (wrong[0], right[0]) == (400, 200)
        cookies = "; ".join(line.split(";")[0] for line in right[2].get_all("set-cookie"))
        assert ask(app, "/config", Cookie=cookies)[0] == 200
    finally:
        app.close()
