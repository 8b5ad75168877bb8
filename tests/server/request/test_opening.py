"""The loop over attempts, against peers on real sockets: which answer is taken, and what each peer was sent."""

import asyncio
import itertools
import json
import time
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
from gproxy.protocols import anthropic_messages, gemini, openai_chat, openai_responses, passthrough
from gproxy.protocols.base import Protocol
from gproxy.routing.credentials import Cause, State
from gproxy.server.request.edge import LOOP_HEADER
from gproxy.server.request.incoming import ClientLeft
from gproxy.values import Target
from tests.kit.settings import closed_port
from tests.server.opening import MESSAGE, SAYING, SDK_HEADERS, STREAMED, TWO, Opening, Place
from tests.server.parts import (
    GOOD,
    STREAM,
    Headers,
    Seen,
    always,
    by_key,
    chunk,
    data,
    http,
    peer,
    provider,
    sse,
)

# Which answer is taken.


async def test_a_good_answer_is_read_whole(place: Place) -> None:
    async with peer(always(GOOD)) as up:
        it = Opening(place, provider(up.url))
        opened = await it.taken()
    assert json.loads(opened.body or b"")["id"] == "c1"
    assert (opened.refused, opened.tap, it.journal.attempts, it.journal.tried) == (0, None, 1, [])
    assert it.foreseen == [Target("up", "m")]


async def test_a_stream_is_held_at_its_first_event(place: Place) -> None:
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
        it = Opening(place, provider(up.url), STREAMED)
        opening = asyncio.create_task(it.taken())
        while not up.seen:
            await asyncio.sleep(0)
        assert not opening.done()
        go.set()
        opened = await opening
    assert opened.tap is not None
    assert opened.first == b": ping\n\n" + chunk("hello")


@pytest.mark.parametrize("status", [401, 402, 403, 408, 409, 429, 500, 502, 503, 504, 529, 302])
async def test_another_credential_is_tried_after_a_failure(place: Place, status: int) -> None:
    answers = dict(zip(TWO, [http(b'{"error": {}}', status), GOOD], strict=True))
    async with peer(by_key(answers)) as up:
        it = Opening(place, provider(up.url, secrets=TWO))
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
    "broken json": http(b'{"id": "c1", "choices": }'),
    "empty object": http(b" { }\n"),
    "empty array": http(b"[]"),
    "broken first event": sse(b'data: {"id": "c1", "cho\n\n' + STREAM),
    "redirect": http(status=301, more=("location: /other",)),
}


@pytest.mark.parametrize("name", FIRST_EVENTS)
async def test_an_answer_that_is_none_is_tried_elsewhere_before_anything_goes_out(
    place: Place, name: str
) -> None:
    async with peer(by_key({TWO[0]: FIRST_EVENTS[name], TWO[1]: GOOD})) as up:
        it = Opening(place, provider(up.url, secrets=TWO), STREAMED)
        assert (await it.taken()).body
    assert len(up.seen) == 2
    assert len(it.journal.tried) == 1


FIRST_BROKEN = {
    "openai_chat": (openai_chat.CHAT, sse(b"data: {\n\n" + STREAM)),
    "openai_responses": (openai_responses.RESPONSES, sse(b'event: response.created\ndata: {"type": \n\n')),
    "anthropic_messages": (anthropic_messages.MESSAGES, sse(b"event: message_start\ndata: {]\n\n")),
    "gemini_sse": (gemini.STREAM, sse(b"data: {]\n\n")),
    "gemini_array": (gemini.STREAM, http(b'[{"candidates": },\n{"candidates": []}]')),
}


@pytest.mark.parametrize("name", FIRST_BROKEN)
async def test_a_stream_that_begins_with_broken_json_is_tried_elsewhere_and_its_credential_moved_back(
    place: Place, name: str
) -> None:
    protocol, broken = FIRST_BROKEN[name]
    answers = iter((broken, http(b'{"error": {"message": "no"}}', 404)))

    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(next(answers))
        await writer.drain()

    async with peer(script) as up:
        it = Opening(place, provider(up.url, secrets=TWO), STREAMED, protocol)
        assert (await it.taken()).refused == 404
    (tried,) = it.journal.tried
    assert (tried.cause, tried.reason) == (Cause.TROUBLE, "the stream began with broken JSON")
    stands = place.health.condition((Target("up", "m"), it.credential()), time.time())
    assert stands.state is State.BACK


