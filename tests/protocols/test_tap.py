"""When bytes go out, beyond what the walk over all recorded streams shows."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import UpstreamFailed
from gproxy.protocols.anthropic_messages import MESSAGES
from gproxy.protocols.base import Event
from gproxy.protocols.forms import forms
from gproxy.protocols.gemini import STREAM
from gproxy.protocols.json_array import JsonArrayFramer
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.sse import SseFramer
from gproxy.protocols.tap import StreamTap

CHUNK = b'data: {"model":"up","choices":[{"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"


def _tap(client_model: str | None = None, *, withhold_usage: bool = False) -> StreamTap:
    return StreamTap(CHAT, SseFramer(), client_model=client_model, withhold_usage=withhold_usage)


def test_bytes_that_need_no_change_go_out_before_their_event_is_whole() -> None:
    tap = _tap()
    assert tap.feed(CHUNK[:10]) == CHUNK[:10]
    assert not tap.first_seen
    assert tap.feed(CHUNK[10:]) == CHUNK[10:]
    assert tap.first_seen


def test_an_event_to_be_changed_goes_out_when_it_is_whole() -> None:
    tap = _tap("alias")
    assert tap.feed(CHUNK[:-1]) == b""
    assert tap.feed(CHUNK[-1:]) == CHUNK.replace(b'"up"', b'"alias"')


@pytest.mark.parametrize("client_model", [None, "up"])
def test_the_terminal_event_and_what_follows_it_wait_in_the_tail(client_model: str | None) -> None:
    tap = _tap(client_model)
    assert tap.feed(CHUNK + DONE + b": bye\n\n") == CHUNK
    assert (tap.terminal, tap.complete) == (True, True)
    assert tap.feed(b": more\n\n") == b""
    assert tap.end() == b""
    assert tap.tail == DONE + b": bye\n\n: more\n\n"


def test_the_rest_of_a_terminal_event_waits_when_its_start_has_gone_out() -> None:
    tap = _tap()
    assert tap.feed(CHUNK + DONE[:5]) == CHUNK + DONE[:5]
    assert tap.feed(DONE[5:]) == b""
    assert tap.tail == DONE[5:]


def test_half_an_event_at_the_end_is_dropped_where_it_would_show_the_upstreams_name() -> None:
    tap = _tap("alias")
    assert tap.feed(CHUNK + b'data: {"model":"up","cho') + tap.end() == CHUNK.replace(b"up", b"alias")
    assert not tap.complete


def test_a_whole_event_without_its_empty_line_is_sent_at_the_end() -> None:
    tap = _tap("alias")
    assert tap.feed(CHUNK[:-2]) == b""
    assert tap.end() == CHUNK[:-2].replace(b"up", b"alias")


def test_the_end_of_the_input_alone_shows_nothing_to_be_complete() -> None:
    tap = _tap()
    tap.feed(CHUNK)
    tap.end()
    assert (tap.complete, tap.terminal) == (False, False)


def test_only_an_event_of_usage_alone_is_withheld() -> None:
    beside = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n'
    filters = b'data: {"choices":[],"prompt_filter_results":[]}\n\n'
    alone = b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n'
    tap = _tap(withhold_usage=True)
    assert tap.feed(filters + beside + alone) == filters + beside
    assert tap.usage is not None
    assert tap.usage.input_tokens == 3


@pytest.mark.parametrize("client_model", [None, "alias"])
def test_a_broken_sse_stream_ends_with_the_dialects_error(client_model: str | None) -> None:
    tap = StreamTap(MESSAGES, SseFramer(), client_model=client_model, withhold_usage=False)
    sent = tap.feed(b"event: ping\ndata: {}\n\ndata: {") + tap.abort(UpstreamFailed("gone"), "req_1")
    events = SseFramer().feed(sent)
    assert events[-1].name == b"error"
    assert json.loads(events[-1].data or b"")["request_id"] == "req_1"


@pytest.mark.parametrize("client_model", [None, "alias"])
def test_a_last_event_without_its_empty_line_stays_one_beside_the_error(client_model: str | None) -> None:
    tap = _tap(client_model)
    sent = tap.feed(CHUNK[:-2]) + tap.end() + tap.abort(UpstreamFailed("gone"), "req_1")
    chunk, error = (json.loads(event.data or b"") for event in SseFramer().feed(sent))
    assert chunk["choices"]
    assert "error" in error


SSE_ERROR = b'data: {"error":{"message":"secret","code":500}}\n\n'
ARRAY = b'[{"modelVersion":"up"}\n,\r\n{"error":{"message":"secret","code":500}}\n]'


@given(st.integers(0, len(CHUNK + SSE_ERROR)), st.integers(0, len(CHUNK)), st.booleans())
def test_whatever_part_of_a_stream_went_out_the_error_is_an_event_of_its_own(
    cut: int, end: int, rewritten: bool
) -> None:
    stream = CHUNK + SSE_ERROR if end == len(CHUNK) else CHUNK[:end]
    tap = _tap("alias" if rewritten else None)
    sent = tap.feed(stream[:cut]) + tap.feed(stream[cut:])
    sent += tap.end() + tap.abort(UpstreamFailed("gone"), "req_1")
    *_, error = SseFramer().feed(sent)
    assert json.loads(error.data or b"")["error"]["message"] == "gone"
    assert b"secret" not in sent or (cut > len(CHUNK) and not rewritten)


@given(st.integers(0, len(ARRAY)), st.integers(0, len(ARRAY)), st.booleans())
def test_whatever_part_of_an_array_went_out_the_error_is_its_last_element_or_nothing(
    cut: int, end: int, rewritten: bool
) -> None:
    tap = StreamTap(
        STREAM, JsonArrayFramer(), client_model="alias" if rewritten else None, withhold_usage=False
    )
    sent = tap.feed(ARRAY[:end][:cut]) + tap.feed(ARRAY[:end][cut:]) + tap.end()
    ending = tap.abort(UpstreamFailed("gone"), "req_1")
    if ending:
        assert json.loads(sent + ending)[-1]["error"]["message"] == "gone"
    else:
        assert not rewritten


def test_a_broken_array_stream_ends_as_an_array() -> None:
    tap = StreamTap(STREAM, JsonArrayFramer(), client_model="alias", withhold_usage=False)
    sent = tap.feed(b'[{"modelVersion":"up"},\n{"modelV') + tap.end()
    array = json.loads(sent + tap.abort(UpstreamFailed("gone"), "req_1"))
    assert array[0] == {"modelVersion": "alias"}
    assert array[1]["error"]["code"] == 502


def _fed(tap: StreamTap, data: bytes) -> list[bytes]:
    sent = [tap.feed(data)]
    while tap.behind:
        sent.append(tap.feed(b""))
    return sent


@pytest.mark.parametrize("what", [b"\n", b"\r\n", b":\n\n", b"data: {}\n\n", b":\r\r"])
@pytest.mark.parametrize("begun", [True, False])
def test_what_is_nothing_but_small_events_is_cut_at_once_and_by_portions(what: bytes, begun: bool) -> None:
    """Step by step a flood of them would hold everybody up for seconds, and all of it for tens of milliseconds."""
    asked: list[int] = []
    forms.cache_clear()

    class Counting(SseFramer):
        def feed(self, data: bytes) -> list[Event]:
            asked.append(data.count(b"\n") + data.count(b"\r"))
            return super().feed(data)

    tap = StreamTap(CHAT, Counting(), client_model="alias", withhold_usage=True)
    sent = [tap.feed(CHUNK)] if begun else []
    flood = _fed(tap, what * 5000)
    sent += [*flood, *_fed(tap, CHUNK), tap.end()]
    assert len(asked) < 40 + 2 * len(flood)
    assert max(asked) <= 1024
    whole = b"".join(sent)
    assert whole.count(what) >= 5000
    assert whole.count(b'"alias"') == 1 + begun


@pytest.mark.parametrize("what", [b"{},", b"[],", b"]", b'"",', b"["])
def test_what_is_nothing_but_small_elements_is_cut_as_well(what: bytes) -> None:
    """All that comes at once of them, without a line end, held everybody up for 0.3 s."""
    asked: list[int] = []

    class Counting(JsonArrayFramer):
        def feed(self, data: bytes) -> list[Event]:
            asked.append(sum(map(data.count, b'"[]{}')))
            return super().feed(data)

    tap = StreamTap(STREAM, Counting(), client_model=None, withhold_usage=False)
    array = b'[{"candidates":[]},' + what * 10_000
    sent = b"".join(_fed(tap, array))
    assert sent + tap.tail == array
    assert max(asked) <= 4096


PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def test_of_a_flood_of_events_that_are_known_some_are_passed_at_once() -> None:
    def tap() -> StreamTap:
        return StreamTap(MESSAGES, SseFramer(), client_model="alias", withhold_usage=False)

    for _ in range(3):
        _fed(tap(), PING)
    sent = _fed(tap(), PING * 5000)
    assert b"".join(sent) == PING * 5000
    assert max(map(len, sent)) <= 150 * len(PING)


def test_what_comes_while_there_is_more_to_look_at_waits_behind_it() -> None:
    tap = _tap("alias")
    flood = b"".join(b": %d\n\n" % number for number in range(3000))
    sent = tap.feed(flood)
    assert tap.behind
    assert flood.startswith(sent)
    sent += b"".join(_fed(tap, CHUNK + DONE))
    assert sent == flood + CHUNK.replace(b'"up"', b'"alias"')
    assert tap.tail == DONE
