"""The loop over attempts, against peers on real sockets: which answer is taken, and what each peer was sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gproxy.errors import (
    BadRequest,
    GatewayError,
    RateLimited,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from gproxy.protocols import anthropic_messages, gemini, openai_chat, passthrough
from gproxy.protocols.base import Protocol
from gproxy.server.edge import LOOP_HEADER
from gproxy.server.journal import Journal
from gproxy.server.opening import Opened, Opener
from gproxy.server.tasks import Tasks
from gproxy.server.tokens import Tokens
from gproxy.server.upstream import Upstream
from gproxy.values import Route, Target
from tests.kit.settings import closed_port
from tests.server.parts import (
    ALICE,
    GOOD,
    Headers,
    Seen,
    always,
    by_key,
    call,
    chunk,
    data,
    http,
    peer,
    provider,
    snapshot,
    sse,
)

BODY = b'{"model": "m", "messages": []}'
STREAMED = b'{"model": "m", "messages": [], "stream": true}'
TWO = ("sk-first-secret", "sk-second-secret")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    it = Upstream()
    yield it
    await it.close()


class Opening:
    """One request about to be opened under the configuration `text`."""

    def __init__(
        self,
        upstream: Upstream,
        text: str,
        body: bytes = BODY,
        protocol: Protocol = openai_chat.CHAT,
        headers: Headers | None = None,
        targets: tuple[Target, ...] = (Target("up", "m"),),
    ) -> None:
        self.foreseen: list[Target] = []
        self.opener = Opener(
            upstream, Tokens(upstream, Tasks()), "own-id", frozenset({"free"}), self.foreseen.append
        )
        path_model = "m" if "{model}" in protocol.paths[0] else None
        self.call = call(snapshot(text + ALICE), body, protocol, model=path_model, headers=headers)
        self.journal = Journal(self.call, Route("m", targets))

    async def open(self) -> Opened:
        return await self.opener.open(self.journal, self.journal.route)

    async def taken(self) -> Opened:
        """Opened, and given up again."""
        opened = await self.open()
        opened.answer.close()
        return opened

    async def failed(self, kind: type[GatewayError] = UpstreamFailed) -> GatewayError:
        with pytest.raises(kind) as raised:
            await self.open()
        return raised.value


# Which answer is taken.


async def test_a_good_answer_is_read_whole(upstream: Upstream) -> None:
    async with peer(always(GOOD)) as up:
        it = Opening(upstream, provider(up.url))
        opened = await it.taken()
    assert json.loads(opened.body or b"")["id"] == "c1"
    assert (opened.refused, opened.tap, it.journal.attempts, it.journal.tried) == (0, None, 1, [])
    assert it.foreseen == [Target("up", "m")]


async def test_a_stream_is_held_at_its_first_event(upstream: Upstream) -> None:
    go = asyncio.Event()

    async def slowly(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: ping\n\n")
        await writer.drain()
        await go.wait()
        writer.write(chunk("hello")[:20])
        await writer.drain()
        writer.write(chunk("hello")[20:])
        await asyncio.Event().wait()

    async with peer(slowly) as up:
        it = Opening(upstream, provider(up.url), STREAMED)
        opening = asyncio.create_task(it.taken())
        while not up.seen:
            await asyncio.sleep(0)
        assert not opening.done()
        go.set()
        opened = await opening
    assert opened.tap is not None
    assert opened.first == b": ping\n\n" + chunk("hello")


@pytest.mark.parametrize("status", [401, 402, 403, 408, 409, 429, 500, 502, 503, 504, 529, 302])
async def test_another_credential_is_tried_after_a_failure(upstream: Upstream, status: int) -> None:
    answers = dict(zip(TWO, [http(b'{"error": {}}', status), GOOD], strict=True))
    async with peer(by_key(answers)) as up:
        it = Opening(upstream, provider(up.url, secrets=TWO))
        assert (await it.taken()).body
    assert [seen.key for seen in up.seen] == list(TWO)
    (tried,) = it.journal.tried
    assert (tried.provider, tried.credential, tried.status) == ("up", "up#1", status)
    assert (it.journal.attempts, it.journal.credential) == (2, "up#2")


FIRST_EVENTS = {
    "error event": sse(data({"error": {"message": "x", "type": "server_error", "code": 500}})),
    "error body": http(b'{"error": {"message": "x", "type": "server_error", "code": 500}}'),
    "html": http(b"<html>", media="text/html"),
    "empty": http(b""),
    "empty stream": sse(b""),
    "only comments": sse(b": ping\n\n"),
    "no content type": http(b"{}", media=""),
    "text": http(b"hello", media="text/plain"),
    "cut json": http(b'{"id": "c1", "cho'),
    "redirect": http(status=301, more=("location: /other",)),
}


@pytest.mark.parametrize("name", FIRST_EVENTS)
async def test_an_answer_that_is_none_is_tried_elsewhere_before_anything_goes_out(
    upstream: Upstream, name: str
) -> None:
    async with peer(by_key({TWO[0]: FIRST_EVENTS[name], TWO[1]: GOOD})) as up:
        it = Opening(upstream, provider(up.url, secrets=TWO), STREAMED)
        assert (await it.taken()).body
    assert len(up.seen) == 2
    assert len(it.journal.tried) == 1


@pytest.mark.parametrize(
    ("media", "piece"),
    [
        ("text/event-stream", data({"error": {"message": "x", "type": "server_error", "code": 500}})),
        ("text/plain", b"hello"),
    ],
)
async def test_an_answer_that_is_not_taken_is_given_up(upstream: Upstream, media: str, piece: bytes) -> None:
    async def endless(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {media}\r\n\r\n".encode() + piece)
        await asyncio.Event().wait()

    async with peer(endless) as up:
        await Opening(upstream, provider(up.url), STREAMED).failed()
        await asyncio.wait_for(up.left.wait(), 5)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_what_the_client_got_wrong_is_handed_on_at_once(upstream: Upstream, status: int) -> None:
    async with peer(always(http(b'{"error": {"message": "no"}}', status))) as up:
        it = Opening(upstream, provider(up.url, secrets=TWO))
        opened = await it.taken()
    assert (opened.refused, opened.body) == (status, b'{"error": {"message": "no"}}')
    assert len(up.seen) == 1


async def test_a_bad_key_that_is_called_a_bad_request_is_tried_elsewhere(upstream: Upstream) -> None:
    bad = http(b'{"error": {"message": "API key not valid", "reason": "API_KEY_INVALID"}}', 400)
    async with peer(by_key({TWO[0]: bad, TWO[1]: GOOD})) as up:
        assert (await Opening(upstream, provider(up.url, secrets=TWO)).taken()).body
    assert len(up.seen) == 2


async def test_another_target_is_tried_under_its_own_model_and_key(upstream: Upstream) -> None:
    targets = (Target("up", "one"), Target("spare", "two"))
    async with peer(always(http(status=500))) as up, peer(always(GOOD)) as spare:
        text = provider(up.url, secrets=TWO) + provider(spare.url, "spare", secrets=("sk-spare-secret",))
        it = Opening(upstream, text, targets=targets)
        await it.taken()
    assert [seen.json()["model"] for seen in up.seen] == ["one", "one"]
    assert [(seen.json()["model"], seen.key) for seen in spare.seen] == [("two", "sk-spare-secret")]
    assert it.foreseen == [targets[0], targets[0], targets[1]]


async def test_a_peer_that_is_not_there_is_passed_over(upstream: Upstream) -> None:
    async with peer(always(GOOD)) as spare:
        text = provider(f"http://127.0.0.1:{closed_port()}") + provider(spare.url, "spare")
        it = Opening(upstream, text, targets=(Target("up", "m"), Target("spare", "m")))
        await it.taken()
    assert not it.journal.tried[0].maybe_billed


async def test_attempts_are_bounded(upstream: Upstream) -> None:
    async with peer(always(http(status=500))) as up:
        it = Opening(upstream, provider(up.url, more="max_attempts = 2", secrets=(*TWO, "sk-third")))
        await it.failed()
    assert len(up.seen) == 2


# What is told when none is good.


async def test_when_all_have_failed_each_is_told_and_no_text_of_theirs(upstream: Upstream) -> None:
    async with peer(always(http(b'{"error": {"message": "SECRET-TEXT"}}', 401))) as up:
        error = await Opening(upstream, provider(up.url, secrets=TWO)).failed()
    for word in ("up (up#1): status 401", "up (up#2): status 401", " ms"):
        assert word in error.message
    for word in ("SECRET-TEXT", *TWO):
        assert word not in error.message


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimited), (402, RateLimited), (529, UpstreamOverloaded)]
)
async def test_what_all_answered_alike_is_told_as_that(
    upstream: Upstream, status: int, kind: type[GatewayError]
) -> None:
    async with peer(always(http(status=status, more=("retry-after: 7",)))) as up:
        error = await Opening(upstream, provider(up.url)).failed(kind)
    assert error.headers == ((("retry-after", "7"),) if kind is RateLimited else ())


async def test_a_provider_without_a_usable_credential_is_not_called(upstream: Upstream) -> None:
    async with peer(always(GOOD)) as up:
        it = Opening(upstream, provider(up.url, secrets=()))
        await it.failed()
    assert (up.seen, it.journal.attempts) == ([], 0)


async def test_a_provider_that_needs_no_credential_is_called_without_one(upstream: Upstream) -> None:
    async with peer(always(GOOD)) as up:
        it = Opening(upstream, provider(up.url, "free", secrets=()), targets=(Target("free", "m"),))
        await it.taken()
    assert "authorization" not in up.seen[0].headers


async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_a_request_that_may_still_be_running_is_not_sent_again(upstream: Upstream) -> None:
    async with peer(silent) as up:
        it = Opening(upstream, provider(up.url, more="first_byte_timeout_s = 0.05", secrets=TWO))
        await it.failed(UpstreamTimeout)
    assert len(up.seen) == 1
    assert it.journal.maybe_billed


async def test_the_wall_time_of_all_attempts_is_bounded(upstream: Upstream) -> None:
    async with peer(silent) as up:
        it = Opening(upstream, provider(up.url, more="total_timeout_s = 0.1"))
        began = asyncio.get_running_loop().time()
        await it.failed(UpstreamTimeout)
        assert asyncio.get_running_loop().time() - began < 2


# `stream_options`.

REFUSED = http(b'{"error": {"message": "unknown field stream_options"}}', 400)


async def picky(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Refuses `stream_options`."""
    writer.write(REFUSED if b"stream_options" in seen.body else sse())


