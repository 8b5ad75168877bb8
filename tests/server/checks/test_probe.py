"""One call by one credential: what is asked of each channel, and what each way of failing is called."""

import asyncio
import json
from typing import Any

import pytest

from gproxy.server.checks import probe as module
from gproxy.server.checks.probe import Outcome, probe
from gproxy.server.control.listing import client
from tests.kit.accounts import key_file
from tests.kit.settings import closed_port
from tests.server.parts import Peer, Script, Seen, always, http, peer, snapshot

SECRET = "sk-canary-secret-1"
LIST = http(b'{"data": [{"id": "a"}, {"id": "b"}]}')
ANSWER = http(b'{"id": "x"}')
MODEL = '[[models]]\nprovider_name = "up"\nmodel_id = "m"\n'
HELLO = [{"role": "user", "content": "Hi"}]


def file(channel: str, url: str, more: str = "", secret: str = SECRET) -> str:
    return (
        f'[[providers]]\nname = "up"\nchannel = "{channel}"\nsettings = {{ base_url = "{url}"{more} }}\n'
        f"credentials = [{{ api_key = {json.dumps(secret)} }}]\n"
    )


async def outcome_of(text: str, model: str = "") -> Outcome:
    here = snapshot(text)
    provider = here.providers["up"]
    async with client() as (upstream, tokens):
        return await probe(upstream, tokens, here, provider, provider.credentials[0], model)


async def asked(
    channel: str, answer: bytes | Script, more: str = "", model: str = "", settings: str = ""
) -> Any:
    """The outcome, and the peer that was asked."""
    script = always(answer) if isinstance(answer, bytes) else answer
    async with peer(script) as up:
        outcome = await outcome_of(file(channel, up.url, settings) + more, model)
        assert SECRET not in outcome.told + outcome.advice
        return outcome, up


def only(up: Peer) -> Seen:
    (seen,) = up.seen
    return seen


async def test_a_list_proves_the_key_at_no_cost() -> None:
    outcome, up = await asked("openai", LIST, MODEL)
    assert (outcome.kind, outcome.asked, outcome.told, outcome.advice) == ("ok", "list", "2 models", "")
    assert (only(up).method, only(up).target, only(up).key) == ("GET", "/v1/models", SECRET)


async def test_where_a_list_asks_for_no_key_another_path_or_a_model_proves_it() -> None:
    outcome, up = await asked("azure-openai", LIST, MODEL)
    assert (outcome.kind, outcome.asked, only(up).target) == ("ok", "key", "/openai/v1/models")
    assert only(up).headers["api-key"] == SECRET
    outcome, up = await asked("nvidia", ANSWER, MODEL)
    assert (outcome.kind, outcome.asked, only(up).target) == ("ok", "m", "/v1/chat/completions")
    outcome, up = await asked("nvidia", LIST)
    assert (outcome.kind, outcome.asked) == ("ok", "list")
    assert "asks for no key" in outcome.told
    assert "--model" in outcome.advice


@pytest.mark.parametrize(
    ("channel", "settings", "target", "body"),
    [
        ("openai", "", "/v1/chat/completions", {"model": "x/y", "messages": HELLO, "max_tokens": 1}),
        ("anthropic", "", "/v1/messages", {"model": "x/y", "messages": HELLO, "max_tokens": 1}),
        (
            "custom",
            ', protocols = ["openai_responses"]',
            "/v1/responses",
            {"model": "x/y", "input": "Hi", "max_output_tokens": 16},
        ),
        (
            "custom",
            ', protocols = ["openai_embeddings"]',
            "/v1/embeddings",
            {"model": "x/y", "input": "Hi"},
        ),
        (
            "vertexexpress",
            "",
            "/v1/publishers/google/models/x%2Fy:generateContent",
            {
                "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
                "generationConfig": {"maxOutputTokens": 1},
            },
        ),
    ],
)
async def test_a_model_is_asked_for_as_little_as_there_is(
    channel: str, settings: str, target: str, body: dict[str, Any]
) -> None:
    outcome, up = await asked(channel, ANSWER, model="x/y", settings=settings)
    assert (outcome.kind, outcome.asked) == ("ok", "x/y")
    assert (only(up).method, only(up).target, only(up).json()) == ("POST", target, body)
    assert only(up).headers["content-type"] == "application/json"


async def test_a_deployment_is_asked_by_its_path() -> None:
    outcome, up = await asked("azure-openai", ANSWER, model="my-gpt")
    assert outcome.kind == "ok"
    assert only(up).target.startswith("/openai/deployments/my-gpt/chat/completions?api-version=")


async def test_a_model_that_wants_the_newer_limit_is_asked_again() -> None:
    refusal = {"error": {"message": "Use 'max_completion_tokens' instead.", "code": "unsupported_parameter"}}

    async def picky(seen: Seen, writer: asyncio.StreamWriter) -> None:
        new = "max_completion_tokens" in seen.json()
        await always(ANSWER if new else http(json.dumps(refusal).encode(), 400))(seen, writer)

    outcome, up = await asked("openai", picky, model="o1")
    assert outcome.kind == "ok"
    assert [set(seen.json()) for seen in up.seen] == [
        {"model", "messages", "max_tokens"},
        {"model", "messages", "max_completion_tokens"},
    ]


