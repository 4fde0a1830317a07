"""Images that tools name by an address: what is read, and above all what is not."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("gradio", reason="the app's extra is not installed")

from serving import data_uri, png

from genseg.service.answers import RefusedError
from genseg.service.images import ImageReader, Server


@pytest.fixture
def folder(tmp_path, photo):
    inside = tmp_path / "images"
    (inside / "upload/7").mkdir(parents=True)
    photo.save(inside / "upload/7/a b.png")
    photo.save(inside / "c#1.png")
    (tmp_path / "secret.png").write_bytes(png(photo))
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    return inside


@pytest.fixture
def server():
    """Answers as Label Studio does to those who have a key, sends others elsewhere, and remembers who asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["authorization"]))
            if self.path == "/elsewhere":
                self.send_response(302)
                self.send_header("location", "/data/a.png")
                self.end_headers()
                return
            self.send_response(200 if self.headers["authorization"] in ("Token key", "Bearer bought") else 401)
            self.end_headers()
            self.wfile.write(bytes(2000) if self.path == "/large" else b"an image")

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"access": "bought"}')

        def log_message(self, *_):
            pass

    made = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}", asked
    made.shutdown()
    made.server_close()


def refusal(reader: ImageReader, address: str) -> str:
    with pytest.raises(RefusedError) as caught:
        reader.read(address)
    return str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        *("/data/upload/7/a%20b.png", "upload/7/a b.png", "/upload/7/a b.png", "c#1.png"),
        *("/data/local-files/?d=upload/7/a%20b.png", "/data/local-files/?d=/c%231.png"),
    ],
)
def test_files_below_the_folder_are_read(folder, photo, address):
    assert ImageReader(100_000, folder).read(address)[0] == png(photo)


@pytest.mark.parametrize(
    "address",
    [
        *("../secret.png", "/data/local-files/?d=../secret.png", "/data/upload/../../secret.png", "link.png"),
        *("/data/local-files/?d=..%2fsecret.png", "/data/local-files/?d=", "", ".", "upload", "a\0.png", "a" * 5000),
    ],
)
def test_nothing_else_of_this_machine_is_read(folder, address):
    assert "no image" in refusal(ImageReader(100_000, folder), address)


def test_a_path_out_of_the_folder_is_refused_when_it_is_absolute(folder):
    assert "check --images" in refusal(ImageReader(100_000, folder), str(folder.parent / "secret.png"))
    assert "start genseg serve with --images" in refusal(ImageReader(100_000), "secret.png")


def test_an_image_in_the_address_is_read(photo):
    assert ImageReader(100_000).read(data_uri(photo)) == (png(photo), "the image")
    assert "no base64" in refusal(ImageReader(100_000), "data:image/png,x")
    assert "is no base64" in refusal(ImageReader(100_000), "data:image/png;base64,x?")
    assert "more than 9 bytes" in refusal(ImageReader(9), data_uri(photo))


@pytest.mark.parametrize("address", ["file:///etc/passwd", "s3://bucket/a.png", "ftp://localhost/a", "C:\\a.png"])
def test_other_kinds_of_addresses_are_not_read(folder, address):
    assert "are not read" in refusal(ImageReader(100_000, folder, Server("http://localhost")), address)


def test_no_other_host_is_asked(server):
    url, asked = server
    port = url.rpartition(":")[2]
    for allowed in (None, Server("http://127.0.0.1:1", "key"), Server(f"https://127.0.0.1:{port}", "key")):
        assert "is not asked for images" in refusal(ImageReader(100_000, server=allowed), f"{url}/data/a.png")
    reader = ImageReader(100_000, server=Server(url, "key"))
    for address in (f"http://127.0.0.1:{port}@localhost:{port}/a", f"http://localhost:{port}/a", "http://[::1"):
        refusal(reader, address)
    assert asked == []


def test_the_server_is_asked_with_its_key(server):
    url, asked = server
    for key in ("key", "a.refreshing.token"):
        reader = ImageReader(100_000, server=Server(f"{url}/", key))
        assert reader.read("/data/a.png?x=1") == (b"an image", "a.png")
        assert reader.read(f"{url}/b.png") == (b"an image", "b.png")
    kinds = ["Token key"] * 2 + ["Bearer bought"] * 2
    assert asked == list(zip(["/data/a.png?x=1", "/b.png"] * 2, kinds, strict=True))


def test_answers_that_are_no_image_of_the_server_are_refused(server):
    url, asked = server
    reader = ImageReader(1000, server=Server(url, "key"))
    assert "status 302" in refusal(reader, "/elsewhere")
    assert [path for path, _ in asked] == ["/elsewhere"]
    assert "more than 1,000 bytes" in refusal(reader, "/large")
    assert "status 401" in refusal(ImageReader(1000, server=Server(url)), "/data/a.png")
    assert "does not answer" in refusal(ImageReader(1000, server=Server("http://127.0.0.1:1")), "/data/a.png")
