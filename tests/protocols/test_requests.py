"""One value changes in a request, and an output limit is a number."""

import pytest

from gproxy.errors import BadRequest
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.requests import answers_asked, read_plain, token_limit, with_model
from gproxy.protocols.strict import decode


def test_a_body_whose_model_needs_no_change_stays_as_it_came() -> None:
    raw = b' {"model" : "a/\\u0062","x": 1.50e1, "y":"\\u00e4"}\n'
    facts = read_plain(decode(raw), None, "")
    assert facts.model == "a/b"
    assert with_model(facts, "a/b", True) == raw


def test_only_the_models_value_changes() -> None:
    raw = b'{"tools":[{"model":"a"}], "model" : "a","x":"\\"model\\":\\"a\\""}'
    changed = with_model(read_plain(decode(raw), None, ""), 'b"c', False)
    assert changed == b'{"tools":[{"model":"a"}], "model" : "b\\"c","x":"\\"model\\":\\"a\\""}'


def test_the_largest_limit_counts() -> None:
    assert token_limit({"a": 5, "b": 7.0, "c": None}, "a", "b", "c") == 7
    assert token_limit({}, "a") is None


def test_a_negative_limit_is_none_and_goes_up_as_it_came() -> None:
    assert token_limit({"a": -1}, "a", "b") is None
    assert token_limit({"a": -2.0, "b": 5}, "a", "b") == 5
    raw = b'{"model":"m","max_tokens": -1}'
    facts = CHAT.read(decode(raw), None, "")
    assert facts.max_output_tokens is None
    assert CHAT.with_model(facts, "m", False) == raw


@pytest.mark.parametrize("value", [1.5, "5", True, [], {}])
def test_a_limit_that_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(BadRequest, match="max_tokens"):
        token_limit({"max_tokens": value}, "max_tokens")


@pytest.mark.parametrize(
    ("tree", "count"),
    [({}, 1), ({"n": 4}, 4), ({"n": 2, "best_of": 5}, 5), ({"n": 0}, 1), ({"n": "9"}, 1), ({"n": True}, 1)],
)
def test_the_answers_asked_for_are_counted(tree: dict[str, object], count: int) -> None:
    assert answers_asked(tree, "n", "best_of") == count


@pytest.mark.parametrize(
    ("raw", "tier"),
    [
        (b'{"model": "m"}', None),
        (b'{"model": "m", "service_tier": "auto"}', None),
        (b'{"model": "m", "service_tier": "flex"}', "flex"),
        (b'{"model": "m", "service_tier": "auto", "speed": "fast"}', "fast"),
        (b'{"model": "m", "service_tier": 5}', None),
    ],
)
def test_the_class_of_service_asked_for_is_read(raw: bytes, tier: str | None) -> None:
    assert read_plain(decode(raw), None, "").service_tier == tier