MESSAGE_START = data({"type": "message_start", "message": MESSAGE | {"usage": {"input_tokens": 7}}})
OVERLOADED = data({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
FAILED = {
    "status": "failed",
    "output": [],
    "error": {"code": "server_error", "message": "x"},
    "usage": {"input_tokens": 7, "output_tokens": 0},
}


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        (anthropic_messages.MESSAGES, sse(MESSAGE_START + OVERLOADED)),
        (openai_responses.RESPONSES, http(json.dumps(FAILED).encode())),
        (openai_responses.RESPONSES, sse(data({"type": "response.failed", "response": FAILED}))),
    ],
    ids=["first events", "whole", "last event"],
)
async def test_what_a_failed_attempt_had_used_by_then_is_known_and_may_be_billed(
    place: Place, protocol: Protocol, answer: bytes
) -> None:
    async with peer(always(answer)) as up:
        it = Opening(place, provider(up.url), STREAMED, protocol)
        await it.failed(GatewayError)
    (tried,) = it.journal.tried
    assert tried.spent is not None
    assert tried.spent.input_tokens == 7
    assert tried.maybe_billed
    assert it.journal.maybe_billed


@pytest.mark.parametrize(
    ("media", "piece"),
    [
        ("text/event-stream", data({"error": {"message": "x", "type": "server_error", "code": 500}})),
        ("text/plain", b"hello"),
    ],
)
async def test_an_answer_that_is_not_taken_is_given_up(place: Place, media: str, piece: bytes) -> None:
    async def endless(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {media}\r\n\r\n".encode() + piece)
        await asyncio.Event().wait()

    async with peer(endless) as up:
        await Opening(place, provider(up.url), STREAMED).failed()
        await asyncio.wait_for(up.left.wait(), 5)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_what_the_client_got_wrong_is_handed_on_at_once(place: Place, status: int) -> None:
    async with peer(always(http(b'{"error": {"message": "no"}}', status))) as up:
        it = Opening(place, provider(up.url, secrets=TWO))
        opened = await it.taken()
    assert (opened.refused, opened.body) == (status, b'{"error": {"message": "no"}}')
    assert len(up.seen) == 1


async def test_a_bad_key_that_is_called_a_bad_request_is_tried_elsewhere(place: Place) -> None:
    bad = http(b'{"error": {"message": "API key not valid", "reason": "API_KEY_INVALID"}}', 400)
    async with peer(by_key({TWO[0]: bad, TWO[1]: GOOD})) as up:
        assert (await Opening(place, provider(up.url, secrets=TWO)).taken()).body
    assert len(up.seen) == 2


async def test_another_target_is_tried_under_its_own_model_and_key(place: Place) -> None:
    targets = (Target("up", "one"), Target("spare", "two"))
    async with peer(always(http(status=500))) as up, peer(always(GOOD)) as spare:
        text = provider(up.url, secrets=TWO) + provider(spare.url, "spare", secrets=("sk-spare-secret",))
        it = Opening(place, text, targets=targets)
        await it.taken()
    assert [seen.json()["model"] for seen in up.seen] == ["one", "one"]
    assert [(seen.json()["model"], seen.key) for seen in spare.seen] == [("two", "sk-spare-secret")]
    assert it.foreseen == [targets[0], targets[0], targets[1]]


async def test_a_peer_that_is_not_there_is_passed_over(place: Place) -> None:
    async with peer(always(GOOD)) as spare:
        text = provider(f"http://127.0.0.1:{closed_port()}") + provider(spare.url, "spare")
        it = Opening(place, text, targets=(Target("up", "m"), Target("spare", "m")))
        await it.taken()
    assert not it.journal.tried[0].maybe_billed


async def test_attempts_are_bounded(place: Place) -> None:
    async with peer(always(http(status=500))) as up:
        it = Opening(place, provider(up.url, more="max_attempts = 2", secrets=(*TWO, "sk-third")))
        await it.failed()
    assert len(up.seen) == 2


# What is told when none is good.


async def test_when_all_have_failed_each_is_told_and_no_text_of_theirs(place: Place) -> None:
    async with peer(always(http(b'{"error": {"message": "SECRET-TEXT"}}', 401))) as up:
        error = await Opening(place, provider(up.url, secrets=TWO)).failed()
    for word in ("up (up#1): status 401", "up (up#2): status 401", " ms"):
        assert word in error.message
    for word in ("SECRET-TEXT", *TWO):
        assert word not in error.message


@pytest.mark.parametrize(
    ("status", "kind", "after"),
    [(429, RateLimited, "7"), (402, RateLimited, "600"), (529, UpstreamOverloaded, None)],
)
async def test_what_all_answered_alike_is_told_as_that(
    place: Place, status: int, kind: type[GatewayError], after: str | None
) -> None:
    async with peer(always(http(status=status, more=("retry-after: 7",)))) as up:
        error = await Opening(place, provider(up.url)).failed(kind)
    assert error.headers == ((("retry-after", after),) if after else ())


async def test_a_provider_without_a_usable_credential_is_not_called(place: Place) -> None:
    async with peer(always(GOOD)) as up:
        it = Opening(place, provider(up.url, secrets=()))
        await it.failed()
    assert (up.seen, it.journal.attempts) == ([], 0)


async def test_a_provider_that_needs_no_credential_is_called_without_one(place: Place) -> None:
    async with peer(always(GOOD)) as up:
        it = Opening(place, provider(up.url, "free", secrets=()), targets=(Target("free", "m"),))
        await it.taken()
    assert "authorization" not in up.seen[0].headers


async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_a_request_that_may_still_be_running_is_not_sent_again(place: Place) -> None:
    async with peer(silent) as up:
        it = Opening(place, provider(up.url, more="first_byte_timeout_s = 0.05", secrets=TWO))
        await it.failed(UpstreamTimeout)
    assert len(up.seen) == 1
    assert it.journal.maybe_billed


async def test_the_wall_time_of_all_attempts_is_bounded(place: Place) -> None:
    async with peer(silent) as up:
        it = Opening(place, provider(up.url, more="total_timeout_s = 0.1"))
        began = asyncio.get_running_loop().time()
        await it.failed(UpstreamTimeout)
        assert asyncio.get_running_loop().time() - began < 2


# What is learnt of credentials.


async def test_a_limited_credential_is_left_out_and_in_the_end_nobody_is_called(place: Place) -> None:
    limited = http(b'{"error": {"message": "slow down"}}', 429, more=("retry-after: 30",))
    async with peer(by_key({TWO[0]: limited, TWO[1]: GOOD})) as up:
        text = provider(up.url, secrets=TWO)
        await Opening(place, text).taken()
        second = Opening(place, text)
        await second.taken()
        assert [seen.key for seen in up.seen] == [TWO[0], TWO[1], TWO[1]]
        assert (second.journal.credential, second.journal.attempts) == ("up#2", 1)
        alone = Opening(place, provider(up.url, secrets=TWO[:1]))
        error = await alone.failed(RateLimited)
    assert len(up.seen) == 3
    assert error.headers == (("retry-after", "30"),)
    assert "up (up#1): held off, 30 s more" in error.message
    assert (alone.journal.attempts, len(alone.journal.passed)) == (0, 1)


async def test_a_failure_beside_anothers_rate_limit_says_what_the_client_has_to_wait_for(
    place: Place,
) -> None:
    go = asyncio.Event()

    async def first_slowly(_: Seen, writer: asyncio.StreamWriter) -> None:
        if len(up.seen) == 1:
            await go.wait()
            writer.write(http(status=500))
        else:
            writer.write(http(status=429, more=("retry-after: 30",)))

    async with peer(first_slowly) as up:
        text = provider(up.url)
        slow, limited = Opening(place, text), Opening(place, text)
        opening = asyncio.create_task(slow.failed(RateLimited))
        while not up.seen:
            await asyncio.sleep(0)
        await limited.failed(RateLimited)
        go.set()
        error = await opening
    assert "(up#1): status 500, and its credential held off by then, " in error.message
    assert slow.journal.tried[-1].reason == "status 500, and its credential held off by then"
    assert limited.journal.tried[-1].reason == "status 429"


async def test_nobody_is_sent_away_for_long_while_another_credential_could_be_asked(place: Place) -> None:
    limited = http(status=429, more=("retry-after: 60",))
    async with peer(by_key({TWO[0]: limited, TWO[1]: limited})) as up:
        text = provider(up.url, more="max_attempts = 1", secrets=TWO)
        waits = [(await Opening(place, text).failed(RateLimited)).headers for _ in range(3)]
    assert waits == [(("retry-after", "1"),), (("retry-after", "60"),), (("retry-after", "60"),)]
    assert len(up.seen) == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 401),
        (b'{"error": {"code": 400, "details": [{"reason": "API_KEY_INVALID"}]}}', 400),
        (b'{"code": "x", "error": "Incorrect API key provided: xa***"}', 400),
    ],
)
async def test_a_refused_key_is_not_asked_again(place: Place, body: bytes, status: int) -> None:
    async with peer(by_key({TWO[0]: http(body, status), TWO[1]: GOOD})) as up:
        for _ in range(3):
            await Opening(place, provider(up.url, secrets=TWO)).taken()
    assert [seen.key for seen in up.seen] == [TWO[0], TWO[1], TWO[1], TWO[1]]


