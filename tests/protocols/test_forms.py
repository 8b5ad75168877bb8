"""That events passed on many at once are those passed on one by one, whatever they hold and however they are cut."""

import json
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import AnswerBroken
from gproxy.protocols import forms, portions, tap
from gproxy.protocols.anthropic_messages import MESSAGES
from gproxy.protocols.base import Event, Protocol
from gproxy.protocols.forms import Forms
from gproxy.protocols.gemini import STREAM as GEMINI
from gproxy.protocols.json_array import JsonArrayFramer
from gproxy.protocols.openai_chat import CHAT, COMPLETIONS
from gproxy.protocols.openai_responses import RESPONSES
from gproxy.protocols.possessive import MOST_TIMES
from gproxy.protocols.sse import SseFramer
from gproxy.protocols.tap import Framer, StreamTap
from gproxy.protocols.template import Run, Said, Template
from gproxy.values import Usage

FORMS: dict[str, tuple[Protocol, list[bytes]]] = {
    "chat": (
        CHAT,
        [
            b'data: {"id":"c1","model":"up","choices":[{"delta":{"content":"%b"},"finish_reason":null}]}\n\n',
            b'data: {"model":"up","choices":[{"delta":{"content":"%b"}}],"usage":null,"obfuscation":"%b"}\n\n',
            b'data: {"model":"up","choices":[{"delta":{"content":"%b"}}],"usage":null, "obfuscation":"%b"}\n\n',
            b'data: {"id":"c1","created":12,"model":"up","choices":[{"delta":{"content":"%b"}}],"x":"%b"}\n\n',
            b'data: {"id":"c2","created":13,"model":"up","choices":[{"delta":{"content":"%b"}}],"x":"%b"}\n\n',
            b'data: {"id":"c1","created":12,"model":"up","choices":[{"delta":{"content":"%b"}}],"id":"%b"}\n\n',
            b'data: {"choices":[{"delta":{"content":"%b"}}],"model":"up","id":"c1","created":0}\n\n',
            b'data: {"id":"%b","created":-1,"model":"up","choices":[{"delta":{"content":"%b"}}]}\n\n',
            b'event: {"id":"c"}\ndata: {"model":"up","choices":[{"delta":{"content":"%b"}}]}\n\n',
            b'data: {"model":"up","choices":[{"delta":{"content":"%b","id":"a","refusal":"%b"}}]}\n\n',
            b'data: {"choices":[{"delta":{"reasoning":"a","reasoning_content":"%b"}}],"model" : "up"}\r\n\r\n',
            b'data: {"model":"up","choices":[{"delta":{"content":"%b","content":"%b"}}]}\n\n',
            b'data: {"m\\u006fdel":"up","choices":[{"delta":{"content":"%b"}}]}\n\n',
            b'data: {"model":"up","err\\u006fr":{"code":429},"choices":[{"delta":{"content":"%b"}}]}\n\n',
            b'data: {"model":"up","choices":[{"delta":{"content":"%b"},"finish_reason":"stop"}]}\n\n',
            b'data: {"model":"up","choices":[{"delta":{"content":"%b"}}],"usage":{"prompt_tokens":3}}\n\n',
            b'data: {"model":"up","choices":[{"delta":{"tool_calls":[{"function":{"arguments":"%b"}}]}}]}\n\n',
            b'data: {"model":"up","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
            b'data: {"choices":[],"model":"up","usage":{"prompt_tokens":%b,"total_tokens":%b},"text":"%b"}\n\n',
            b'data: {"choices":[],"error":"%b","model":"up","usage":{"prompt_tokens":%b}}\n\n',
            b'data: {"choices":[{"delta":{"content":"%b"}}],"usage":{"prompt_tokens":%b,"completion_tokens":4,'
            b'"total_tokens":%b,"completion_tokens_details":{"reasoning_tokens":%b}},"model":"up"}\n\n',
            b'data:{"model":"up","choices":[{"delta":{"content":"%b"}}]}\n\n',
            b'data: {"model":"up",\ndata: "choices":[{"delta":{"content":"%b"}}]}\n\n',
            b'data: {"model":"up","choices":[{"delta":{"content":"%b"}}],"model":"up"}\n\n',
            b'data: {"model":"other","choices":[{"delta":{"content":"%b"}}],"n":[{"model":"up"}]}\n\n',
            b'data: {"model":"up","error":{"code":429},"choices":[{"delta":{"content":"%b"}}]}\n\n',
            b'data: {"model":"up","choices":[{"delta":{"content":"%b"}}]\n\n',
            b"data: [DONE]\n\n",
        ],
    ),
    "completions": (
        COMPLETIONS,
        [b'data: {"model":"up","choices":[{"text":"%b","index":0}]}\n\n', b"data: [DONE]\n\n"],
    ),
    "messages": (
        MESSAGES,
        [
            b'event: message_start\ndata: {"type":"message_start","message":{"model":"up",'
            b'"usage":{"input_tokens":3}}}\n\n',
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"text":"%b"}}\n\n',
            b'data: {"type":"content_block_delta","delta":{"partial_json":"%b","input":{"text":"%b"}}}\n\n',
            b'data: {"type":"content_block_delta","delta":{"thinking":"%b","text":"%b"}}\n\n',
            b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
            b'"usage":{"output_tokens":9}}\n\n',
            b'event: message_start\ndata: {"type":"message_start","message":{"id":"m1","model":"up","usage":'
            b'{"input_tokens":%b,"cache_read_input_tokens":%b,"output_tokens":%b}}}\n\n',
            b'data: {"type":"message_start","message":{"usage":{"input_tokens":%b,"cache_creation":'
            b'{"ephemeral_1h_input_tokens":%b,"ephemeral_5m_input_tokens":2},"output_tokens":1},"model":"up"}}\n\n',
            b'data: {"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":%b}}\n\n',
            b'data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":%b,'
            b'"server_tool_use":{"web_search_requests":%b}}}\n\n',
            b'data: {"type":"message_delta","usage":{"input_tokens":%b,"iterations":[{"type":"compaction",'
            b'"input_tokens":%b}]}}\n\n',
            b'data: {"type":"content_block_start","content_block":{"type":"tool_use","id":"t1","input":{}}}\n\n',
            b'data: {"type":"content_block_delta","delta":{"input":{"id":"a","input_tokens":%b}}}\n\n',
            b'data: {"type":"content_block_delta","delta":{"type":"signature_delta","signature":"%b"}}\n\n',
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
            b'data: {"ty\\u0070e":"message_stop","delta":{"text":"%b"}}\n\n',
        ],
    ),
    "gemini": (
        GEMINI,
        [
            b'data: {"candidates": [{"content": {"parts": [{"text": "%b"}],"role": "model"}}],"usageMetadata": '
            b'{"promptTokenCount": %b,"totalTokenCount": 12},"modelVersion": "up","responseId": "r1"}\r\n\r\n',
            b'data: {"candidates":[{"content":{"parts":[{"text":"%b"}]}}],"modelVersion":"up","usageMetadata":'
            b'{"toolUsePromptTokenCount":%b,"candidatesTokenCount":%b,"thoughtsTokenCount":%b}}\n\n',
            b'data: {"candidates":[{"content":{"parts":[{"text":"%b","thoughtSignature":"%b"}]}}],"usageMetadata":'
            b'{"candidatesTokenCount":%b,"candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":%b}]}}\n\n',
            b'data: {"candidates":[{"content":{"parts":[{"text":"%b"}]},"finishReason":"STOP"}],"usageMetadata":'
            b'{"promptTokenCount":%b,"candidatesTokenCount":9}}\n\n',
            b'data: {"usageMetadata":{"promptTokenCount":%b}}\n\n',
            b'data: {"error":{"code":503},"usageMetadata":{"promptTokenCount":%b}}\n\n',
        ],
    ),
    "responses": (
        RESPONSES,
        [
            b'data: {"type":"response.created","sequence_number":0,"response":{"model":"up","usage":null}}\n\n',
            b'data: {"type":"response.output_text.delta","sequence_number":1,"delta":"%b","obfuscation":"%b"}\n\n',
            b'data: {"type":"response.output_text.delta","sequence_number":22,"delta":"%b","obfuscation":"%b"}\n\n',
            b'data: {"type":"response.output_text.delta","item_id":"m1","sequence_number":5,"delta":"%b"}\n\n',
            b'data: {"type":"response.output_text.delta","item_id":"m2","sequence_number":6,"delta":"%b"}\n\n',
            b'data: {"delta":"%b","sequence_number":01,"type":"response.output_text.delta"}\n\n',
            b'data: {"type":"response.completed","response":{"model":"up","usage":{"input_tokens":1}}}\n\n',
            b'data: {"type":"respons\\u0065.completed","delta":"%b"}\n\n',
        ],
    ),
}

