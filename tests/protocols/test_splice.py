"""One string changes and no other byte does, wherever else its name or its value stands."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gproxy.protocols.base import Event
from gproxy.protocols.splice import replace_in_answer, replace_in_event, replace_value
from gproxy.protocols.sse import SseFramer

names = st.sampled_from(["model", "message", "response", "mod\\el", 'a"model', "x"])
values = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(["model", '"model":"x"', '{"model": "y"}', "\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)
trees = st.dictionaries(names, values, max_size=5)
paths = st.sampled_from([("model",), ("message", "model"), ("response", "model"), ("x", "x", "model")])


def _changed(tree: Any, path: tuple[str, ...], value: str) -> Any:
    if not isinstance(tree, dict) or path[0] not in tree:
        return tree
    if len(path) > 1:
        return tree | {path[0]: _changed(tree[path[0]], path[1:], value)}
    return tree | {path[0]: value} if isinstance(tree[path[0]], str) else tree


@given(trees, paths, st.text(), st.sampled_from([(",", ":"), (", ", " : ")]), st.booleans())
def test_a_splice_equals_decode_change_encode(
    tree: dict[str, Any], path: tuple[str, ...], value: str, separators: tuple[str, str], ascii_only: bool
) -> None:
    """Byte for byte: what stands around the string is found again as it was."""
    value = value.encode("utf-8", "replace").decode()
    mark = "\x00mark\x00"

    def encode(changed: Any) -> bytes:
        return json.dumps(changed, separators=separators, ensure_ascii=ascii_only).encode()

    marked = encode(_changed(tree, path, mark))
    expected = marked.replace(json.dumps(mark).encode(), json.dumps(value).encode())
    assert replace_value(encode(tree), path, value) == expected


@given(
    st.dictionaries(names, values | st.text(), max_size=5),
    st.sampled_from(["model", "x"]),
    st.text(),
    st.sampled_from([(",", ":"), (", ", ": "), (", ", ":")]),
    st.booleans(),
)
@example({"a": "b", "model": "a"}, "model", "", (",", ":"), True)
@example({'a"model': "a"}, "model", "b", (",", ":"), True)
@example({"model": 'a"b'}, "model", "b", (",", ":"), True)
@example({"x": "\\", "model": "a"}, "model", "b", (",", ":"), True)
@example({"x": "model", "model": "a"}, "model", "b", (",", ":"), True)
@example({"x": '"model":"x"', "model": "a"}, "model", "b", (",", ":"), True)
@example({"x": {"model": "a"}}, "model", "b", (",", ":"), True)
@example({"model": "a", "x": [{"model": "a"}]}, "model", "b", (",", ":"), True)
@example({"x": "y" * 2000, "model": "a"}, "model", "b", (",", ":"), True)
@example({"model": "a" * 2000}, "model", "b", (",", ":"), True)
def test_a_splice_of_what_is_json_is_that_of_anything(
    tree: dict[str, Any], name: str, value: str, separators: tuple[str, str], ascii_only: bool
) -> None:
    for whole in (tree, [tree], [name]):
        answer = json.dumps(whole, separators=separators, ensure_ascii=ascii_only).encode()
        for spaced in (answer, b" " + answer):
            assert replace_in_answer(spaced, name, value) == replace_value(spaced, (name,), value)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"model":"a","model":"b"}', b'{"model":"NEW","model":"NEW"}'),
        (b'{"model": "a","model":"b"}', b'{"model": "NEW","model":"NEW"}'),
        (b'{"model":"a","model" :"b"}', b'{"model":"NEW","model" :"NEW"}'),
        (b'{"model":5,"model":"b"}', b'{"model":5,"model":"NEW"}'),
        (b'{"x":"model","model":"b"}', b'{"x":"model","model":"NEW"}'),
    ],
)
def test_a_name_that_an_answer_repeats_is_changed_each_time_however_it_is_written(
    answer: bytes, expected: bytes
) -> None:
    assert replace_in_answer(answer, "model", "NEW") == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"NEW"}'),
        (b' {\n"id" : 1,\n"model"\t:\r\n "a" , "b":[]}', b' {\n"id" : 1,\n"model"\t:\r\n "NEW" , "b":[]}'),
        (b'{"x":{"model":"a"},"model":"a"}', b'{"x":{"model":"a"},"model":"NEW"}'),
        (b'{"x":{"model":"a"}}', b'{"x":{"model":"a"}}'),
        (b'{"x":["model","a"]}', b'{"x":["model","a"]}'),
        (b'{"x":"model","model":"a"}', b'{"x":"model","model":"NEW"}'),
        (b'{"x":"\\"model\\":\\"a\\"","model":"a"}', b'{"x":"\\"model\\":\\"a\\"","model":"NEW"}'),
        (b'{"x":"{","model":"a"}', b'{"x":"{","model":"NEW"}'),
        (b'{"x":{},"model":"a","y":"z"} ', b'{"x":{},"model":"NEW","y":"z"} '),
        (b'{"x":[{"model":"a"}]}', b'{"x":[{"model":"a"}]}'),
        (b'{"x":{"y":{},"model":"a"},"z":1}', b'{"x":{"y":{},"model":"a"},"z":1}'),
        (b'{"x":{"y":{},"model":"a"}}', b'{"x":{"y":{},"model":"a"}}'),
        (b'{"x":[],"y\\"model":"a"}', b'{"x":[],"y\\"model":"a"}'),
        (b'{"x":[],"mod\\u0065l":"a","model":"b"}', b'{"x":[],"mod\\u0065l":"NEW","model":"NEW"}'),
        (b'{"x":[],"model":"a","y":"}"}', b'{"x":[],"model":"NEW","y":"}"}'),
        (b'{"x":[],"model":"a",}', b'{"x":[],"model":"a",}'),
        (b'{"x":[],"y":1 "model":"a"}', b'{"x":[],"y":1 "model":"a"}'),
        (b'{"mod\\u0065l":"a"}', b'{"mod\\u0065l":"NEW"}'),
        (b'{"model":"a\\"b"}', b'{"model":"NEW"}'),
        (b'{"model":"a","model":"b"}', b'{"model":"NEW","model":"NEW"}'),
        (b'{"model":null}', b'{"model":null}'),
        (b'{"model":5,"model":"a"}', b'{"model":5,"model":"NEW"}'),
        (b'{"x":"model","y":1}', b'{"x":"model","y":1}'),
        (b'{"x":"model":"a"}', b'{"x":"model":"a"}'),
        (b'{"x":1 2,"model":"a"}', b'{"x":1 2,"model":"a"}'),
        (b"{" + b'"x":"{[",' * 100 + b'"model":"a"}', b"{" + b'"x":"{[",' * 100 + b'"model":"NEW"}'),
        (b'{"model":{"model":"a"}}', b'{"model":{"model":"a"}}'),
        (b'[{"model":"a"}]', b'[{"model":"a"}]'),
        (b'<p>{"model":"a"}', b'<p>{"model":"a"}'),
        (b'{"\xff":1,"x":{},"model":"a"}', b'{"\xff":1,"x":{},"model":"a"}'),
        (b'{"x":{},"model":"a"} trailing', b'{"x":{},"model":"a"} trailing'),
        (b'{"x":' + b"[" * 5000 + b',"model":"a"}', b'{"x":' + b"[" * 5000 + b',"model":"a"}'),
        (b"", b""),
        (b"[DONE]", b"[DONE]"),
    ],
)
def test_only_the_string_at_the_path_changes(data: bytes, expected: bytes) -> None:
    assert replace_value(data, ("model",), "NEW") == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a":"b","x":{"y":"z","model":"a"}}', b'{"a":"b","x":{"y":"z","model":"NEW"}}'),
        (
            b'{"a":"\\"","x":{"y":{"z":[]},\n"model" : "a" },"b":1}',
            b'{"a":"\\"","x":{"y":{"z":[]},\n"model" : "NEW" },"b":1}',
        ),
        (b'{"x":{"y":{"model":"a"}}}', b'{"x":{"y":{"model":"a"}}}'),
        (b'{"x":{},"y":{"model":"a"}}', b'{"x":{},"y":{"model":"a"}}'),
        (b'{"x":{"y":"\\"model":"a"}}', b'{"x":{"y":"\\"model":"a"}}'),
        (b'{"x":{"y\\"model":"a"}}', b'{"x":{"y\\"model":"a"}}'),
        (b'{"x":{"model":"a"},"x":{"y":1}}', b'{"x":{"model":"NEW"},"x":{"y":1}}'),
        (b'{"x":{"mod\\u0065l":"b","model":"a"}}', b'{"x":{"mod\\u0065l":"NEW","model":"NEW"}}'),
        (b'{"x":{"model":"a"},"y":"\xff"}', b'{"x":{"model":"a"},"y":"\xff"}'),
        (b'{"x":{"model":"a"}', b'{"x":{"model":"a"}'),
        (b'{"x":{"model":"a"}} trailing', b'{"x":{"model":"a"}} trailing'),
        (b'{"x":{"model":"a\\n"}}', b'{"x":{"model":"NEW"}}'),
        (b'{"x":{"model":1}}', b'{"x":{"model":1}}'),
        (b'[{"x":{"model":"a"}}]', b'[{"x":{"model":"a"}}]'),
    ],
)
def test_only_the_string_at_the_path_within_changes(data: bytes, expected: bytes) -> None:
    assert replace_value(data, ("x", "model"), "NEW") == expected


def test_nothing_to_change_gives_the_same_bytes_back() -> None:
    data = b'{"a":1}'
    assert replace_value(data, ("model",), "NEW") is data


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'id: 1\r\ndata: {"model":"a"}\r\n\r\n', b'id: 1\r\ndata: {"model":"NEW"}\r\n\r\n'),
        (b'data:{"a":1,\ndata:  "model":"a"}\n\n', b'data:{"a":1,\ndata:  "model":"NEW"}\n\n'),
        (b': {"model":"a"}\ndata: {"model":"a"}\n\n', b': {"model":"a"}\ndata: {"model":"NEW"}\n\n'),
        (b'\xef\xbb\xbfdata: {\rdata: "model":"a"}\r\r', b'\xef\xbb\xbfdata: {\rdata: "model":"NEW"}\r\r'),
        (b": ping\n\n", b": ping\n\n"),
    ],
)
def test_an_event_keeps_its_framing(raw: bytes, expected: bytes) -> None:
    (event,) = SseFramer().feed(raw)
    assert replace_in_event(event, ("model",), "NEW") == expected


def test_an_event_without_data_stays() -> None:
    assert replace_in_event(Event(b"\n", None), ("model",), "NEW") == b"\n"


def test_what_would_take_long_to_look_through_is_left_as_it_is() -> None:
    """No answer hides its model so, but one that is to hold a proxy up."""
    crowd = b'{"choices":[' + b"{}," * 500_000 + b'{}],"model":"up","model":"up"}'
    assert replace_value(crowd, ("model",), "alias") is crowd
    repeated = b'{"model":"up"' + b',"model":"up"' * 20_000 + b"}"
    assert replace_value(repeated, ("model",), "alias") is repeated
    few = b'{"model":"up","model":"up"}'
    assert replace_value(few, ("model",), "alias") == few.replace(b"up", b"alias")