async def test_usage_is_asked_for_and_not_again_once_it_was_refused(upstream: Upstream) -> None:
    async with peer(picky) as up:
        it = Opening(upstream, provider(up.url), STREAMED)
        assert (await it.taken()).tap
        assert (it.journal.attempts, it.journal.tried) == (2, [])
        assert (await it.taken()).tap
    assert [b"stream_options" in seen.body for seen in up.seen] == [True, False, False]
    assert up.seen[1].body == STREAMED
    assert it.opener.no_usage == {"up"}


async def test_a_client_cannot_make_a_provider_seem_to_refuse_usage(upstream: Upstream) -> None:
    """Its own bad field can be named so that the upstream's error names ours."""
    async with peer(always(REFUSED)) as up:
        it = Opening(upstream, provider(up.url), STREAMED)
        assert (await it.taken()).refused == 400
    assert len(up.seen) == 2
    assert it.opener.no_usage == set()


async def test_what_the_client_asked_itself_is_not_taken_back(upstream: Upstream) -> None:
    body = STREAMED.replace(b"true}", b'true, "stream_options": {"include_usage": true}}')
    async with peer(picky) as up:
        it = Opening(upstream, provider(up.url), body)
        assert (await it.taken()).refused == 400
    assert len(up.seen) == 1