WITHIN = 32 * 1024

texts = st.one_of(
    st.text(max_size=6).map(
        lambda text: repr(text)[1:-1].replace('"', '\\"').encode("utf-8", "surrogatepass")
    ),
    st.sampled_from(
        [
            b" word",
            b"",
            b"model",
            rb"\"model",
            b'"',
            rb"\"",
            rb"\u00e9",
            rb"\ud83d\ude00",
            rb"\ud83d",
            rb"\udc00",
            b"\xc3",
            b"\xa9",
            "\u00e9\u4e16".encode(),
            b"\\",
            *(rb"\\", rb"a\\", rb"\\\"", rb"\\\\\"a\\"),
            b"a\tb",
            b"a\nb",
            b"\r",
            *(b"message_stop", b"message_start", b"error", b"usage", b"[DONE]"),
            b"1 2",
            b'","model":"up',
            b"\n\ndata: [DONE]\n\n",
            b"gproxy.varying",
            b"]}}",
            rb"gproxy\"\u00e9",
            b"730811025500173",
            b"finish_reason",
            b"stop_reason",
            b"\x7f",
            b"%b",
            *(b"0", b"17", b"007", b"123456789012345", b"9007199254740993"),
        ]
    ),
)
noise = st.sampled_from(
    [b": ping\n\n", b"\n", b"\r\n", b"event: ping\ndata: {}\n\n", b"\xef\xbb\xbf", b"x", b"data: {}\r\r"]
)


