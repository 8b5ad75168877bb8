"""Asking for usage on a client's behalf: merged in, in place, and only where a stream was asked for."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import BadRequest
from gproxy.protocols.base import Body, Event
from gproxy.protocols.openai_chat import CHAT, COMPLETIONS
from gproxy.protocols.strict import decode
from gproxy.values import Usage


@pytest.mark.parametrize(
    ("total", "output"),
    [(32 + 9 + 296, 305), (32 + 9, 9), (None, 9), (999, 9)],
    ids=["xAI's sum of all three", "a sum of two", "no sum", "some other sum"],
)
def test_reasoning_beside_the_completion_is_added_where_the_total_says_so(
    total: int | None, output: int
) -> None:
    usage = {
        "prompt_tokens": 32,
        "completion_tokens": 9,
        "total_tokens": total,
        "completion_tokens_details": {"reasoning_tokens": 296},
    }
    counted = CHAT.usage_in_body(json.dumps({"usage": usage}).encode())
    assert counted == Usage(input_tokens=32, output_tokens=output, reasoning_tokens=296)


def _asked(raw: bytes, model: str = "m") -> bytes:
    return CHAT.with_model(CHAT.read(decode(raw), None, ""), model, True)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            b'{"model":"m","stream": true ,"n":1}',
            b'{"model":"m","stream": true,"stream_options":{"include_usage":true} ,"n":1}',
        ),
        (
            b'{"model":"m","stream":true,"stream_options": { "x":{"include_usage":false}}}',
            b'{"model":"m","stream":true,"stream_options": {"include_usage":true, "x":{"include_usage":false}}}',
        ),
        (
            b'{"model":"m","stream":true,"stream_options":{"x":1,"include_usage" : false }}',
            b'{"model":"m","stream":true,"stream_options":{"x":1,"include_usage" : true }}',
        ),
        (
            b'{"stream_options":null,"model":"m","stream":true}',
            b'{"stream_options":{"include_usage":true},"model":"m","stream":true}',
        ),
        (
            b'{"stream_options":{ },"model":"m","stream":true}',
            b'{"stream_options":{"include_usage":true},"model":"m","stream":true}',
        ),
    ],
)
def test_usage_is_asked_for_in_place(raw: bytes, expected: bytes) -> None:
    assert _asked(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"m"}',
        b'{"model":"m","stream":false}',
        b'{"model":"m","stream":false,"stream_options":{"include_usage":false}}',
        b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
    ],
)
def test_nothing_is_asked_for_without_a_stream_or_twice(raw: bytes) -> None:
    assert _asked(raw) == raw


@given(
    st.dictionaries(st.sampled_from(["include_usage", "x", "y"]), st.none() | st.just(False) | st.integers())
    | st.none(),
    st.booleans(),
    st.text(min_size=1, alphabet=st.characters(categories=["L", "P"])),
)
def test_the_changed_request_equals_decode_change_encode(options: Any, given_too: bool, model: str) -> None:
    tree: dict[str, Any] = {"messages": [{"model": "a"}], "model": "a", "stream": True}
    if given_too:
        tree["stream_options"] = options
    expected = tree | {"model": model}
    if (options or {}).get("include_usage") in (None, False) or not given_too:
        before = options if given_too and options else {}
        expected["stream_options"] = before | {"include_usage": True}
    assert json.loads(_asked(json.dumps(tree).encode(), model)) == expected


@given(
    fields=st.dictionaries(
        st.sampled_from(["n", "messages", "é", "stream_options"]), st.just({}) | st.none()
    ),
    stream=st.booleans(),
    model=st.sampled_from(["m", 'ü"', "other"]),
    style=st.sampled_from([(",", ":"), (", ", ": ")]),
    ask=st.booleans(),
)
def test_what_is_put_together_from_its_pieces_is_what_edits_make_of_the_text(
    fields: dict[str, Any], stream: bool, model: str, style: tuple[str, str], ask: bool
) -> None:
    tree = {"a": [1], "model": "m", **fields, "stream": stream, "z": "é"}
    body = decode(json.dumps(tree, ensure_ascii=False, separators=style).encode())
    assert body.pieces is not None
    edited = Body(body.text, body.tree, body.spans)
    made, wanted = (CHAT.with_model(CHAT.read(each, None, ""), model, ask) for each in (body, edited))
    assert made == wanted


def test_stream_options_are_an_object() -> None:
    with pytest.raises(BadRequest, match="stream_options"):
        CHAT.read(decode(b'{"model":"m","stream":true,"stream_options":[]}'), None, "")


def test_both_output_limits_are_known() -> None:
    facts = CHAT.read(decode(b'{"model":"m","max_tokens":5,"max_completion_tokens":9}'), None, "")
    assert facts.max_output_tokens == 9


def test_the_two_operations_go_to_their_own_paths_without_the_clients_query() -> None:
    assert CHAT.upstream_path("m", "key=secret") == "/v1/chat/completions"
    assert COMPLETIONS.upstream_path("m", "x=1") == "/v1/completions"


@pytest.mark.parametrize(
    ("more", "answers"),
    [
        (b"", 1),
        (b',"n":3', 3),
        (b',"prompt":"a","n":2,"best_of":4', 4),
        (b',"prompt":["a","b"],"n":3', 6),
        (b',"prompt":[1,2,3]', 1),
        (b',"prompt":[[1,2],[3]]', 2),
        (b',"prompt":[]', 1),
    ],
)
def test_each_prompt_is_given_as_many_answers_as_are_asked_for(more: bytes, answers: int) -> None:
    facts = COMPLETIONS.read(decode(b'{"model":"m"%s}' % more), None, "")
    assert facts.answers == answers


def test_the_class_of_service_of_a_stream_is_that_of_the_event_with_its_usage() -> None:
    chunk = {"choices": [], "service_tier": "priority", "usage": {"prompt_tokens": 1}}
    data = json.dumps(chunk).encode()
    assert CHAT.usage_in_event(Event(data, data), None) == Usage(input_tokens=1, service_tier="priority")


def test_cached_tokens_are_read_once_under_any_of_their_names() -> None:
    for fields in (
        {"prompt_tokens_details": {"cached_tokens": 4}, "prompt_cache_hit_tokens": 9},
        {"prompt_tokens_details": {"cached_tokens": None}, "prompt_cache_hit_tokens": 4},
        {"cached_tokens": 4},
    ):
        usage = CHAT.usage_in_body(json.dumps({"usage": fields}).encode())
        assert usage == Usage(cache_read_tokens=4)
