"""A page in a browser is answered if its origin may call, and told so; any other is refused."""

from pathlib import Path

import pytest

from gproxy.errors import BadRequest, Forbidden
from gproxy.server.request.cors import admit, preflight
from tests.server.parts import ALICE, KEY, Front, Visit, serving

APP = "https://app.example"
DEMO = '[[providers]]\nname = "demo"\nchannel = "demo"\n' + ALICE
CHAT = "/v1/chat/completions"
BODY = {"model": "demo/fast", "messages": [{"role": "user", "content": "hi"}]}


def allowing(*origins: str) -> str:
    return f"[global]\ncors_origins = {list(origins)}\n{DEMO}"


async def ask(front: Front, origin: str, path: str = CHAT, body: object = BODY, **more: object) -> Visit:
    headers = [(b"origin", origin.encode()), *more.pop("headers", [])]  # type: ignore[misc]  # as `scope` takes them
    return await front.ask(path, body, headers=headers, **more)


@pytest.mark.parametrize("origin", [APP, "http://127.0.0.1", "http://localhost:3000", "null", "", "file://"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/health"])
async def test_no_page_may_call_unless_it_is_said_so(tmp_path: Path, origin: str, path: str) -> None:
    async with serving(DEMO, tmp_path) as front:
        answer = await ask(front, origin, path, method="POST" if path == CHAT else "GET")
        assert answer.status == 403
        assert "cors_origins" in answer.message
        assert answer.header("access-control-allow-origin") is None
        assert await front.rows() == []


async def test_who_sends_no_origin_is_told_nothing_of_them(tmp_path: Path) -> None:
    async with serving(allowing(APP), tmp_path) as front:
        answer = await front.ask(CHAT, BODY)
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") is None
    assert answer.header("vary") is None


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        (CHAT, KEY, 200),
        (CHAT, None, 401),
        (CHAT, "sk-other", 401),
        ("/v1/models", KEY, 405),
        ("/nowhere", KEY, 404),
    ],
)
async def test_a_page_that_may_call_gets_every_answer_errors_too(
    tmp_path: Path, path: str, key: str | None, status: int
) -> None:
    async with serving(allowing(APP), tmp_path) as front:
        answer = await ask(front, APP, path, key=key)
    assert answer.status == status
    assert answer.header("access-control-allow-origin") == APP
    assert answer.header("access-control-expose-headers") == "*"
    assert answer.header("access-control-allow-credentials") is None
    assert answer.header("vary") == "origin"


@pytest.mark.parametrize("path", [CHAT, "/demo/v1/messages", "/v1/models", "/user/quota"])
async def test_a_browser_that_asks_first_is_told_what_it_may_send(tmp_path: Path, path: str) -> None:
    """Without a key: a browser sends none when it asks."""
    asked = [
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"authorization,content-type,x-stainless-os"),
    ]
    async with serving(allowing(APP), tmp_path) as front:
        answer = await ask(front, APP, path, None, method="OPTIONS", headers=asked, key=None)
        other = await ask(
            front, "https://other.example", path, None, method="OPTIONS", headers=asked, key=None
        )
        plain = await ask(front, APP, path, None, method="OPTIONS")
    assert (answer.status, answer.body, answer.ended) == (200, b"", True)
    assert answer.header("access-control-allow-origin") == APP
    assert answer.header("access-control-allow-methods") == "GET, HEAD, POST"
    assert answer.header("access-control-allow-headers") == "authorization,content-type,x-stainless-os"
    assert answer.header("access-control-max-age") == "600"
    assert answer.header("x-gproxy-request-id")
    assert other.status == 403
    assert plain.status == 405


async def test_a_repeated_origin_is_400(tmp_path: Path) -> None:
    async with serving(allowing(APP), tmp_path) as front:
        assert (await ask(front, APP, headers=[(b"origin", b"null")])).status == 400


@pytest.mark.parametrize(
    ("origin", "allowed", "told"),
    [
        (APP, (APP,), APP),
        (APP, ("HTTPS://App.Example", "https://b.example"), APP),
        ("https://here:8787", (), "https://here:8787"),
        ("null", ("*",), "*"),
        (APP, ("*",), "*"),
    ],
)
def test_an_origin_is_allowed_by_the_list_or_as_our_own(
    origin: str, allowed: tuple[str, ...], told: str
) -> None:
    assert dict(admit(origin, "here:8787", allowed))["access-control-allow-origin"] == told


@pytest.mark.parametrize(
    "origin",
    ["https://app.example.evil", "http://app.example", "https://app.example:444", "here:8787", "null", ""],
)
def test_an_origin_that_only_looks_like_it_is_refused(origin: str) -> None:
    with pytest.raises(Forbidden):
        admit(origin, "here:8787", (APP,))


def test_a_page_without_an_origin_is_never_the_server_s_own() -> None:
    with pytest.raises(Forbidden):
        admit("file://", "", ())


@pytest.mark.parametrize("requested", ["a\x7f", "a;b", "é", "a" * 5000])
def test_what_is_no_list_of_headers_is_400(requested: str) -> None:
    with pytest.raises(BadRequest):
        preflight(requested)