@st.composite
def streams(draw: st.DrawFn, shapes: list[bytes]) -> bytes:
    """Runs of events of one form, with what else may stand between them."""
    out: list[bytes] = []
    for shape in draw(st.lists(st.sampled_from(shapes), max_size=5)):
        for _ in range(draw(st.integers(1, 9))):
            parts = shape.split(b"%b")
            text = b"".join(part + draw(texts) for part in parts[:-1]) + parts[-1]
            out.append(text if draw(st.integers(0, 9)) else text.replace(b"\n", b"\r\n"))
        if not draw(st.integers(0, 3)):
            out.append(draw(noise))
    return b"".join(out)


def _passed(
    protocol: Protocol, pieces: list[bytes], client_model: str | None, withhold: bool, framer: Framer
) -> tuple[object, ...]:
    """What went out piece by piece, and all that is known at the end."""
    it = StreamTap(protocol, framer, client_model=client_model, withhold_usage=withhold)
    sent: list[bytes] = []
    try:
        for piece in pieces:
            out = [it.feed(piece)]
            while it.behind:
                out.append(it.feed(b""))
            sent.append(b"".join(out))
        sent.append(it.end())
    except AnswerBroken as broken:
        sent.append(broken.reason.encode())
    known = (
        it.usage,
        it.complete,
        it.terminal,
        it.failed,
        it.failure,
        it.first_seen,
        it.output_bytes,
    )
    if client_model is None and not withhold:
        # Whether empty lines in front of the terminal event go out, or wait with it, is chance.
        return (b"".join(sent) + it.tail).rstrip(b"\r\n"), known
    return sent, it.tail, known


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_stream_cut_anywhere_is_passed_on_as_event_by_event(name: str, data: st.DataObject) -> None:
    protocol, shapes = FORMS[name]
    model = data.draw(st.sampled_from(["up", "alias", 'my "alias"/ä', None]))
    one_by_one = replace(protocol, varying=None)
    withhold = data.draw(st.booleans())
    forms.forms.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tap, "_MOST_WITHIN", data.draw(st.sampled_from([64, 100, 300, 4096])))
        patch.setattr(tap, "_MOST_STEPS", data.draw(st.sampled_from([1, 2, 128])))
        # Else it lies in the cut how much goes out of an event that is an error.
        if withhold or model is not None:
            patch.setattr(SseFramer, "most_marks", data.draw(st.sampled_from([1, 5, 512])))
            patch.setattr(portions, "_LEAST_BYTES", 100)
        first = data.draw(streams(shapes))
        # What the first two teach is used in the others.
        for stream in (first, first, first, data.draw(streams(shapes))):
            places = data.draw(st.lists(st.integers(0, len(stream)), max_size=4))
            pieces = [stream[a:b] for a, b in pairwise([0, *sorted(places), len(stream)])]
            passed, read = (
                _passed(each, pieces, model, withhold, SseFramer()) for each in (protocol, one_by_one)
            )
            assert passed == read


