"""What passes is what every upstream reads alike; anything else is a 400 and never another failure."""

import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gproxy.errors import BadRequest
from gproxy.protocols import strict
from gproxy.protocols.estimate import input_tokens
from gproxy.protocols.strict import LARGE_BYTES, MAX_DEPTH, MAX_NAMES, decode, model_name, stream_flag

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=6)


def _nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@given(json_objects, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_any_json_object_passes_with_the_spans_of_its_values(
    tree: dict[str, object], ascii_only: bool, indent: int | str | None
) -> None:
    text = json.dumps(tree, ensure_ascii=ascii_only, indent=indent)
    body = decode(text.encode())
    assert body.tree == tree
    assert body.text == text
    assert {name: json.loads(text[start:end]) for name, (start, end) in body.spans.items()} == tree


pieces = st.lists(
    st.sampled_from(
        [
            *(
                '"a"',
                '"tools":',
                '"model"',
                '"mod\\u0065l"',
                '"\\"a"',
                '"\\\\a"',
                '"\\ud800"',
                '"\\ud83d\\ude00"',
                '"é"',
                '"\x01"',
            ),
            *(
                ":",
                ",",
                "{",
                "}",
                "[",
                "]",
                " ",
                "\n",
                "\x0b",
                "1",
                "-0",
                "01",
                "1e5",
                "1e999",
                "1.",
                "NaN",
                "true",
            ),
            *("9" * 309, "1" * 310, "1" * 308, "null", '"x":1', '"x":{"x":1}', '"a":"model"', '"a b":1'),
        ]
    ),
    max_size=12,
).map("".join)


@given(pieces.map(lambda text: f'{{"model":"m"{text}}}') | pieces)
@example('{"a":{"x":%s,"x":1}}' % ("9" * 400))
@example('{"a":{"b":1},"b":2}')
@example('{"a":"\\"b\\"","b":"\\\\"}')
@example('{"model":"m","tools":[{"x":1}]}')
@example('{"tools":[{"x":%s,"x":1}]}' % ("9" * 400))
@example('{"tools":' + "[" * 128 + "]" * 128 + "}")
@example('{"tools":' + "[" * 127 + "]" * 127 + ',"a":' + "[" * 127 + "]" * 127 + "}")
@example('{"tools":["\\ud800"]}')
@example('{"tools":[1],"tools":[2]}')
@example('{"tools":"x", "a":{"tools":1}}')
def test_what_is_read_in_one_step_is_what_is_read_step_by_step(text: str) -> None:
    def told() -> object:
        try:
            body = decode(text.encode())
        except BadRequest as error:
            return error.message
        return json.dumps(body.tree), body.spans

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict, "_LEAST_TOOLS", 1)
        quick = told()
        patch.setattr(strict, "_plain_body", lambda raw, text: None)
        assert told() == quick


FIELDS = st.tuples(
    st.sampled_from(["a", "b", "model", "content", "é", "a b", 'q"', "b\\", "x" * 70, "Model"]), json_values
)


@given(st.lists(FIELDS, max_size=5), st.sampled_from([(",", ":"), (", ", ": "), (", ", ":"), (" ,", ": ")]))
@example([("a", {"x": [1, "a"]}), ("a", "a")], (",", ":"))
@example([("a", {"x": 1, "b": [1]}), ("a", 1), ("b", 23)], (", ", ": "))
@example([("model", "m"), ("Model", "m")], (",", ":"))
def test_a_body_is_plain_if_no_name_is_repeated_or_like_another_and_it_is_written_as_most_are(
    fields: list[tuple[str, object]], style: tuple[str, str]
) -> None:
    comma, colon = style
    text = "{" + comma.join(f"{json.dumps(n)}{colon}{json.dumps(v)}" for n, v in fields) + "}"
    names = [name for name, _ in fields]
    body = strict._plain_body(text.encode(), text)
    if len(set(names)) < len(names) or "Model" in names:
        assert body is None
    elif body is not None:
        assert {n: json.loads(text[slice(*body.spans[n])]) for n in names} == dict(fields)
    elif all(json.dumps(name) == f'"{name}"' for name in names):
        assert style not in [(",", ":"), (", ", ": ")]