async def test_another_refusal_is_not_repeated(upstream: Upstream) -> None:
    async with peer(always(http(b'{"error": {"message": "no"}}', 400))) as up:
        it = Opening(upstream, provider(up.url), STREAMED)
        assert (await it.taken()).refused == 400
    assert len(up.seen) == 1
    assert it.opener.no_usage == set()


async def test_usage_is_not_asked_for_where_the_provider_says_so(upstream: Upstream) -> None:
    async with peer(always(sse())) as up:
        await Opening(upstream, provider(up.url, more="include_usage = false"), STREAMED).taken()
    assert up.seen[0].body == STREAMED


async def test_usage_is_not_asked_for_without_a_stream(upstream: Upstream) -> None:
    async with peer(always(GOOD)) as up:
        await Opening(upstream, provider(up.url)).taken()
    assert up.seen[0].body == BODY


# What is sent.


async def sent(upstream: Upstream, headers: Headers, more: str = "", **opening: Any) -> dict[str, str]:
    async with peer(always(GOOD)) as up:
        await Opening(upstream, provider(up.url, more=more), headers=headers, **opening).taken()
    return up.seen[0].headers


async def test_the_keys_of_the_client_stay_here(upstream: Upstream) -> None:
    mine = [
        (b"authorization", b"Bearer sk-client"),
        (b"x-api-key", b"sk-client"),
        (b"x-goog-api-key", b"sk-client"),
        (b"cookie", b"sk-client"),
        (b"openai-organization", b"sk-client"),
    ]
    headers = await sent(upstream, mine)
    assert "sk-client" not in str(headers)
    assert headers["authorization"] == "Bearer sk-upstream-secret-1"