ELEMENTS = [
    b'{"candidates":[{"content":{"parts":[{"text":"%b"}]}}],"usageMetadata":{"promptTokenCount":%b},"modelVersion":"up"}',
    b'{\n  "candidates": [{"content": {"parts": [{"text": "%b"}]}}],\n  "usageMetadata": {\n'
    b'    "promptTokenCount": %b\n  },\n  "modelVersion": "up",\n  "responseId": "r1"\n}',
    b'{"candidates":[{"content":{"parts":[{"text":"%b"}]},"finishReason":"STOP"}],"responseId":"r%b"}',
    b'{"error":{"code":503,"text":"%b"}}',
    *(b'{"candidates":[{"content":{"parts":[{"text":"%b"}]}}]}', b'{"candidates":[]}'),
    *(b'[{"candidates":[{"content":{"parts":[{"text":"%b"}]}}]}]', b'[{"candidates":[]}]'),
    b'"%b"',
    b"{}]",
]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_array_cut_anywhere_is_passed_on_as_element_by_element(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(["up", 'my "alias"/ä', None]))
    forms.forms.cache_clear()
    one_by_one = replace(GEMINI, varying=None)
    between = st.sampled_from([b",", b",\r\n", b"\n,\r\n", b"\n", b"", b",,", b",["])
    for _ in range(4):
        array = data.draw(st.sampled_from([b"[", b",[", b""]))
        for shape in data.draw(st.lists(st.sampled_from(ELEMENTS), max_size=5)):
            first, *others = shape.split(b"%b")
            joint = data.draw(between)
            for _ in range(data.draw(st.integers(1, 6))):
                array += first + b"".join(data.draw(texts) + other for other in others) + joint
        array += data.draw(st.sampled_from([b"]", b"\n]", b""]))
        places = data.draw(st.lists(st.integers(0, len(array)), max_size=6))
        for pieces in (
            [array[a:b] for a, b in pairwise([0, *sorted(places), len(array)])],
            array.splitlines(keepends=True),
            [piece + b"}" for piece in array.split(b"}")],
        ):
            passed, read = (
                _passed(each, pieces, model, False, JsonArrayFramer()) for each in (GEMINI, one_by_one)
            )
            assert passed == read


@pytest.mark.parametrize("before", [b"[", b",[", b"\n", b""])
def test_an_element_is_known_by_its_form_behind_a_comma_alone(before: bytes) -> None:
    forms.forms.cache_clear()
    one, one_by_one = b'{"candidates":[]}', replace(GEMINI, varying=None)
    for nested in (False, False, True):
        within = before + one + b"]" if nested else b""
        pieces = [before + one, within, b"," + one, b"]"]
        passed, read = (
            _passed(each, pieces, "alias", False, JsonArrayFramer()) for each in (GEMINI, one_by_one)
        )
        assert passed == read


