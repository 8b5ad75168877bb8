"""One exchange for all who wait, a token kept until it is nearly over, and every fault there by its name."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from gproxy.config import accounts
from gproxy.config.schema import Settings
from gproxy.config.snapshot import Credential, Provider
from gproxy.errors import ConnectFailed, ConnectTimedOut, CredentialRefused, UpstreamFault
from gproxy.providers.vertex import SCOPE
from gproxy.server.request import tokens
from gproxy.server.request.tokens import Access, Tokens
from gproxy.server.request.upstream import Upstream
from gproxy.server.tasks import Tasks
from tests.kit.accounts import EMAIL, PROJECT, claims, key_file, pem
from tests.kit.settings import closed_port
from tests.server.parts import (
    ALICE,
    Peer,
    Seen,
    http,
    peer,
    serving,
)


def granted(number: int, lasts: int = 3600) -> bytes:
    token = f"ya29.token-number-{number:04d}"
    return http(json.dumps({"access_token": token, "expires_in": lasts, "token_type": "Bearer"}).encode())


class Endpoint:
    """Answers each exchange with the next token, or with `answer` as it is."""

    def __init__(self, lasts: int = 3600, answer: bytes | None = None) -> None:
        self.given = 0
        self.lasts = lasts
        self.answer = answer
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        self.given += 1
        await self.gate.wait()
        writer.write(self.answer or granted(self.given, self.lasts))
        await writer.drain()


def provider(channel: str = "vertex", **settings: Any) -> Provider:
    return Provider(name="v", channel=channel, enabled=True, settings=Settings(**settings))


def credential(url: str, **changed: Any) -> Credential:
    return Credential(name="v#1", secret=accounts.read(json.dumps(key_file(url, **changed)), "it"))


@asynccontextmanager
async def exchanging(endpoint: Endpoint) -> AsyncIterator[tuple[Tokens, Peer]]:
    upstream, tasks = Upstream(), Tasks()
    async with peer(endpoint) as up:
        try:
            yield Tokens(upstream, tasks), up
        finally:
            await tasks.drain(5)
            await upstream.close()


async def test_a_plain_key_is_sent_as_it_is() -> None:
    async with exchanging(Endpoint()) as (it, up):
        plain = await it.access(provider("openai"), Credential(name="a", secret="sk-1"), "")
        assert (plain.secret, plain.project) == ("sk-1", "")
        assert (await it.access(provider("ollama"), Credential(name="no key"), "")).secret is None
        assert not it.forget(plain)
        assert up.seen == []


async def test_a_service_account_asks_with_a_signed_claim_and_gets_its_token() -> None:
    async with exchanging(Endpoint()) as (it, up):
        found = await it.access(provider(), credential(f"{up.url}/token"), "")
        assert (found.secret, found.project) == ("ya29.token-number-0001", PROJECT)
        assert "ya29" not in repr(found)
        (seen,) = up.seen
        assert (seen.method, seen.target) == ("POST", "/token")
        assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
        form = parse_qs(seen.body.decode())
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        said = claims(form["assertion"][0])
        assert (said["iss"], said["scope"], said["aud"]) == (EMAIL, SCOPE, f"{up.url}/token")
        assert said["exp"] - said["iat"] == 3600


async def test_many_who_wait_share_one_exchange_and_one_who_leaves_does_not_end_it() -> None:
    endpoint = Endpoint()
    endpoint.gate.clear()
    async with exchanging(endpoint) as (it, up):
        who = credential(up.url)
        waiting = [asyncio.create_task(it.access(provider(), who, "")) for _ in range(50)]
        while not up.seen:
            await asyncio.sleep(0.001)
        waiting[0].cancel()
        endpoint.gate.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert {o.secret for o in outcomes[1:] if isinstance(o, Access)} == {"ya29.token-number-0001"}
        assert len(outcomes) == 50
        assert endpoint.given == 1


async def test_a_token_is_kept_and_each_account_has_its_own() -> None:
    endpoint = Endpoint()
    async with exchanging(endpoint) as (it, up):
        one, other = credential(up.url), credential(up.url, client_email="other@example")
        first = await it.access(provider(), one, "")
        assert await it.access(provider(), one, "") is first
        assert (await it.access(provider(), other, "")).secret != first.secret
        assert endpoint.given == 2


@pytest.mark.parametrize(("lasts", "exchanges"), [(59, 2), (60, 2), (3600, 1)])
async def test_one_within_a_minute_of_its_end_is_not_used_again(lasts: int, exchanges: int) -> None:
    endpoint = Endpoint(lasts)
    async with exchanging(endpoint) as (it, up):
        for _ in range(2):
            await it.access(provider(), credential(up.url), "")
        assert endpoint.given == exchanges


async def test_a_forgotten_token_is_asked_for_anew_but_not_its_successor() -> None:
    endpoint = Endpoint()
    async with exchanging(endpoint) as (it, up):
        who = credential(up.url)
        first = await it.access(provider(), who, "")
        assert it.forget(first)
        second = await it.access(provider(), who, "")
        assert second.secret == "ya29.token-number-0002"
        # Another request that was refused with the first one finds the second there.
        assert it.forget(first)
        assert await it.access(provider(), who, "") is second


@pytest.mark.parametrize(
    ("answer", "fault", "reason"),
    [
        (http(b'{"error": "invalid_grant canary"}', 400), CredentialRefused, "refused with status 400"),
        (http(b"canary", 401), CredentialRefused, "refused with status 401"),
        (http(b"canary", 403), ConnectFailed, "endpoint answered 403"),
        (http(b"canary", 503), ConnectFailed, "endpoint answered 503"),
        (http(b"", 302, more=("location: http://127.0.0.1:9/canary",)), ConnectFailed, "answered 302"),
        (http(b"<html>canary"), ConnectFailed, "is not one"),
        (http(b'{"access_token": ""}'), ConnectFailed, "holds none"),
        (http(b'{"access_token": "a\\r\\nx-canary: 1"}'), ConnectFailed, "holds none"),
        (http(b'{"access_token": "a", "expires_in": 1e400}'), ConnectFailed, "is not one"),
        (b"canary\r\n\r\n", ConnectFailed, "gave no answer"),
        (http(b"x" * 100_000), ConnectFailed, "gave no answer"),
    ],
)
async def test_a_fault_of_the_endpoint_is_the_attempts_and_nothing_it_said_is_told(
    answer: bytes, fault: type[UpstreamFault], reason: str
) -> None:
    endpoint = Endpoint(answer=answer)
    async with exchanging(endpoint) as (it, up):
        who = credential(up.url)
        with pytest.raises(fault, match=reason) as caught:
            await it.access(provider(), who, "")
        assert "canary" not in caught.value.reason
        assert not caught.value.maybe_billed
        endpoint.answer = None
        assert (await it.access(provider(), who, "")).secret  # a fault is not kept


async def test_an_endpoint_that_cannot_be_reached_or_is_silent_is_no_connection() -> None:
    endpoint = Endpoint()
    endpoint.gate.clear()
    async with exchanging(endpoint) as (it, up):
        with pytest.raises(ConnectFailed, match="no answer"):
            await it.access(provider(), credential(f"http://127.0.0.1:{closed_port()}"), "")
        with pytest.raises(ConnectTimedOut, match="no access token in time"):
            await it.access(provider(first_byte_timeout_s=0.05), credential(up.url), "")
        deadline = asyncio.get_running_loop().time() + 0.05
        with pytest.raises(ConnectTimedOut, match="no access token in time"):
            await it.access(provider(), credential(up.url), "", deadline)
        endpoint.gate.set()


async def test_an_exchange_ends_by_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TOKEN_SECONDS", 0.05)
    endpoint = Endpoint()
    endpoint.gate.clear()
    async with exchanging(endpoint) as (it, up):
        with pytest.raises(ConnectTimedOut):
            await it.access(provider(), credential(up.url), "")
        endpoint.gate.set()


async def test_the_exchange_goes_through_the_proxy() -> None:
    async with exchanging(Endpoint()) as (it, up):
        found = await it.access(provider(), credential("http://oauth.invalid/token"), up.url)
        assert found.secret
        assert up.seen[0].target == "http://oauth.invalid/token"


async def test_a_key_that_cannot_sign_is_refused_without_a_call() -> None:
    broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    async with exchanging(Endpoint()) as (it, up):
        with pytest.raises(CredentialRefused, match="cannot sign"):
            await it.access(provider(), credential(up.url, private_key=broken), "")
        assert up.seen == []


def test_a_token_is_taken_out_of_an_upstreams_text_whole_and_cut_short() -> None:
    access = Access("ya29.token-number-0001-and-more", "p", "{}")
    said = b'{"message": "bad ya29.token-number-0001-and-more and ya29.token-number-00, ya29."}'
    assert access.scrubbed(said) == b'{"message": "bad [redacted] and [redacted], ya29."}'
    assert Access("sk-1").scrubbed(b"sk-1") == b"sk-1"


VERTEX = """
[[providers]]
name = "v"
channel = "vertex"
settings = {{ base_url = "{url}", location = "europe-west4" }}
credentials = [{{ api_key = {secret} }}]
"""
CONTENTS = {"contents": [{"parts": [{"text": "hi"}]}]}
ANSWER = {
    "candidates": [{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2},
    "modelVersion": "m",
}


class Google:
    """Tokens, and a model that accepts all but the first `revoked` of them."""

    def __init__(self, revoked: int = 0, refusal: bytes = http(b'{"error": {"code": 401}}', 401)) -> None:
        self.endpoint = Endpoint()
        self.revoked = revoked
        self.refusal = refusal

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.target == "/token":
            return await self.endpoint(seen, writer)
        number = int(seen.key.rpartition("-")[2])
        writer.write(self.refusal if number <= self.revoked else http(json.dumps(ANSWER).encode()))
        await writer.drain()
        return None

    @staticmethod
    def file(up: Peer) -> str:
        secret = json.dumps(json.dumps(key_file(f"{up.url}/token")))
        return ALICE + VERTEX.format(url=up.url, secret=secret)


async def generate(front: Any) -> Any:
    return await front.ask("/v/v1beta/models/m:generateContent", CONTENTS)


async def test_a_request_is_sent_with_the_token_to_its_project(tmp_path: Path) -> None:
    google = Google()
    async with peer(google) as up, serving(google.file(up), tmp_path) as front:
        visits = [await generate(front) for _ in range(3)]
        assert [visit.status for visit in visits] == [200] * 3
        assert google.endpoint.given == 1
        seen = up.seen[-1]
        assert seen.target == (
            f"/v1/projects/{PROJECT}/locations/europe-west4/publishers/google/models/m:generateContent"
        )
        assert seen.key == "ya29.token-number-0001"
        assert seen.json() == CONTENTS
        assert [(row["input_tokens"], row["attempts"]) for row in await front.rows()] == [(3, 1)] * 3


async def test_a_token_that_was_taken_back_is_replaced_once(tmp_path: Path) -> None:
    google = Google(revoked=1)
    async with peer(google) as up, serving(google.file(up), tmp_path) as front:
        assert (await generate(front)).status == 200
        assert google.endpoint.given == 2
        assert [row["attempts"] for row in await front.rows()] == [2]


async def test_an_account_whose_tokens_are_all_refused_fails_after_one_more(tmp_path: Path) -> None:
    google = Google(revoked=1000)
    async with peer(google) as up, serving(google.file(up), tmp_path) as front:
        visit = await generate(front)
        assert visit.status == 502
        assert "status 401" in visit.message
        assert google.endpoint.given == 2


async def test_a_refused_account_is_a_failed_attempt_that_repeats_nothing(tmp_path: Path) -> None:
    google = Google()
    google.endpoint.answer = http(b'{"error": "invalid_grant", "error_description": "canary"}', 400)
    async with peer(google) as up, serving(google.file(up), tmp_path) as front:
        visit = await generate(front)
        assert visit.status == 502
        assert "its service account was refused with status 400" in visit.message
        assert "canary" not in visit.message
        assert {seen.target for seen in up.seen} == {"/token"}


async def test_neither_the_token_nor_the_key_comes_back_to_the_client(tmp_path: Path) -> None:
    line = pem().splitlines()[3]
    said = f"token ya29.token-number-0001 and key {line}"
    body = json.dumps({"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}).encode()
    google = Google(revoked=1, refusal=http(body, 400))
    async with peer(google) as up, serving(google.file(up), tmp_path) as front:
        visit = await generate(front)
        assert visit.status == 400
        assert visit.message == "token [redacted] and key [redacted]"