@given(json_objects, json_values)
@example({"a": 1}, "data:image/png;base64,QUJD")
@example({}, [{"input_schema": {"a name of many letters": {"type": "http://x"}}, "data": "QUJD"}, 5])
def test_tools_that_are_known_are_what_they_are_in_a_body_that_came_first(
    tree: dict[str, object], tools: object
) -> None:
    padded = [tools, "x" * strict._LEAST_TOOLS]
    given = json.dumps({"model": "m", "tools": padded, **tree}, ensure_ascii=False).encode()
    whole = json.dumps({"tools": tools if isinstance(tools, str) else [tools]}).encode()
    for raw in (given, given, whole):
        body = decode(raw)
        assert body.tree == json.loads(raw)
        assert list(body.tree) == list(json.loads(raw))
        assert input_tokens(body.tree, body.tools) == input_tokens(body.tree)


def test_the_tools_of_an_agent_are_read_once() -> None:
    tools = json.dumps([{"name": "pick", "input_schema": {"description": "x" * 2000}}])
    first, second = (decode(f'{{"model": "m", "tools": {tools}, "n": {n}}}'.encode()) for n in (1, 2))
    assert first.tools is not None
    assert first.tree["tools"] is second.tree["tools"]
    assert decode(f'{{"tools": {tools[:-1]}, "{"x" * strict._MOST_TOOLS}"]}}'.encode()).tools is None


def test_tools_that_come_with_a_secret_are_not_remembered() -> None:
    server = {"type": "mcp", "server_url": "https://m.example", "authorization": "sk-of-a-client" * 100}
    raw = json.dumps({"model": "m", "tools": [{"type": "function", "name": "pick"}, server]}).encode()
    kept = strict._tools.cache_info().currsize
    for _ in range(2):
        body = decode(raw)
        assert body.tree == json.loads(raw)
        assert body.tools is None
    assert strict._tools.cache_info().currsize == kept