def test_the_elements_of_an_array_are_read_a_few_times_only() -> None:
    read: list[bytes] = []

    def is_terminal(event: Event) -> bool:
        read.append(event.raw)
        return GEMINI.is_terminal(event)

    forms.forms.cache_clear()
    protocol = replace(GEMINI, is_terminal=is_terminal)
    for stream in range(3):
        it = StreamTap(protocol, JsonArrayFramer(), client_model="alias", withhold_usage=False)
        read.clear()
        sent = b""
        for number in range(50):
            element = ELEMENTS[1] % (b"a", b"%d" % number)
            sent += it.feed((b",\r\n" if number else b"[") + element + b"\n")
            assert sent.endswith(element.replace(b'"up"', b'"alias"'))
        sent += it.feed(b"]") + it.tail
        assert len(json.loads(sent)) == 50
        assert (it.usage, it.output_bytes) == (Usage(input_tokens=49), 50)
        assert len(read) == 4 - stream  # at last the first, and the bracket at the end


def _learned(form: bytes, protocol: Protocol = CHAT, model: str | None = "alias") -> Template | None:
    return Forms(protocol, model, False).learn(_event(form))


def _event(raw: bytes) -> Event:
    (event,) = SseFramer().feed(raw)
    return event


EVENT = b'data: {"model":"up","choices":[{"delta":{"content":"%b"}}],"obfuscation":"%b"}\n\n'


def test_what_a_form_means_is_found_once_for_all_streams_of_a_model() -> None:
    form = (
        b'data: {"id":"chat-%b","created":%b,"model":"up","choices":[{"delta":{"content":"%b"}}],"n":%b}\n\n'
    )
    found = forms._found
    found.cache_clear()
    learned = [_learned(form % (b"%d" % n, b"17%d" % n, b"a" * n, b"1")) for n in range(1, 4)]
    assert found.cache_info().misses == 1
    for n, each in enumerate(learned, 1):
        stream = form % (b"%d" % n, b"17%d" % n, b"text", b"1")
        assert each is not None
        run = each.run(stream + form % (b"0", b"0", b"text", b"1"), 0, WITHIN)
        assert run == Run(stream.replace(b'"up"', b'"alias"'), len(stream), 4, each.said)


STAMPED = b'data: {"id":"%b","created":%b,"model":"up","choices":[{"delta":{"content":"%b"}}],"obfuscation":"%b"}\n\n'
DONE = b"data: [DONE]\n\n"
LAST = b'data: {"id":"%b","choices":[{"delta":{},"finish_reason":"stop"}],"model":"up"}\n\n'


def _recognised(known: Forms, data: bytes) -> Run | None:
    found = known.recognised(data, 0, None)
    return None if found is None else found[0].one(found[1])


def test_a_form_that_comes_in_a_second_stream_is_known_in_the_third() -> None:
    known = Forms(CHAT, "alias", False)
    for number in (b"1", b"2"):
        for event in (STAMPED % (number, number, b"a", b"x"), LAST % number, DONE):
            assert known.recognised(event, 0, None) is None
            known.learn(_event(event))
    event = STAMPED % (b"3", b"3", "ä".encode() + rb"\u00e9", b"")
    sent = event.replace(b'"up"', b'"alias"')
    found = known.recognised(event * 2, 0, None)
    assert found is not None
    form = found[0].template(found[1])
    said = Said((True, False))
    assert found[0].one(found[1]) == Run(sent, len(event), 4, said)
    assert form.start == found[0].start(found[1]) == event[: event.index("ä".encode())]
    assert form.run(event * 2, len(event), WITHIN) == Run(sent, 2 * len(event), 4, said)
    last = LAST % b"3"
    for event, sent, ends in ((DONE, DONE, True), (last, last.replace(b'"up"', b'"alias"'), False)):
        run = _recognised(known, event * 2)
        assert run == Run(sent, len(event), 0, Said((), completes=True, ends=ends))