async def test_a_header_that_the_provider_sets_replaces_the_clients_and_the_defaults(
    upstream: Upstream,
) -> None:
    more = 'headers = { "User-Agent" = "mine", "X-Extra" = "1", "Authorization" = "Other 1" }'
    headers = await sent(upstream, [(b"user-agent", b"theirs"), (b"anthropic-beta", b"b1")], more)
    assert (headers["user-agent"], headers["x-extra"], headers["authorization"]) == ("mine", "1", "Other 1")
    assert headers["anthropic-beta"] == "b1"


async def test_a_default_header_gives_way_to_the_clients(upstream: Upstream) -> None:
    body = b'{"model": "m", "messages": [], "max_tokens": 1}'
    kind: dict[str, Any] = {"body": body, "protocol": anthropic_messages.MESSAGES}
    assert (await sent(upstream, [], **kind))["anthropic-version"] == "2023-06-01"
    assert (await sent(upstream, [(b"anthropic-version", b"2099-01-01")], **kind))[
        "anthropic-version"
    ] == "2099-01-01"


async def test_the_way_that_a_request_took_is_written_down(upstream: Upstream) -> None:
    name = LOOP_HEADER.decode()
    assert (await sent(upstream, []))[name] == "own-id"
    assert (await sent(upstream, [(LOOP_HEADER, b"first, second")]))[name] == "first, second, own-id"


async def test_a_body_is_json_whatever_the_client_called_it(upstream: Upstream) -> None:
    headers = await sent(upstream, [(b"content-type", b"application/vnd.api+json")])
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"


async def test_the_proxy_of_a_provider_comes_before_the_global_one(upstream: Upstream) -> None:
    async with peer(always(GOOD)) as near, peer(always(GOOD)) as far:
        text = f'[global]\nproxy = "{far.url}"\n' + provider(
            "http://up.invalid", more=f'proxy = "{near.url}"'
        )
        await Opening(upstream, text + provider("http://up.invalid", "spare")).taken()
        assert (len(near.seen), len(far.seen)) == (1, 0)
        both = text + provider("http://up.invalid", "spare")
        await Opening(upstream, both, targets=(Target("spare", "m"),)).taken()
        assert (len(near.seen), len(far.seen)) == (1, 1)


# Dialects.


def speaking(protocol: str) -> str:
    settings = f'{{ base_url = "http://x", protocols = ["{protocol}"] }}'
    return f'[[providers]]\nname = "up"\nchannel = "custom"\nsettings = {settings}\n'


async def test_a_target_that_does_not_speak_the_dialect_is_passed_over(upstream: Upstream) -> None:
    text = speaking("anthropic_messages") + provider("http://y", "spare")
    it = Opening(upstream, text, targets=(Target("up", "m"), Target("spare", "m")))
    assert it.opener.speakers(it.call, it.journal.route).targets == (Target("spare", "m"),)


async def test_no_target_that_speaks_it_is_400_and_names_both_dialects(upstream: Upstream) -> None:
    it = Opening(upstream, speaking("anthropic_messages"))
    with pytest.raises(BadRequest) as refused:
        it.opener.speakers(it.call, it.journal.route)
    assert "openai_chat" in refused.value.message
    assert "anthropic_messages" in refused.value.message


async def test_a_growing_array_is_a_stream_too(upstream: Upstream) -> None:
    body = b'[{"candidates": [], "modelVersion": "m"}\n,\n{"candidates": [], "modelVersion": "m"}]'
    async with peer(always(http(body))) as up:
        it = Opening(upstream, provider(up.url), b'{"contents": []}', gemini.STREAM)
        opened = await it.taken()
    assert opened.tap is not None


async def test_what_is_no_json_is_passed_on_unread_where_that_may_be(upstream: Upstream) -> None:
    body = b'{"model": "m", "input": "hi", "voice": "v"}'
    async with peer(always(http(b"\x00\x01", media="audio/mpeg"))) as up:
        opened = await Opening(upstream, provider(up.url), body, passthrough.SPEECH).open()
        assert (opened.body, opened.tap) == (None, None)
        assert await opened.answer.whole() == b"\x00\x01"
    async with peer(always(http(b"<html>", media="text/html"))) as up:
        await Opening(upstream, provider(up.url), body, passthrough.SPEECH).failed()
