"""Decoded in steps, however small, a text is what it is when decoded at once; and no step is long."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gproxy.errors import BadRequest
from gproxy.protocols import steps, strict
from gproxy.protocols.jsonwalk import LENIENT
from tests.fuzz.shapes import anything, damaged, odd, text_of, variants, wrong


@pytest.fixture(params=[(1, 2, 1), (3, 14, 5), (128, 1024, 4096)], ids=str)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long, piece = request.param
    monkeypatch.setattr(steps, "_SHORT_CHARS", short)
    monkeypatch.setattr(steps, "STEP_CHARS", max(long, 13))  # two escapes and what follows them
    monkeypatch.setattr(steps, "PLAIN_CHARS", 2 * long)
    monkeypatch.setattr(steps, "TEXT_BYTES", piece)


def told(raw: bytes, *, large: bool) -> Any:
    """What a body comes to, or that it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict, "LARGE_BYTES", -1 if large else 10**9)
        try:
            body = strict.decode(raw)
        except BadRequest:
            return "refused"
        return body.text, json.dumps(body.tree), body.spans


TEXTS = [
    '{"a":"\\ud83d\\ude00\\ud83d\\ude00 é雪😀\\\\\\"\\u00e9\\n"}',
    '{"a":"xxxxxxxxxxxxxxxxxxxxxxxxxxxx\\ud83d"}',
    '{"a":"\\ude00xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}',
    '{"a":["xxxxxxxxxxxxxxxxxxx\\u000","b"]}',
    '{"a":[1,2.5,-1e3,true,null,[],{},[[[]]],{"":{}}] , "b" : {"x":"\\t","x":2}}',
    '{"a":' + "[" * 127 + "]" * 127 + "}",
    '{"a":' + "[" * 128 + "]" * 128 + "}",
    '{"a":' + '{"b":[' * 70 + "]}" * 70 + "}",
    '{"a":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',
    '{"a":"xxxxxxxxxxxxxxxxxxxxxxxxxxxx\x01xxxxxxxxxxxxxxxxx"}',
    '{"a":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,]}',
    '{"a":' + "9" * 400 + "}",
    '{"a":' + "1" * 310 + "e-5}",
]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "text", ['{"a":["x\\n\\ud83d\\ude00"],"b":{"c":[1,2.5]}}', '["' + "x" * 100 + '"]', "12"]
)
def test_what_was_accepted_is_read_again_in_steps(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    whole = steps.again(text)(text, 0)
    monkeypatch.setattr(steps, "LARGE_CHARS", 0)
    assert steps.again(text) is not LENIENT
    assert steps.again(text)(text, 0) == whole == (json.loads(text), len(text))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_the_same_in_steps(text: str) -> None:
    assert told(text.encode(), large=True) == told(text.encode(), large=False)


@pytest.mark.usefixtures("small")
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tree=variants(
        {"model": "m", "x": [{"role": "user", "content": [{"text": "hé"}]}]}, anything | odd | wrong
    )
)
def test_any_text_is_the_same_in_steps(tree: Any) -> None:
    raw = text_of(tree).encode("utf-8", "surrogatepass")
    assert told(raw, large=True) == told(raw, large=False)


@pytest.mark.usefixtures("small")
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(raw=st.sampled_from(TEXTS).flatmap(lambda text: damaged(text.encode())))
@example(raw=b'{"a":"\xff"}')
@example(raw=b'{"a":"\xe9\x9b"}')
def test_any_bytes_are_the_same_in_steps(raw: bytes) -> None:
    assert told(raw, large=True) == told(raw, large=False)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("at", [0, 1, 4, 5, 6, 17])
def test_where_utf8_ends_is_told(at: int) -> None:
    raw = b"a" * at + b"\xe9\x9b" + b"a" * 20
    with pytest.raises(UnicodeDecodeError) as found:
        steps.text_of(raw)
    assert found.value.start == at


@pytest.mark.parametrize(
    "values",
    ["[]," * 150_000, '{"a":1},' * 100_001, "1," * 500_001, '"a",' * 500_001],
    ids=["arrays", "objects", "numbers", "texts"],
)
def test_there_is_a_limit_to_values(values: str) -> None:
    raw = f'{{"model":"m","x":[{values}1]}}'.encode()
    with pytest.raises(BadRequest, match="values"):
        strict.decode(raw)


def test_many_values_are_no_fault_and_what_looks_like_some_inside_a_text_are_none() -> None:
    raw = json.dumps({"model": "m", "x": [1] * 400_000, "y": "[{,]}" * 300_000}).encode()
    assert strict.is_large(raw)
    assert len(strict.decode(raw).tree["x"]) == 400_000


@pytest.mark.parametrize(
    "value",
    [
        '"' + "a" * 8_000_000 + '"',
        '"' + "a" * 1_000_000 + '"',
        '"' + "\\n" * 4_000_000 + '"',
        "[" + "[]," * 20_000 + "1]",
        "[" + "1," * 80_000 + "1]",
    ],
    ids=["text", "short text", "escapes", "arrays", "numbers"],
)
def test_no_step_is_long(value: str) -> None:
    """How long one is, and not how long it takes: the machine may be busy otherwise."""
    steps_made = 0
    limit = steps.PLAIN_CHARS if value[0] == '"' else steps.STEP_CHARS

    def one_step(text: str, at: int) -> tuple[Any, int]:
        nonlocal steps_made
        steps_made += 1
        found, end = json.JSONDecoder().raw_decode(text, at)
        assert end - at <= (steps.STEP_CHARS if "\\" in text else limit) + 2
        return found, end

    found, end = steps.Steps(one_step, lambda piece, _: None).value(value, 0)
    assert (found, end) == (json.loads(value), len(value))
    assert steps_made >= len(value) // (steps.STEP_CHARS if "\\" in value else limit)