@pytest.mark.parametrize(
    "answer",
    [
        http(status=500),
        http(status=403),
        http(status=408),
        http(status=529),
        FIRST_EVENTS["html"],
        b"nonsense",
    ],
)
async def test_a_single_credential_is_never_locked_out_by_a_bad_answer(place: Place, answer: bytes) -> None:
    async with peer(always(answer)) as up:
        for _ in range(3):
            with pytest.raises(GatewayError):
                await Opening(place, provider(up.url)).open()
    assert len(up.seen) == 3


async def test_nor_by_being_slow_or_away(place: Place) -> None:
    async with peer(silent) as up:
        for _ in range(3):
            await Opening(place, provider(up.url, more="first_byte_timeout_s = 0.05")).failed(UpstreamTimeout)
    assert len(up.seen) == 3
    for _ in range(3):
        it = Opening(place, provider(up.url))
        await it.failed()
        assert it.journal.attempts == 1


async def test_what_failed_comes_after_what_did_not(place: Place) -> None:
    async with peer(by_key({TWO[0]: http(status=500), TWO[1]: GOOD})) as up:
        for _ in range(2):
            await Opening(place, provider(up.url, secrets=TWO)).taken()
    assert [seen.key for seen in up.seen] == [TWO[0], TWO[1], TWO[1]]