@given(json_values, st.text('[]{}",\\', max_size=9))
def test_the_depth_of_a_text_is_that_of_its_value(value: object, odd: str) -> None:
    def depth(of: object) -> int:
        inner = of.values() if isinstance(of, dict) else of if isinstance(of, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    for each in (value, [odd, value, {odd: [odd]}]):
        assert strict._depth(strict._structure(json.dumps(each).encode())) == depth(each)
        assert strict._depth(
            strict._structure(json.dumps(each, ensure_ascii=False, indent=1).encode())
        ) == depth(each)


@pytest.mark.parametrize("digits", [307, 308, 309, 310, 700])
@pytest.mark.parametrize("before", [0, 1, 307, 308, 309, 617, 2000])
def test_a_long_number_is_found_wherever_it_stands(digits: int, before: int) -> None:
    text = "x" * before + "9" * digits
    for tail in ("", "x", "1x" * 400):
        assert strict._holds_long_number((text + tail).encode()) == (
            digits >= 309 or (digits == 308 and tail[:1] == "1")
        )


@given(st.binary() | st.text().map(str.encode) | json_values.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_pass_or_are_a_bad_request(raw: bytes) -> None:
    with suppress(BadRequest):
        assert isinstance(decode(raw).tree, dict)


@given(json_objects, st.data())
def test_a_body_that_was_cut_short_is_refused(tree: dict[str, object], data: st.DataObject) -> None:
    raw = json.dumps(tree).encode()
    with pytest.raises(BadRequest):
        decode(raw[: data.draw(st.integers(0, len(raw) - 1))])


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "one JSON object"),
        (b"[]", "one JSON object"),
        (b'"text"', "one JSON object"),
        (b"null", "one JSON object"),
        (b"{}{}", "follows it at character 2"),
        (b'{"a":1} x', "follows it at character 8"),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        (b'{"a":"\xff"}', "not UTF-8: invalid byte at position 6"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a":1,"a":2}', '"a" more than once'),
        (b'{"model":1,"mod\\u0065l":2}', '"model" more than once'),
        (b'{"model":"a","Model":"b"}', "read as `model`"),
        (b'{"model":"a","mo\\u0044el":"b"}', "read as `model`"),
        ('{"model":"a","\u017ftream":true}'.encode(), "read as `stream`"),
        (b'{"model":"a","STREAM_options":{}}', "read as `stream_options`"),
        (b'{"MODEL":"a","pad":"' + b"x" * LARGE_BYTES + b'"}', "read as `model`"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":[-Infinity]}', "-Infinity"),
        (b'{"a":1e400}', "finite double"),
        (b'{"a":[{"b":-1e400}]}', "finite double"),
        (b'{"a":' + b"9" * 309 + b"}", "finite double"),
        (b'{"a":' + b"9" * 5000 + b"}", "finite double"),
        (b'{"a":{"b":1e999,"b":1}}', "finite double"),
        (b'{"a":"\\ud800"}', "half a surrogate pair at character 6"),
        (b'{"a":"\\uDC00\\ud800"}', "half a surrogate pair"),
        (b'{"a":"\\ud83d\\\\ude00"}', "half a surrogate pair"),
        (b'{"a":"\\ud83d\\\\\\\\\\ude00"}', "half a surrogate pair"),
        (b'{"\\ud800":1}', "half a surrogate pair"),
        (b'{"a":{"b":"\\ud800","b":1}}', "half a surrogate pair"),
        (b'{"a":"\x01"}', "not valid JSON"),
        (b'{"a":"\\x"}', "not valid JSON"),
        (b'{"a":01}', "not valid JSON"),
        (b"{'a':1}", "not valid JSON"),
        (b'{"a":1,}', "not valid JSON"),
        (b'{"a" 1}', "not valid JSON"),
        (b'{"a":[1,]}', "not valid JSON"),
        (b'\xa0{"a":1}', "not UTF-8"),
        ('\u00a0{"a":1}'.encode(), "one JSON object"),
        (_nested(MAX_DEPTH + 1), "deeper than 128"),
        (_nested(100_000), "deeper than 128"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "deeper than 128"),
        (b'{"a":{"b":' + b"[" * 127 + b"]" * 127 + b',"b":1}}', "deeper than 128"),
        (b'{"long":"' + b"x" * 20_000 + b'",' + _nested(MAX_DEPTH + 1)[1:], "deeper than 128"),
    ],
)
def test_what_upstreams_could_read_differently_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(BadRequest, match=says.replace("(", r"\(")):
        decode(raw)


@pytest.mark.parametrize(
    "raw",
    [
        _nested(MAX_DEPTH),
        b'{"long":"' + b"x" * 20_000 + b'",' + _nested(MAX_DEPTH)[1:],
        b'{"long":"' + b"[{" * 20_000 + b'",' + _nested(MAX_DEPTH)[1:],
        b'{"a":"' + b"[{" * 500 + b'"}',
        b'{"a":"' + b'\\"[' * 500 + b'\\\\"}',
        b'{"a":[' + b"[]," * 300 + b"{}]}",
        b'{"a":"\\ud83d\\ude00"}',
        b'{"a":"\\\\ud800"}',
        b'{"a":"\\uD83D\\uDE00 \\\\\\\\ud800"}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":' + b"9" * 308 + b"}",
        b'{"a":-' + b"1" * 309 + b"}",
        b'{"a":1e-400}',
        b' \r\n\t{"a" : 1 } \n',
    ],
)
def test_what_only_looks_odd_passes(raw: bytes) -> None:
    assert decode(raw).text.encode() == raw


def test_a_body_may_have_a_thousand_names_and_a_repeated_one_is_found_among_them() -> None:
    names = [f'"{n}":1' for n in range(MAX_NAMES)]
    assert len(decode(f"{{{','.join(names)}}}".encode()).tree) == MAX_NAMES
    with pytest.raises(BadRequest, match='"7" more than once'):
        decode(f"{{{','.join([*names[1:], names[7]])}}}".encode())
    with pytest.raises(BadRequest, match="more than 1000 names"):
        decode(f"{{{','.join([*names, names[7]])}}}".encode())


def test_a_message_shows_no_more_of_the_body_than_a_short_name() -> None:
    name = b'"' + b"x" * 1000 + b'"'
    with pytest.raises(BadRequest) as caught:
        decode(b"{" + name + b":1," + name + b":2}")
    assert len(caught.value.message) < 100


@pytest.mark.parametrize("value", [None, 5, True, [], {}, "", "a\nb", "a\x00", "a\x7f", "a\x85"])
def test_a_model_is_a_name_in_one_line(value: object) -> None:
    with pytest.raises(BadRequest, match="model"):
        model_name({"model": value})


def test_a_model_must_be_given() -> None:
    with pytest.raises(BadRequest, match="no `model`"):
        model_name({})
    assert model_name({"model": "a/b c ä"}) == "a/b c ä"


@pytest.mark.parametrize("value", [None, 0, 1, "true", []])
def test_stream_is_a_boolean(value: object) -> None:
    with pytest.raises(BadRequest, match="stream"):
        stream_flag({"stream": value})
    assert stream_flag({}) is False
    assert stream_flag({"stream": True}) is True
