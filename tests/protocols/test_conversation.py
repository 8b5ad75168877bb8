"""Which requests belong to one conversation, by what clients say and by what their turns share."""

import json
from typing import Any

import pytest

from gproxy.protocols import strict
from gproxy.protocols.conversation import conversation_key

Headers = list[tuple[bytes, bytes]]


def key(tree: dict[str, Any], headers: Headers | None = None) -> bytes | None:
    return conversation_key(headers or [], strict.decode(json.dumps(tree).encode()))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


ANSWER = {"role": "assistant", "content": "yes"}
FIRST = {"model": "m", "messages": [user("hello")]}


@pytest.mark.parametrize(
    "name", [b"x-claude-code-session-id", b"session_id", b"session-id", b"x-session-id", b"conversation_id"]
)
def test_a_header_names_the_conversation(name: bytes) -> None:
    one, same, other = (key(FIRST, [(name, value)]) for value in (b"1", b"1", b"2"))
    assert one is not None
    assert one == same != other
    assert key(FIRST, [(name, b"")]) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_cache_key": "1"},
        {"metadata": {"user_id": "1"}},
        {"conversation": "1"},
        {"conversation": {"id": "1"}},
    ],
)
def test_a_field_names_the_conversation(fields: dict[str, Any]) -> None:
    other = json.loads(json.dumps(fields).replace("1", "2"))
    assert key(FIRST | fields) == key({"messages": [user("else")]} | fields) is not None
    assert key(FIRST | fields) != key(FIRST | other)


@pytest.mark.parametrize(
    "fields", [{"user": "1"}, {"prompt_cache_key": 7}, {"metadata": "x"}, {"metadata": {"user_id": ""}}]
)
def test_a_user_is_no_conversation_and_a_wrong_type_names_none(fields: dict[str, Any]) -> None:
    assert key(FIRST | fields) is None


def test_a_header_comes_before_a_field() -> None:
    headers = [(b"session_id", b"s")]
    assert key(FIRST | {"prompt_cache_key": "1"}, headers) == key(FIRST, headers)


def test_short_first_prompts_have_no_key() -> None:
    assert key(FIRST) is None
    assert key({"model": "m", "input": "hello"}) is None
    assert key({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}) is None


def turns(*texts: str) -> list[dict[str, Any]]:
    return [entry for text in texts for entry in (user(text), ANSWER)]


@pytest.mark.parametrize("instructions", [{}, {"system": "be brief"}, {"tools": [{"name": "t"}]}])
def test_the_turns_of_a_conversation_share_its_beginning(instructions: dict[str, Any]) -> None:
    def turn(*texts: str) -> bytes | None:
        return key({"model": "m", **instructions, "messages": [*turns(*texts), user("next")]})

    assert turn("a") == turn("a", "b") == turn("a", "b", "c") is not None
    assert turn("a") != turn("b")


def test_a_mark_of_what_is_to_be_cached_may_move_on_with_each_turn() -> None:
    def turn(*messages: dict[str, Any]) -> bytes | None:
        return key({"messages": [*messages], "system": "x" * 4096})

    block: dict[str, Any] = {"type": "text", "text": "a"}
    marked = user("a") | {"content": [block | {"cache_control": {"type": "ephemeral"}}]}
    rest = [ANSWER, user("b")]
    assert turn(marked) == turn(user("a") | {"content": [block]}, *rest) == turn(user("a"), *rest) is not None
    assert turn(marked) != turn(user("b"))
    assert turn(marked) != turn(user("a") | {"content": [block, block]})


def test_instructions_are_part_of_the_beginning() -> None:
    def with_(**more: Any) -> bytes | None:
        return key({"messages": [*turns("a"), user("b")], **more})

    keys = {with_(), with_(system="x"), with_(system="y"), with_(tools=[{"name": "x"}]), with_(tools=[])}
    assert len(keys) == 5
    # What is asked for may change from turn to turn.
    assert with_(temperature=1) == with_(temperature=0, stream=True)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_leading_instructions_among_the_turns_are_read_up_to_the_first_user(role: str) -> None:
    lead = [{"role": role, "content": "be brief"}]
    one = key({"messages": [*lead, *turns("a"), user("b")]})
    assert one == key({"messages": [*lead, *turns("a", "c"), user("b")]})
    assert one != key({"messages": [*lead, *turns("z"), user("b")]})


def test_gemini_and_responses_have_turns_too() -> None:
    def gemini(first: str, last: str) -> bytes | None:
        roles = [("user", first), ("model", "yes"), ("user", last)]
        return key({"contents": [{"role": role, "parts": [{"text": text}]} for role, text in roles]})

    assert gemini("a", "b") == gemini("a", "c") is not None
    assert gemini("a", "b") != gemini("z", "b")

    def responses(first: str, last: str) -> bytes | None:
        return key({"instructions": "x", "input": [user(first), ANSWER, user(last)]})

    assert responses("a", "b") == responses("a", "c") is not None
    assert responses("a", "b") != responses("z", "b")


def test_a_long_first_prompt_may_be_cached() -> None:
    long = {"system": "x" * 4096, "messages": [user("a")]}
    assert key(long) is not None
    assert key(long) == key(long | {"messages": [*turns("a"), user("b")]})


def test_a_long_body_without_turns_or_instructions_has_no_key() -> None:
    assert key({"input": "x" * 5000}) is None


def test_any_text_can_be_hashed() -> None:
    assert key({"prompt_cache_key": "ключ 🔑"}) is not None


def test_what_is_long_is_told_by_its_beginning() -> None:
    def image(data: str, last: str) -> bytes | None:
        part = {"type": "image_url", "image_url": {"url": data}}
        return key({"messages": [{"role": "user", "content": [part]}, ANSWER, user(last)]})

    assert image("a" * 10**6, "x") == image("a" * 10**6 + "b", "y") is not None
    assert image("a" * 10**6, "x") != image("b" * 10**6, "x")


@pytest.mark.parametrize("role", ["user", "system"])
def test_what_is_wide_is_told_by_its_beginning(role: str) -> None:
    def wide(first: str, last: str) -> bytes | None:
        one = {
            "role": role,
            "content": [{"type": "text", "text": text} for text in (first, *"x" * 2000, last)],
        }
        many = [{"role": role, "content": text} for text in (first, *"x" * 2000, last)]
        return key({"messages": [*([one] if role == "user" else many), *turns("a")]})

    assert wide("a", "y") == wide("a", "z") != wide("b", "y")