@given(st.lists(st.integers(0, 2), max_size=12))
def test_what_came_behind_an_event_before_decides_nothing(order: list[int]) -> None:
    known = Forms(CHAT, "alias", False)
    events = [EVENT % (b"a", b"x"), LAST % b"1", DONE]
    for event in [*events, *events]:
        known.learn(_event(event))
    last = None
    for number in order:
        found = known.recognised(events[number], 0, last)
        assert found is not None
        last = found[0]
        assert last.holds_text is (number == 0)


def test_a_run_is_looked_for_behind_an_event_that_begins_as_the_next() -> None:
    looked: list[int] = []

    class Counting(Template):
        def run(self, data: bytes, at: int, within: int) -> Run | None:
            looked.append(within)
            return super().run(data, at, within)

    forms.forms.cache_clear()
    event, other = EVENT % (b"b", b""), EVENT.replace(b"content", b"refusal") % (b"c", b"")
    for stream, runs in ((event * 5, 1), (event * 2, 0), ((event + other) * 5, 0), (other + event * 5, 1)):
        for _ in range(3):
            looked.clear()
            it = StreamTap(CHAT, SseFramer(), client_model="alias", withhold_usage=False)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(forms, "Template", Counting)
                assert it.feed(stream) == stream.replace(b'"up"', b'"alias"')
        assert len(looked) == runs, stream


def test_forms_in_turn_take_no_longer_than_read_event_by_event() -> None:
    """They come so with n = 2. All that is there would be cut into lines again for each event."""
    other = EVENT.replace(b"content", b"refusal")
    stream = b"".join((other if n % 2 else EVENT) % (b"a", b"x") for n in range(400))

    def seconds(protocol: Protocol) -> float:
        took = []
        for _ in range(8):
            it = StreamTap(protocol, SseFramer(), client_model="alias", withhold_usage=False)
            began = time.process_time()
            it.feed(stream)
            while it.behind:
                it.feed(b"")
            took.append(time.process_time() - began)
        return min(took)

    assert seconds(CHAT) < 2 * seconds(replace(CHAT, varying=None))


@pytest.mark.parametrize("text", [b'"', b"\\", b"a\nb", b"\x01", b"\xc3", rb"\ud83d", rb"\x"])
def test_what_is_known_is_not_recognised_where_a_text_is_none(text: bytes) -> None:
    known = Forms(CHAT, "alias", False)
    for _ in range(2):
        known.learn(_event(EVENT % (b"a", b"x")))
    assert _recognised(known, EVENT % (b"a", b"x")) is not None
    assert _recognised(known, EVENT % (text, b"x")) is None
    assert _recognised(known, EVENT % (b"a", text)) is None


def test_no_more_forms_are_remembered_than_a_few_and_the_latest() -> None:
    known = Forms(CHAT, "alias", False)
    events = [b'data: {"n":"%d","choices":[{"delta":{"content":""}}]}\n\n' % n for n in range(100)]
    for event in events:
        known.learn(_event(event))
        known.learn(_event(event))
    left = [event for event in events if known.recognised(event, 0, None) is not None]
    assert left == events[-forms._MOST_FORMS :]


def test_of_a_long_event_no_pattern_is_made() -> None:
    known = Forms(CHAT, "alias", False)
    for size, found in ((2000, False), (100, True)):
        event = b'data: {"n":"%b","choices":[{"delta":{"content":"a"}}]}\n\n' % (b"x" * size)
        assert [known.learn(_event(event)) is not None for _ in range(3)] == [True] * 3
        assert (known.recognised(event, 0, None) is not None) is found


def test_an_event_is_recognised_in_a_time_by_its_length() -> None:
    known = Forms(CHAT, "alias", False)
    for _ in range(2):
        known.learn(_event(EVENT % (b"a", b"x")))
    began = time.process_time()
    for text in (rb"\\" * 500_000, rb"\"" * 500_000, b"a" * 1_000_000, b"data: {" * 150_000):
        assert _recognised(known, (EVENT % (b"a", text))[:-3]) is None
        too_many = text.count(b"\\") > MOST_TIMES
        assert (_recognised(known, EVENT % (text, b"x")) is None) is too_many
    assert time.process_time() - began < 2


