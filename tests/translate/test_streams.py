"""Streams of every dialect, out of any answer: well-formed, the same at any split, and the same answer as a whole."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import UpstreamFailed
from gproxy.protocols.sse import SseFramer
from gproxy.translate.assembly import answer_of, deltas_of
from gproxy.translate.base import ClientFacts, Dialect
from gproxy.translate.exchange import StreamTranslation
from gproxy.translate.model import Answer, Delta
from gproxy.translate.registry import DIALECTS
from tests.translate.conversations import answers
from tests.translate.grammar import CHECKS, check_deltas

CLIENT = ClientFacts(model="my-alias", answer_id="0a1", created=1764000000)
NAMES = sorted(DIALECTS)


def streamed(dialect: Dialect, answer: Answer) -> bytes:
    writer = dialect.writer(CLIENT)
    return b"".join(map(writer.feed, deltas_of(answer))) + writer.end()


def read(dialect: Dialect, pieces: list[bytes]) -> list[Delta]:
    reader, framer = dialect.reader(), SseFramer()
    deltas = [d for piece in pieces for event in framer.feed(piece) for d in reader.feed(event)]
    return deltas + [d for event in framer.end() for d in reader.feed(event)] + reader.end()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_is_well_formed_and_says_the_same_at_any_split(name: str) -> None:
    dialect = DIALECTS[name]

    @settings(deadline=None)
    @given(answers(name), st.lists(st.integers(0, 3000), max_size=8))
    def holds(answer: Answer, places: list[int]) -> None:
        stream = streamed(dialect, answer)
        CHECKS[name](stream)
        deltas = read(dialect, cut(stream, places))
        check_deltas(deltas)
        assert answer_of(deltas) == answer

    holds()


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_answer_says_what_its_stream_says(name: str) -> None:
    dialect = DIALECTS[name]

    @settings(deadline=None)
    @given(answers(name))
    def holds(answer: Answer) -> None:
        assert dialect.read_answer(dialect.write_answer(answer, CLIENT)) == answer

    holds()


@pytest.mark.parametrize("target", NAMES)
def test_a_stream_of_one_dialect_is_well_formed_in_another(target: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(answers(target), st.lists(st.integers(0, 3000), max_size=8))
    def holds(answer: Answer, places: list[int]) -> None:
        given_stream = streamed(DIALECTS[target], answer)
        for client in NAMES:
            stream = translated(target, client, [given_stream])
            assert translated(target, client, cut(given_stream, places)) == stream, client
            CHECKS[client](stream)
            again = answer_of(read(DIALECTS[client], [stream]))
            assert said(again) == said(answer), client
            assert again.usage is not None
            assert answer.usage is not None
            assert again.usage.total_tokens == answer.usage.total_tokens, client
            assert again.finish == answer.finish, client

    holds()


def translated(target: str, client: str, pieces: list[bytes]) -> bytes:
    """A stream, as it is read in pieces, for the client."""
    translation, framer = StreamTranslation(DIALECTS[target], DIALECTS[client], CLIENT), SseFramer()
    out = b"".join(translation.feed(event) for piece in pieces for event in framer.feed(piece))
    out += b"".join(map(translation.feed, framer.end())) + translation.end()
    assert translation.finished
    return out + translation.tail()


def said(answer: Answer) -> tuple[str, list[str]]:
    """The text, refusals in it, and the calls."""
    text = "".join(part.text for part in answer.parts if hasattr(part, "text"))
    return text, [repr((p.id, p.name, p.arguments)) for p in answer.parts if hasattr(p, "arguments")]


@pytest.mark.parametrize("target", NAMES)
def test_a_stream_that_stops_short_is_not_finished_and_ends_in_the_clients_error(target: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(answers(target), st.integers(0, 3000))
    def holds(answer: Answer, at: int) -> None:
        stream = streamed(DIALECTS[target], answer)
        events = SseFramer().feed(stream[: min(at, len(stream) - 200)] if len(stream) > 200 else b"")
        for client in NAMES:
            translation = StreamTranslation(DIALECTS[target], DIALECTS[client], CLIENT)
            for event in events:
                translation.feed(event)
            translation.end()
            if not translation.finished:
                ending = translation.abort(UpstreamFailed("The upstream failed."), "req")
                assert b"The upstream failed." in ending, client
                assert ending.endswith(b"\n\n"), client
                assert b"message_stop" not in ending, client
                assert b"[DONE]" not in ending, client

    holds()
