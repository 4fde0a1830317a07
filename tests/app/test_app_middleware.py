"""Refusals of the app's server before Gradio sees a request, on an application that echoes the body."""

import asyncio
import time

import pytest

pytest.importorskip("gradio", reason="the app's extra is not installed")

from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from genseg.app import middleware
from genseg.app.middleware import MAX_BODY

LOCAL = "http://127.0.0.1:7860"


def client_of(login: bool = False) -> TestClient:
    """The middleware before an application whose password is ``right``."""

    async def answer(request: Request) -> PlainTextResponse:
        body = await request.body()
        if request.url.path == "/login" and body != b"right":
            raise HTTPException(400)
        return PlainTextResponse(str(len(body)))

    wrapped = middleware.middleware({"localhost", "gpubox"}, {"https://example.org"})
    application = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])], middleware=wrapped)
    gradio = {"auth": {"ada": "right"} if login else None, "tokens": {"token": "ada"}, "cookie_id": "c"}
    for name, value in gradio.items():
        setattr(application, name, value)
    return TestClient(application, base_url=LOCAL)


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/login", "/", "/config"])
def test_long_bodies_are_refused_before_they_are_read(path, monkeypatch):
    monkeypatch.setattr(middleware, "WRONG_PASSWORD_SECONDS", 0)
    client = client_of()
    for length, statuses in ((MAX_BODY, (200, 400)), (MAX_BODY + 1, (413,))):
        chunks = (bytes(min(4096, length - at)) for at in range(0, length, 4096))
        assert client.post(path, content=chunks).status_code in statuses


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:7860", None, 200),
        ("[::1]:7860", "http://[::1]:7860", 200),
        ("localhost:7860", "http://localhost:7860", 200),
        ("gpubox:7860", "http://gpubox:7860", 200),
        ("example.org", "https://example.org", 200),
        ("127.0.0.1:7860", "https://example.org", 200),  # a proxy that names the address it asks
        ("evil.example:7860", None, 403),
        ("evil.example:7860", "http://evil.example:7860", 403),
        ("", None, 403),
        ("[::", None, 403),
        ("127.0.0.1:7860", "http://evil.example", 403),
        ("127.0.0.1:7860", "http://127.0.0.1:8888", 403),
        ("127.0.0.1:7860", "null", 403),
    ],
)
def test_requests_under_other_names_and_from_other_pages_are_refused(host, origin, status):
    headers = {"host": host, **({"origin": origin} if origin else {})}
    for method, path in (("GET", "/"), ("POST", "/gradio_api/queue/join"), ("POST", "/image/token")):
        assert client_of().request(method, path, headers=headers).status_code == status


def test_what_is_not_of_the_login_page_asks_for_login():
    client = client_of(login=True)
    assert client.get("/").status_code == 200
    for path in ("/gradio_api/heartbeat/x", "/gradio_api/queue/data", "/image/x", "/file/x/0/labels.png"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"cookie": "access-token-unsecure-c=guess"}).status_code == 401
        assert client.get(path, headers={"cookie": "access-token-unsecure-c=token"}).status_code == 200


def test_an_address_tries_one_password_at_a_time_and_a_wrong_one_takes_a_while(monkeypatch):
    monkeypatch.setattr(middleware, "WRONG_PASSWORD_SECONDS", 0.3)
    transport = ASGITransport(client_of(login=True).app)

    async def attempts(*passwords: bytes) -> list[int]:
        async with AsyncClient(transport=transport, base_url=LOCAL) as client:
            answers = await asyncio.gather(*(client.post("/login", content=password) for password in passwords))
        return [answer.status_code for answer in answers]

    began = time.monotonic()
    assert asyncio.run(attempts(b"guess", b"right", b"guess")) == [400, 429, 429]
    assert time.monotonic() - began >= 0.3
    assert asyncio.run(attempts(b"right")) == [200]


def test_a_network_of_ipv6_tries_one_password_at_a_time(monkeypatch):
    monkeypatch.setattr(middleware, "WRONG_PASSWORD_SECONDS", 0.3)
    application = client_of(login=True).app

    async def attempt(address: str) -> int:
        transport = ASGITransport(application, client=(address, 1))
        async with AsyncClient(transport=transport, base_url=LOCAL) as client:
            return (await client.post("/login", content=b"guess")).status_code

    async def attempts(*addresses: str) -> list[int]:
        return await asyncio.gather(*map(attempt, addresses))

    one_network = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1", "192.0.2.1", "::ffff:192.0.2.1"]
    assert asyncio.run(attempts(*one_network)) == [400, 429, 400, 400, 429]