def test_a_name_that_holds_what_is_tried_is_put_in_its_place() -> None:
    model = "gproxy-730811"
    known = Forms(CHAT, model, False)
    event = STAMPED % (b"1", b"1", b"a", b"x")
    assert [known.learn(_event(event)) for _ in range(2)] == [None, None]
    assert known.recognised(event, 0, None) is None


def test_an_event_that_is_long_is_not_kept() -> None:
    assert _learned(EVENT % (b"a", b"x" * forms._LONGEST_EVENT)) is None


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"model":"up","choices":[{"delta":{"content":"a"}}],"usage":{"n":3}}\n\n',
        b'data: {"model":"up","choices":[{"delta":{"content":"a"}}],"error":{"code":500}}\n\n',
        b'data: {"model":"up","choices":[{"delta":{"content":"a"}}],"err\\u006fr":{"code":500}}\n\n',
        b'data: {"model":"up","choices":[]}\n\n',
        b'data: {"content":"a"}\n\n',
        b'\n\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"a"}}]}\r\r',
    ],
)
def test_nothing_is_learned_from_an_event_whose_like_may_say_more_than_text(event: bytes) -> None:
    events = SseFramer().feed(event + b": end\n\n")
    assert Forms(CHAT, "alias", False).learn(events[0]) is None


def test_a_stream_of_one_form_is_read_a_few_times_only() -> None:
    """The point of it all; the time that it saves is measured in `benchmarks/relay.py`."""
    read: list[bytes] = []

    def is_terminal(event: Event) -> bool:
        read.append(event.raw)
        return CHAT.is_terminal(event)

    protocol = replace(CHAT, is_terminal=is_terminal)
    tap = StreamTap(protocol, SseFramer(), client_model="alias", withhold_usage=False)
    for number in range(100):
        tap.feed(EVENT % (b"%d" % number, b"x" * (number % 7)))
    tap.feed(b"".join(EVENT % (b"%d" % number, b"") for number in range(100)))
    assert len(read) == 2
    assert tap.output_bytes == 2 * (10 + 2 * 90)


def test_forms_that_never_come_twice_are_soon_given_up() -> None:
    learned: list[bytes] = []

    def output_text(event: Event) -> int:
        learned.append(event.raw)
        return CHAT.output_text(event)

    protocol = replace(CHAT, output_text=output_text)
    tap = StreamTap(protocol, SseFramer(), client_model="alias", withhold_usage=False)
    for number in range(100):
        tap.feed(b'data: {"n":%d,"model":"up","choices":[{"delta":{"content":"a"}}]}\n\n' % number)
    assert len(learned) == 100 + 2 * 6
    assert tap.output_bytes == 100


def test_of_a_broken_event_nothing_is_kept_but_its_form() -> None:
    form = b'data: {"choices":[{"delta":{"content":"%b"}}],"model":"up"}\n\n'
    learned = _learned(form % rb"\x08")
    assert learned is not None
    run = learned.run(form % b"a", 0, WITHIN)
    assert run is not None
    assert run.sent == (form % b"a").replace(b'"up"', b'"alias"')


REPORTING = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"%b"}]}}],"usageMetadata":{"promptTokenCount":%b,'
    b'"candidatesTokenCount":%b},"modelVersion":"up"}\n\n'
)


def test_of_events_that_all_report_usage_the_last_is_read() -> None:
    read: list[bytes] = []

    def usage_in_event(event: Event, before: Usage | None) -> Usage | None:
        read.append(event.raw)
        return GEMINI.usage_in_event(event, before)

    forms._found.cache_clear()
    protocol = replace(GEMINI, usage_in_event=usage_in_event)
    tap = StreamTap(protocol, SseFramer(), client_model="alias", withhold_usage=False)
    for number in range(100):
        tap.feed(REPORTING % (b"a", b"3", b"%d" % number) * 3)
    assert b'"candidatesTokenCount":99' not in b"".join(read)
    assert tap.usage == Usage(input_tokens=3, output_tokens=99)
    assert tap.output_bytes == 300
    assert tap.usage is tap.usage