async def test_a_clients_own_mistake_says_nothing_of_the_credential(place: Place) -> None:
    async with peer(always(http(b'{"error": {"message": "no"}}', 422))) as up:
        it = Opening(place, provider(up.url))
        await it.taken()
    assert place.health.condition((Target("up", "m"), it.credential()), time.time()).state is State.READY


@pytest.mark.parametrize(
    "written", ["Your credit balance is too low", "Your credit balance is too l\\u006fw"]
)
async def test_an_upstream_that_repeats_its_client_takes_no_credential_out(
    place: Place, written: str
) -> None:
    repeated = http(b'{"error": {"message": "Your credit balance is too low is no role"}}', 400)
    async with peer(always(repeated)) as up:
        body = f'{{"model": "m", "messages": [{{"role": "{written}"}}]}}'.encode()
        it = Opening(place, provider(up.url), body)
        assert (await it.taken()).refused == 400
    assert place.health.condition((Target("up", "m"), it.credential()), time.time()).state is State.READY


async def test_after_an_overload_another_provider_comes_before_another_credential(place: Place) -> None:
    async with peer(always(http(status=529))) as up, peer(always(GOOD)) as spare:
        text = provider(up.url, secrets=TWO) + provider(spare.url, "spare")
        await Opening(place, text, targets=(Target("up", "m"), Target("spare", "m"))).taken()
    assert (len(up.seen), len(spare.seen)) == (1, 1)


async def test_an_error_in_the_first_event_is_judged_as_one_in_the_head(place: Place) -> None:
    limited = data({"error": {"message": "x", "type": "rate_limit_exceeded", "code": "rate_limit_exceeded"}})
    async with peer(by_key({TWO[0]: sse(limited), TWO[1]: sse()})) as up:
        for _ in range(2):
            await Opening(place, provider(up.url, secrets=TWO), STREAMED).taken()
    assert [seen.key for seen in up.seen] == [TWO[0], TWO[1], TWO[1]]