async def test_an_upstream_without_a_list_is_asked_for_its_first_model() -> None:
    async def listless(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await always(ANSWER if seen.method == "POST" else http(b"{}", 404))(seen, writer)

    outcome, _ = await asked("custom", listless, MODEL)
    assert (outcome.kind, outcome.asked) == ("ok", "m")
    outcome, _ = await asked("custom", listless)
    assert (outcome.kind, outcome.asked, outcome.status) == ("failed", "list", 404)
    assert "--model" in outcome.advice


async def test_what_cannot_be_asked_is_said_to_be_untested() -> None:
    outcome, up = await asked("vertexexpress", ANSWER)
    assert (outcome.kind, outcome.asked) == ("untested", "")
    assert "--model" in outcome.advice
    assert up.seen == []
    offline = '[[providers]]\nname = "up"\nchannel = "demo"\ncredentials = [{ api_key = "x" }]\n'
    assert (await outcome_of(offline)).kind == "ok"


CREDIT = {"error": {"message": f"no credit for {SECRET}", "code": "insufficient_quota"}}
GOOGLE = {"error": {"code": 400, "message": "bad", "details": [{"reason": "API_KEY_INVALID"}]}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "told", "advice"),
    [
        (401, {}, "refused", "status 401, its key is refused", "set-key up"),
        (400, GOOGLE, "refused", "status 400, its key is refused", "set-key up"),
        (403, {}, "refused", "may not do this", "console"),
        (429, {}, "limited", "rate limited", "wait"),
        (429, CREDIT, "limited", "out of credit", "billing"),
        (402, {}, "limited", "out of credit", "billing"),
        (302, {}, "failed", "status 302", "redirects are not followed"),
        (500, {"error": {"message": "boom"}}, "failed", "status 500: boom", "try again later"),
        (404, {"error": {"message": "nothing here"}}, "failed", "status 404: nothing here", "base_url"),
    ],
)
async def test_each_refusal_is_told_apart(
    status: int, body: dict[str, Any], kind: str, told: str, advice: str
) -> None:
    outcome, _ = await asked("openai", http(json.dumps(body).encode(), status))
    assert (outcome.kind, outcome.status, outcome.asked) == (kind, status, "list")
    assert told in outcome.told
    assert advice in outcome.advice


async def test_an_upstreams_own_words_hold_no_secret_and_no_control_character() -> None:
    said = {"error": {"message": f"\x1b[2Jbad key {SECRET}\r\n" + "long " * 200}}
    outcome, _ = await asked("openai", http(json.dumps(said).encode(), 418))
    assert outcome.told.startswith("status 418: \\x1b[2Jbad key [redacted] long")
    assert outcome.told.isprintable()
    assert len(outcome.told) < 250


async def test_no_connection_is_told_by_its_kind() -> None:
    outcome = await outcome_of(file("openai", f"http://127.0.0.1:{closed_port()}"))
    assert (outcome.kind, outcome.told, outcome.status) == ("unreachable", "connection refused", None)
    outcome = await outcome_of(file("openai", "http://no-such-host.invalid"))
    assert (outcome.kind, outcome.told) == ("unreachable", "no such host")
    async with await asyncio.start_server(no_tls, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await outcome_of(file("openai", f"https://127.0.0.1:{port}"))
        assert (outcome.kind, outcome.told) == ("unreachable", "it speaks no TLS")
        assert "http://" in outcome.advice


async def no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 This is no TLS\r\n\r\n")
    await writer.drain()
    writer.close()


async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_silence_is_unreachable_by_the_providers_limit_or_by_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome, _ = await asked("openai", silent, settings=", first_byte_timeout_s = 0.05")
    assert (outcome.kind, outcome.told) == ("unreachable", "no answer in time")
    assert 40 <= outcome.milliseconds < 5000
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.05)
    outcome, _ = await asked("openai", silent)
    assert outcome.kind == "unreachable"


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", http(b"<html>"), http(b'{"data": 7}')])
async def test_what_is_no_list_has_failed(answer: bytes) -> None:
    outcome, _ = await asked("openai", answer)
    assert (outcome.kind, outcome.status) == ("failed", None)
    assert "base_url" in outcome.advice


async def test_a_name_that_cannot_be_sent_has_failed_without_a_call() -> None:
    outcome, up = await asked("gemini", ANSWER, model="a b")
    assert outcome.kind == "failed"
    assert "letters" in outcome.told
    assert up.seen == []


class Google:
    """A token endpoint that says `status`, and a model."""

    def __init__(self, status: int = 200) -> None:
        self.status = status

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        token = b'{"access_token": "ya29.token", "expires_in": 3600}'
        await always(http(token, self.status) if seen.target == "/token" else ANSWER)(seen, writer)


@pytest.mark.parametrize(("status", "kind"), [(200, "ok"), (400, "refused"), (503, "unreachable")])
async def test_a_service_account_is_tested_by_its_token_and_a_model(status: int, kind: str) -> None:
    async with peer(Google(status)) as up:
        secret = json.dumps(key_file(f"{up.url}/token"))
        outcome = await outcome_of(file("vertex", up.url, secret=secret), "gemini-x")
        assert outcome.kind == kind, outcome
        assert up.seen[0].target == "/token"