def test_usage_that_is_not_told_anew_by_each_event_is_read_in_each() -> None:
    def usage_in_event(event: Event, before: Usage | None) -> Usage | None:
        now = GEMINI.usage_in_event(event, None)
        known = 0 if before is None else before.output_tokens or 0
        return before if now is None else Usage(output_tokens=known + (now.output_tokens or 0))

    protocol = replace(GEMINI, usage_in_event=usage_in_event)
    assert Forms(protocol, "alias", False).learn(_event(REPORTING % (b"a", b"3", b"4"))) is None


def test_usage_that_an_event_of_another_form_leaves_out_stays() -> None:
    """Google's counts are cumulative, and those that are not told again hold."""
    event = b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}],"usageMetadata":{%b}}\n\n'
    both, prompt = b'"promptTokenCount":%b,"candidatesTokenCount":%b', b'"promptTokenCount":%b'
    taps = []
    for _ in range(3):  # the third stream finds both forms known
        taps.append(StreamTap(GEMINI, SseFramer(), client_model="other", withhold_usage=False))
        for told in (prompt % b"5", both % (b"5", b"40"), prompt % b"6"):
            taps[-1].feed(event % told)
    assert [tap.usage for tap in taps] == [Usage(input_tokens=6, output_tokens=40)] * 3


START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"%b","model":"up","usage":'
    b'{"input_tokens":%b,"cache_read_input_tokens":5,"output_tokens":1}}}\n\n'
)
DELTA = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":%b}}\n\n'


def test_usage_that_two_forms_tell_in_parts_is_put_together_without_reading_the_rest() -> None:
    read: list[bytes] = []

    def is_terminal(event: Event) -> bool:
        read.append(event.raw)
        return MESSAGES.is_terminal(event)

    protocol = replace(MESSAGES, is_terminal=is_terminal)
    for number in (b"1", b"2", b"3"):
        it = StreamTap(protocol, SseFramer(), client_model="alias", withhold_usage=False)
        read.clear()
        stream = START % (b"msg_" + number, number) + DELTA % number * 2
        assert it.feed(stream) == stream.replace(b'"up"', b'"alias"')
        assert bool(read) is (number < b"3")
        known = Usage(input_tokens=int(number) + 5, output_tokens=int(number), cache_read_tokens=5)
        assert (it.usage, it.complete) == (known, True)


USAGE = b'data: {"choices":[],"model":"up","usage":{"prompt_tokens":%b,"completion_tokens":2}}\n\n'


@pytest.mark.parametrize("withheld", [True, False])
def test_an_event_of_usage_alone_is_known_and_its_usage_read_when_somebody_asks(withheld: bool) -> None:
    read: list[Event] = []

    def usage_in_event(event: Event, before: Usage | None) -> Usage | None:
        read.append(event)
        return CHAT.usage_in_event(event, before)

    protocol = replace(CHAT, usage_in_event=usage_in_event)
    for number in range(3):
        it = StreamTap(protocol, SseFramer(), client_model="alias", withhold_usage=withheld)
        usage = USAGE % (b"%d" % number)
        read.clear()
        sent = it.feed(EVENT % (b"a", b"x") * 2 + usage)
        assert bool(read) is (number < 2)
        assert sent.count(b'"alias"') == (2 if withheld else 3)
        assert it.usage == Usage(input_tokens=number, output_tokens=2)


def test_of_usage_that_is_told_in_other_words_each_time_little_is_learned() -> None:
    forms._found.cache_clear()
    for number in range(50):
        it = StreamTap(CHAT, SseFramer(), client_model="rare", withhold_usage=True)
        it.feed(EVENT % (b"a", b"x") + USAGE.replace(b"}}", b',"cost":0.%d}}' % number) % b"3")
    assert forms._found.cache_info().misses == 1 + forms._MOST_RARE
