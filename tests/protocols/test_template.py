"""How far a run of events goes. That it is what the events by themselves are is shown in `test_forms.py`."""

import time

import pytest

from gproxy.protocols.base import Event
from gproxy.protocols.forms import Forms
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.template import Said, Template

WITHIN = 32 * 1024
EVENT = b'data: {"model":"up","choices":[{"delta":{"content":"%b"}}],"obfuscation":"%b"}\n\n'


def _learned(raw: bytes) -> Template:
    learned = Forms(CHAT, "alias", False).learn(Event(raw, raw.removeprefix(b"data: ").rstrip()))
    assert learned is not None
    return learned


def test_all_events_of_a_form_are_taken_at_once() -> None:
    learned = _learned(EVENT % (b"a", b"x"))
    stream = EVENT % (b"Hel", b"zz") + EVENT % (rb"l\"\u00e9", b"") + EVENT % ("ä".encode(), b"q")
    run = learned.run(stream + EVENT[:30], 0, WITHIN)
    assert run is not None
    assert (run.events, run.end, run.output_bytes, run.said.completes) == (3, len(stream), 3 + 4 + 2, False)
    assert run.sent == stream.replace(b'"up"', b'"alias"')


def test_a_run_ends_where_another_event_stands() -> None:
    learned = _learned(EVENT % (b"a", b"x"))
    other = b"data: {}\n\n"
    stream = other + EVENT % (b"b", b"") + other + EVENT % (b"c", b"")
    run = learned.run(stream, len(other), WITHIN)
    assert run is not None
    assert (run.events, stream[run.end :]) == (1, other + EVENT % (b"c", b""))


@pytest.mark.parametrize(
    "other",
    [
        b'data: {"model":"up","choices":[{"delta":{"content":"b"}}],"obfuscation" :"x"}\n\n',
        b'data: {"model":"up","choices":[{"delta":{"content":"b"}}],"obfuscated":"x"}\n\n',
        b'data: {"model":"up","choices":[{"delta":{"content":"b"}}]}\n\n',
        b'data: {"model":"up","choices":[{"delta":{"content":"b"}}],"obfuscation":"x"} \n\n',
        b'data: {"model":"up","choices":[{"delta":{"content":"b\\"}}],"obfuscation":"x"}\n\n',
        b'data: {"model":"up","choices":[{"delta":{"content":"b"}}],"obfuscation":"x""}\n\n',
        b'data: {"model":"up","choices":[{"delta":{"content":"\n"}}],"obfuscation":"x"}\n\n',
        b'data: {"model":"up","choices":[{"delta":{"content":"b"}}],"obfuscation":"x"}\nid: 1\n\n',
    ],
)
def test_a_run_ends_before_an_event_that_only_looks_like_its_own(other: bytes) -> None:
    learned = _learned(EVENT % (b"a", b"x"))
    event = EVENT % (b"b", b"y")
    for before in range(1, 6):
        run = learned.run(event * before + other + event * 3, 0, WITHIN)
        assert run is not None
        assert 0 < run.events <= before
        assert run.end == run.events * len(event)


def test_a_text_may_hold_what_begins_as_that_behind_it() -> None:
    learned = _learned(EVENT % (b"a", b"x"))
    event = EVENT % (rb"\"}}],\"obf\", \"}}],\"obfuscation\":\"", rb"\"}}],")
    run = learned.run(event * 3, 0, WITHIN)
    assert run is not None
    assert (run.events, run.output_bytes) == (3, 3 * len('"}}],"obf", "}}],"obfuscation":"'))


def test_a_run_ends_before_an_event_without_what_stands_between_its_values() -> None:
    start, middle, stop = b'data: {"a":"', b'","b":"', b'"}\n\n'
    short = Template(start, [middle], stop, start, stop, Said((True, False)))
    both, one = start + b"x" + middle + b"y" + stop, start + b"x" + stop
    run = short.run(both + one + both, 0, WITHIN)
    assert run is not None
    assert run.end == len(both)


def test_a_run_ends_before_a_number_that_is_none() -> None:
    start, stop = b'data: {"n":', b"}\n\n"
    numbered = Template(start, [], stop, start, stop, Said((None,)))
    for wrong in (b"", b"-1", b"01", b"1 2", b"x"):
        for behind in ((), (b"8",)):
            events = [start + number + stop for number in (b"7", b"0", wrong, *behind)]
            run = numbered.run(b"".join(events), 0, WITHIN)
            assert run is not None
            assert run.events in (1, 2), (wrong, behind)
            assert run.end == len(b"".join(events[: run.events]))


@pytest.mark.parametrize("text", [rb"\\", rb"a\\", rb"\"", rb"\\\"", rb"\\\\", rb"\"\"a\\\""])
def test_a_text_may_end_in_whatever_is_escaped(text: bytes) -> None:
    learned = _learned(EVENT % (b"a", b"x"))
    stream = EVENT % (b"b", text) + EVENT % (text, b"c") * 2
    at = 0
    while at < len(stream):
        run = learned.run(stream, at, WITHIN)
        assert run is not None
        at = run.end
    assert at == len(stream)


def test_a_run_is_looked_for_in_a_time_by_the_length_of_what_came() -> None:
    learned = _learned(EVENT % (b"a", b"x"))
    event, stop = EVENT % (b"b", b"c"), b'"}\n\n'
    began = time.process_time()
    for text in (b"a", b"data: {", event[:20], rb"\\", rb"\"", b'"', b'"\n', event[:-4]):
        run = learned.run(event + text * (WITHIN // len(text)) + event[:50] + b"a" * WITHIN + stop, 0, WITHIN)
        assert run is None or run.end % len(event) == 0
    assert time.process_time() - began < 0.2


def test_an_event_that_is_long_is_none_of_a_run() -> None:
    learned = _learned(EVENT % (b"a", b"x"))
    long = EVENT % (b"a" * 40_000, b"x")
    assert learned.run(long, 0, WITHIN) is None
    run = learned.run(EVENT % (b"b", b"c") + long, 0, WITHIN)
    assert run is not None
    assert run.events == 1


def test_a_run_is_not_looked_for_in_all_that_came() -> None:
    learned = _learned(EVENT % (b"a", b"x"))
    event = EVENT % (b"a", b"b")
    run = learned.run(event * 10_000, 0, WITHIN)
    assert run is not None
    assert run.end == run.events * len(event) <= WITHIN + 2 * len(event)


def test_no_run_is_made_of_half_an_event() -> None:
    learned = _learned(EVENT % (b"a", b"x"))
    assert learned.run((EVENT % (b"b", b"c"))[:-1], 0, WITHIN) is None
