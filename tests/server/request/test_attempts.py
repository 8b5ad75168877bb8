"""What is asked once more where a refusal says what to leave out, of peers on real sockets."""

import asyncio
from contextlib import suppress

import pytest

from gproxy.errors import (
    GatewayError,
)
from gproxy.protocols import anthropic_messages
from gproxy.server.request import attempts
from gproxy.values import Target
from tests.server.opening import BODY, STREAMED, Opening, Place
from tests.server.parts import (
    GOOD,
    Script,
    Seen,
    always,
    http,
    peer,
    provider,
    sse,
)

REFUSED = http(b'{"error": {"message": "unknown field stream_options"}}', 400)


async def picky(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Refuses `stream_options`."""
    writer.write(REFUSED if b"stream_options" in seen.body else sse())


async def strict(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """The same as FastAPI's servers say it."""
    forbidden = b'{"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]}'
    writer.write(http(forbidden, 422) if b"stream_options" in seen.body else sse())


@pytest.mark.parametrize("refuse", [picky, strict])
async def test_usage_is_asked_for_and_not_again_once_it_was_refused(place: Place, refuse: Script) -> None:
    async with peer(refuse) as up:
        it = Opening(place, provider(up.url), STREAMED)
        assert (await it.taken()).tap
        assert (it.journal.attempts, it.journal.tried) == (2, [])
        assert (await it.taken()).tap
    assert [b"stream_options" in seen.body for seen in up.seen] == [True, False, False]
    assert up.seen[1].body == STREAMED
    assert set(it.opener.attempts.no_usage) == {Target("up", "m")}


async def test_usage_is_asked_for_again_after_a_while(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_SPARED_SECONDS", 0.0)
    async with peer(picky) as up:
        it = Opening(place, provider(up.url), STREAMED)
        for _ in range(2):
            await it.taken()
    assert [b"stream_options" in seen.body for seen in up.seen] == [True, False, True, False]


async def test_who_was_refused_later_for_what_was_asked_before_is_answered_too(place: Place) -> None:
    """A target is spared by the first of them: the others had been sent by then."""
    spared = asyncio.Event()

    async def slow_for_one(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if b"slow" in seen.body:
            await spared.wait()
        await picky(seen, writer)

    async with peer(slow_for_one) as up:
        first = Opening(place, provider(up.url), STREAMED)
        later = Opening(place, provider(up.url), STREAMED.replace(b"true}", b'true, "user": "slow"}'))
        later.opener = first.opener
        opening = asyncio.create_task(later.taken())
        while not up.seen:
            await asyncio.sleep(0)
        assert (await first.taken()).tap
        spared.set()
        assert (await opening).tap
    assert later.journal.attempts == 2


async def test_other_models_of_a_provider_that_refused_once_are_asked_for_usage(place: Place) -> None:
    async with peer(picky) as up:
        it = Opening(place, provider(up.url), STREAMED)
        await it.taken()
        other = Opening(place, provider(up.url), STREAMED, targets=(Target("up", "other"),))
        other.opener.attempts.no_usage.update(it.opener.attempts.no_usage)
        await other.taken()
    assert [b"stream_options" in seen.body for seen in up.seen] == [True, False, True, False]


@pytest.mark.parametrize("second", [http(b"{}", 429), http(b"{}", 503), http(b"{}", 404), sse()])
@pytest.mark.parametrize(
    "more",
    [b', "stream_options": {"x": 1}', b', "user": "stream_options"', b', "user": "stream\\u005foptions"'],
)
async def test_what_names_stream_options_itself_spares_nobody(
    place: Place, second: bytes, more: bytes
) -> None:
    """Its own bad field may have been refused, and its own words be what the error repeats."""
    said = [REFUSED, second]

    async def in_turn(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(said.pop(0))

    async with peer(in_turn) as up:
        it = Opening(place, provider(up.url), STREAMED.replace(b"true}", b"true%b}" % more))
        with suppress(GatewayError):
            await it.taken()
    assert len(up.seen) == 2
    assert it.opener.attempts.no_usage == {}


@pytest.mark.parametrize("status", [401, 404, 429, 503])
async def test_only_an_answer_says_that_it_was_our_asking(place: Place, status: int) -> None:
    said = [REFUSED, http(b"{}", status)]

    async def in_turn(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(said.pop(0))

    async with peer(in_turn) as up:
        it = Opening(place, provider(up.url), STREAMED)
        with suppress(GatewayError):
            await it.taken()
    assert len(up.seen) == 2
    assert it.opener.attempts.no_usage == {}


async def test_a_client_cannot_make_a_provider_seem_to_refuse_usage(place: Place) -> None:
    """Its own bad field can be named so that the upstream's error names ours."""
    async with peer(always(REFUSED)) as up:
        it = Opening(place, provider(up.url), STREAMED)
        assert (await it.taken()).refused == 400
    assert len(up.seen) == 2
    assert it.opener.attempts.no_usage == {}


async def test_what_the_client_asked_itself_is_not_taken_back(place: Place) -> None:
    body = STREAMED.replace(b"true}", b'true, "stream_options": {"include_usage": true}}')
    async with peer(picky) as up:
        it = Opening(place, provider(up.url), body)
        assert (await it.taken()).refused == 400
    assert len(up.seen) == 1


async def test_another_refusal_is_not_repeated(place: Place) -> None:
    async with peer(always(http(b'{"error": {"message": "no"}}', 400))) as up:
        it = Opening(place, provider(up.url), STREAMED)
        assert (await it.taken()).refused == 400
    assert len(up.seen) == 1
    assert it.opener.attempts.no_usage == {}


async def test_usage_is_not_asked_for_where_the_provider_says_so(place: Place) -> None:
    async with peer(always(sse())) as up:
        await Opening(place, provider(up.url, more="include_usage = false"), STREAMED).taken()
    assert up.seen[0].body == STREAMED


async def test_usage_is_not_asked_for_without_a_stream(place: Place) -> None:
    async with peer(always(GOOD)) as up:
        await Opening(place, provider(up.url)).taken()
    assert up.seen[0].body == BODY


async def test_a_translated_stream_is_asked_without_usage_where_that_is_refused(place: Place) -> None:
    async def once(seen: Seen, writer: asyncio.StreamWriter) -> None:
        refused = http(b'{"error": {"message": "unknown: stream_options"}}', 400)
        writer.write(refused if b"stream_options" in seen.body else sse())
        await writer.drain()

    body = (
        b'{"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}], "stream": true}'
    )
    async with peer(once) as up:
        it = Opening(place, provider(up.url, protocols=("openai_chat",)), body, anthropic_messages.MESSAGES)
        assert (await it.taken()).tap is not None
        assert set(it.opener.attempts.no_usage) == {Target("up", "m")}
    assert [b"stream_options" in seen.body for seen in up.seen] == [True, False]