async def test_a_slow_error_is_not_waited_for(place: Place) -> None:
    async def stuck(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.key == TWO[1]:
            writer.write(GOOD)
            return
        writer.write(b"HTTP/1.1 429 Said\r\ncontent-length: 9\r\nretry-after: 9\r\n\r\n{")
        await asyncio.Event().wait()

    began = asyncio.get_running_loop().time()
    async with peer(stuck) as up:
        await Opening(place, provider(up.url, secrets=TWO)).taken()
    assert asyncio.get_running_loop().time() - began < 5


async def test_running_out_of_time_is_not_held_against_the_last_that_was_asked(place: Place) -> None:
    async with peer(silent) as up:
        it = Opening(place, provider(up.url, more="total_timeout_s = 0.1"))
        await it.failed(UpstreamTimeout)
    assert place.health.condition((Target("up", "m"), it.credential()), time.time()).state is State.READY


async def test_one_conversation_stays_at_one_credential_until_that_fails(place: Place) -> None:
    broken: set[str] = set()

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(http(status=500) if seen.key in broken else GOOD)

    async with peer(script) as up:
        text = provider(up.url, secrets=TWO).replace("}]", ", weight = 1 }]")
        for n in range(12):
            await Opening(place, text, headers=[(b"session_id", b"one")]).taken()
            await Opening(place, text, headers=[(b"session_id", str(n).encode())]).taken()
        (mine,) = {seen.key for seen in up.seen[::2]}
        assert {seen.key for seen in up.seen} == set(TWO)
        broken.add(mine)
        for _ in range(3):
            await Opening(place, text, headers=[(b"session_id", b"one")]).taken()
    (other,) = set(TWO) - {mine}
    assert [seen.key for seen in up.seen[24:]] == [mine, other, other, other]


TWO_TARGETS = (Target("p0", "m"), Target("p1", "m"))


async def test_targets_that_cannot_be_asked_now_come_last_at_the_door(place: Place) -> None:
    async with peer(always(http(status=429, more=("retry-after: 30",)))) as up, peer(always(GOOD)) as spare:
        text = provider(up.url) + provider(spare.url, "spare")
        targets = (Target("up", "m"), Target("spare", "m"))
        it = Opening(place, text, targets=targets)
        assert it.opener.as_it_is(it.course)
        assert (await it.opener.speakers(it.journal, it.journal.route)).targets == targets
        await it.taken()
        assert not it.opener.as_it_is(it.course)
        assert (await it.opener.speakers(it.journal, it.journal.route)).targets == targets[::-1]


SPEAKING = {
    "native": provider("http://x", "{name}"),
    "other": provider("http://x", "{name}", protocols=("anthropic_messages",)),
    "none": provider("http://x", "{name}", protocols=("openai_embeddings",)),
    "bare": provider("http://x", "{name}", secrets=()),
}


@pytest.mark.parametrize("strategy", ["failover", "weighted"])
@pytest.mark.parametrize("kinds", list(itertools.product(SPEAKING, repeat=2)), ids="-".join)
async def test_where_targets_are_tried_as_they_stand_there_is_nothing_to_choose(
    place: Place, kinds: tuple[str, ...], strategy: str
) -> None:
    text = "".join(SPEAKING[kind].replace("{name}", f"p{n}") for n, kind in enumerate(kinds))
    for targets in (TWO_TARGETS, TWO_TARGETS[:1], TWO_TARGETS[::-1]):
        it = Opening(place, text, SAYING, targets=targets, strategy=strategy)
        if it.opener.as_it_is(it.course):
            assert await it.opener.speakers(it.journal, it.journal.route) == it.journal.route
        else:
            assert {*kinds} - {"native"} or strategy == "weighted"


async def test_a_client_that_has_left_gives_its_probe_back(place: Place) -> None:
    limited = http(status=429, more=("retry-after: 1",))
    async with peer(always(limited)) as up:
        it = Opening(place, provider(up.url))
        await it.failed(RateLimited)
        await asyncio.sleep(1.05)
        it.journal.left = "the client left"
        with pytest.raises(ClientLeft):
            await it.open()
        turn = await place.health.turn([(Target("up", "m"), it.credential())])
    assert turn is not None
    assert turn.claim is not None
    assert len(up.seen) == 1


# What is sent.


async def sent(place: Place, headers: Headers, more: str = "", **opening: Any) -> dict[str, str]:
    async with peer(always(GOOD)) as up:
        await Opening(place, provider(up.url, more=more), headers=headers, **opening).taken()
    return up.seen[0].headers


async def test_the_keys_of_the_client_stay_here(place: Place) -> None:
    mine = [
        (b"authorization", b"Bearer sk-client"),
        (b"x-api-key", b"sk-client"),
        (b"x-goog-api-key", b"sk-client"),
        (b"cookie", b"sk-client"),
        (b"openai-organization", b"sk-client"),
    ]
    headers = await sent(place, mine)
    assert "sk-client" not in str(headers)
    assert headers["authorization"] == "Bearer sk-upstream-secret-1"


async def test_a_header_that_the_provider_sets_replaces_the_clients_and_the_defaults(
    place: Place,
) -> None:
    more = 'headers = { "User-Agent" = "mine", "X-Extra" = "1", "Authorization" = "Other 1" }'
    headers = await sent(place, [(b"user-agent", b"theirs"), (b"anthropic-beta", b"b1")], more)
    assert (headers["user-agent"], headers["x-extra"], headers["authorization"]) == ("mine", "1", "Other 1")
    assert headers["anthropic-beta"] == "b1"


async def test_a_default_header_gives_way_to_the_clients(place: Place) -> None:
    body = b'{"model": "m", "messages": [], "max_tokens": 1}'
    kind: dict[str, Any] = {"body": body, "protocol": anthropic_messages.MESSAGES}
    assert (await sent(place, [], **kind))["anthropic-version"] == "2023-06-01"
    assert (await sent(place, [(b"anthropic-version", b"2099-01-01")], **kind))[
        "anthropic-version"
    ] == "2099-01-01"


async def test_the_way_that_a_request_took_is_written_down(place: Place) -> None:
    name = LOOP_HEADER.decode()
    assert (await sent(place, []))[name] == "own-id"
    assert (await sent(place, [(LOOP_HEADER, b"first, second")]))[name] == "first, second, own-id"


async def test_a_body_is_json_whatever_the_client_called_it(place: Place) -> None:
    headers = await sent(place, [(b"content-type", b"application/vnd.api+json")])
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"


async def test_the_proxy_of_a_provider_comes_before_the_global_one(place: Place) -> None:
    async with peer(always(GOOD)) as near, peer(always(GOOD)) as far:
        text = f'[global]\nproxy = "{far.url}"\n' + provider(
            "http://up.invalid", more=f'proxy = "{near.url}"'
        )
        await Opening(place, text + provider("http://up.invalid", "spare")).taken()
        assert (len(near.seen), len(far.seen)) == (1, 0)
        both = text + provider("http://up.invalid", "spare")
        await Opening(place, both, targets=(Target("spare", "m"),)).taken()
        assert (len(near.seen), len(far.seen)) == (1, 1)


# Dialects.


def speaking(protocol: str) -> str:
    settings = f'{{ base_url = "http://x", protocols = ["{protocol}"] }}'
    return f'[[providers]]\nname = "up"\nchannel = "custom"\nsettings = {settings}\n'


async def test_a_target_that_can_be_asked_in_no_dialect_is_passed_over(place: Place) -> None:
    text = speaking("openai_embeddings") + provider("http://y", "spare")
    it = Opening(place, text, targets=(Target("up", "m"), Target("spare", "m")))
    assert (await it.opener.speakers(it.journal, it.journal.route)).targets == (Target("spare", "m"),)


async def test_no_target_that_can_be_asked_is_400_and_names_both_dialects(place: Place) -> None:
    it = Opening(place, speaking("openai_embeddings"))
    with pytest.raises(BadRequest) as refused:
        await it.opener.speakers(it.journal, it.journal.route)
    assert "openai_chat" in refused.value.message
    assert "openai_embeddings" in refused.value.message


async def test_a_target_of_another_dialect_is_asked_in_that(place: Place) -> None:
    async with peer(always(http(json.dumps(MESSAGE).encode()))) as up:
        it = Opening(place, provider(up.url, protocols=("anthropic_messages",)), SAYING, headers=SDK_HEADERS)
        assert (await it.opener.speakers(it.journal, it.journal.route)).targets == it.journal.route.targets
        opened = await it.taken()
    (seen,) = up.seen
    assert seen.target == "/v1/messages"
    assert seen.json()["messages"] == [{"role": "user", "content": "Hello"}]
    assert seen.json()["max_tokens"] == 8192
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert seen.headers["x-api-key"]
    assert not {"x-stainless-lang", "openai-beta", "authorization"} & seen.headers.keys()
    assert seen.headers["user-agent"] == "a client"
    assert opened.crossed is not None
    assert json.loads(opened.crossed.body)["choices"][0]["message"]["content"] == "hi"


async def test_what_cannot_be_said_to_the_first_target_is_said_to_the_next(place: Place) -> None:
    text = provider("http://y", protocols=("anthropic_messages",)) + provider("http://z", "spare")
    two_answers = b'{"model": "m", "messages": [{"role": "user", "content": "Hello"}], "n": 2}'
    targets = (Target("up", "m"), Target("spare", "m"))
    it = Opening(place, text, two_answers, targets=targets)
    assert (await it.opener.speakers(it.journal, it.journal.route)).targets == targets[1:]
    alone = Opening(place, text, two_answers)
    with pytest.raises(BadRequest, match="n"):
        await alone.opener.speakers(alone.journal, alone.journal.route)


@pytest.mark.parametrize("last", [GOOD, http(b"", 500)], ids=["good", "failed"])
async def test_a_later_target_that_cannot_be_told_is_no_attempt(place: Place, last: bytes) -> None:
    two_answers = b'{"model": "m", "messages": [{"role": "user", "content": "Hello"}], "n": 2}'
    async with peer(always(http(b"", 500))) as up, peer(always(last)) as spare, peer(always(GOOD)) as other:
        text = provider(up.url) + provider(other.url, "other", protocols=("anthropic_messages",))
        text += provider(spare.url, "spare")
        targets = tuple(Target(name, "m") for name in ("up", "other", "spare"))
        it = Opening(place, text, two_answers, targets=targets)
        if last == GOOD:
            assert (await it.taken()).body
        else:
            await it.failed(UpstreamFailed)
    assert (len(up.seen), len(other.seen), len(spare.seen)) == (1, 0, 1)
    assert it.journal.attempts == 2


async def test_an_alias_may_mix_targets_that_are_translated_and_such_that_are_not(place: Place) -> None:
    message = http(json.dumps(MESSAGE).encode())
    async with peer(always(http(b"", 500))) as up, peer(always(message)) as other:
        text = provider(up.url) + provider(other.url, "other", protocols=("anthropic_messages",))
        targets = (Target("up", "m"), Target("other", "m"))
        it = Opening(place, text, SAYING, targets=targets)
        opened = await it.taken()
    assert up.seen[0].body == SAYING
    assert other.seen[0].target == "/v1/messages"
    assert opened.crossing is not None


async def test_a_growing_array_is_a_stream_too(place: Place) -> None:
    body = b'[{"candidates": [], "modelVersion": "m"}\n,\n{"candidates": [], "modelVersion": "m"}]'
    async with peer(always(http(body))) as up:
        it = Opening(place, provider(up.url), b'{"contents": []}', gemini.STREAM)
        opened = await it.taken()
    assert opened.tap is not None


async def test_what_is_no_json_is_passed_on_unread_where_that_may_be(place: Place) -> None:
    body = b'{"model": "m", "input": "hi", "voice": "v"}'
    async with peer(always(http(b"\x00\x01", media="audio/mpeg"))) as up:
        opened = await Opening(place, provider(up.url), body, passthrough.SPEECH).open()
        assert (opened.body, opened.tap) == (None, None)
        assert await opened.answer.whole() == b"\x00\x01"
    async with peer(always(http(b"<html>", media="text/html"))) as up:
        await Opening(place, provider(up.url), body, passthrough.SPEECH).failed()
