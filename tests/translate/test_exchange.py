"""Two dialects together: requests of real clients, their answers and streams, and what is told of the rest."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import AnswerBroken, BadRequest
from gproxy.protocols.base import Event
from gproxy.protocols.sse import SseFramer
from gproxy.translate import exchange
from gproxy.translate.base import ClientFacts, TargetFacts
from gproxy.translate.exchange import StreamTranslation, untranslated
from gproxy.translate.registry import DIALECTS
from tests.translate.grammar import check_chat, check_messages

CHAT, ANTHROPIC = DIALECTS["openai_chat"], DIALECTS["anthropic_messages"]
FIXTURES = Path(__file__).parent.parent / "fixtures" / "translate"
LONG = "mcp__plugin_a_very_long_plugin_name__a_server_with_a_long_name__list_all_things"


def claude_code() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / "claude_code.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("target", DIALECTS)
@pytest.mark.parametrize(
    ("client", "name"),
    [("anthropic_messages", "claude_code"), ("openai_responses", "codex"), ("gemini", "gemini_cli")],
)
def test_a_request_stays_as_it_came(client: str, name: str, target: str) -> None:
    """Further attempts are made with it, and other requests hold the same tools."""
    raw = (FIXTURES / f"{name}.json").read_text("utf-8")
    tree = json.loads(raw)
    for model in ("gpt-5.1", "claude-sonnet-4-5", "gemini-3-pro", "some-model"):
        exchange.request(DIALECTS[client], DIALECTS[target], tree, TargetFacts(model=model))
        assert tree == json.loads(raw)


def test_claude_code_speaks_to_a_chat_model() -> None:
    request = claude_code()
    found = exchange.request(ANTHROPIC, CHAT, request, TargetFacts(model="gpt-5.1", stream=True))
    tree = found.tree
    roles = [message["role"] for message in tree["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "user", "assistant", "tool", "user"]
    assert tree["messages"][0]["content"].startswith(
        "You are Claude Code, Anthropic's official CLI for Claude.\n\n"
    )
    calls = tree["messages"][2]["tool_calls"]
    assert [call["id"] for call in calls] == ["toolu_01A", "toolu_01B"]
    assert json.loads(calls[1]["function"]["arguments"]) == {"command": "python a.py", "timeout": 1000}
    assert [message.get("tool_call_id") for message in tree["messages"][3:5]] == ["toolu_01A", "toolu_01B"]
    assert tree["messages"][8]["content"][0]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert len(tree["tools"]) == 45
    assert tree["tools"][0]["function"]["parameters"] == request["tools"][0]["input_schema"]
    assert (tree["max_completion_tokens"], tree["reasoning_effort"]) == (32000, "high")
    assert tree["stream_options"] == {"include_usage": True}
    assert len(tree["user"]) == 64
    assert found.lost == {"cache_control", "context_management", "reasoning", "tool_result.is_error"}
    assert list(found.names.values()) == [LONG]


def test_its_tools_are_called_by_their_own_names() -> None:
    found = exchange.request(ANTHROPIC, CHAT, claude_code(), TargetFacts(model="gpt-5.1"))
    client = ClientFacts(model="m", answer_id="7f", created=0, names=found.names)
    (short,) = found.names
    call = {"id": "call_1", "type": "function", "function": {"name": short, "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = exchange.answer(CHAT, ANTHROPIC, {"choices": [{"message": message}]}, client)
    assert answer["content"] == [{"type": "tool_use", "id": "call_1", "name": LONG, "input": {}}]
    translation = StreamTranslation(CHAT, ANTHROPIC, client)
    chunk = {
        "choices": [
            {"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": "tool_calls"}
        ]
    }
    out = translation.feed(Event(b"", json.dumps(chunk).encode())) + translation.end() + translation.tail()
    check_messages(out)
    assert LONG.encode() in out


def test_a_signature_comes_back_by_a_client_that_keeps_what_it_was_given() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "EqoB"}
    used = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    client = ClientFacts(model="m", answer_id="7f", created=0)
    given = {"type": "message", "content": [thinking, used], "stop_reason": "tool_use"}
    message = exchange.answer(ANTHROPIC, CHAT, given, client)["choices"][0]["message"]
    back = exchange.request(
        CHAT,
        ANTHROPIC,
        {
            "messages": [
                {"role": "user", "content": "a"},
                message,
                {"role": "tool", "tool_call_id": "toolu_1", "content": "ok"},
            ]
        },
        TargetFacts(model="claude-sonnet-4-5"),
    )
    assert back.tree["messages"][1]["content"] == [thinking, used]


def test_tools_that_take_text_do_so_again_on_the_way_back() -> None:
    request = {
        "messages": [{"role": "user", "content": "a"}],
        "tools": [{"type": "custom", "custom": {"name": "patch"}}],
    }
    found = exchange.request(CHAT, ANTHROPIC, request, TargetFacts(model="claude-sonnet-4-5"))
    assert found.freeform == {"patch"}
    client = ClientFacts(model="m", answer_id="7f", created=0, freeform=found.freeform)
    used = {"type": "tool_use", "id": "t", "name": "patch", "input": {"input": "*** Begin"}}
    answer = exchange.answer(ANTHROPIC, CHAT, {"content": [used], "stop_reason": "tool_use"}, client)
    assert answer["choices"][0]["message"]["tool_calls"] == [
        {"id": "t", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}
    ]


def test_what_is_lost_on_either_side_is_named() -> None:
    request = {"messages": [{"role": "user", "content": "a"}], "logit_bias": {"1": 2}, "seed": 3}
    found = exchange.request(CHAT, ANTHROPIC, request, TargetFacts(model="claude-sonnet-4-5"))
    assert found.lost == {"logit_bias", "seed"}


def test_json_of_no_schema_is_refused_where_it_cannot_be_asked_for() -> None:
    request = {"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_object"}}
    with pytest.raises(BadRequest, match="JSON"):
        exchange.request(CHAT, ANTHROPIC, request, TargetFacts(model="claude-sonnet-4-5"))


def test_nothing_is_said_after_the_end() -> None:
    translation = StreamTranslation(ANTHROPIC, CHAT, ClientFacts(model="m", answer_id="1", created=0))
    stream = (
        b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","content_block":{"type":"text"}}\n\n'
    )
    out = b"".join(map(translation.feed, SseFramer().feed(stream)))
    assert translation.finished
    check_chat(out + translation.end() + translation.tail())


def test_a_target_that_answers_in_the_other_form_is_understood() -> None:
    client = ClientFacts(model="m", answer_id="7f", created=0)
    whole = {
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {"output_tokens": 1},
    }
    translation = StreamTranslation(ANTHROPIC, CHAT, client)
    out, tail = translation.whole(whole) + translation.end(), translation.tail()
    check_chat(out + tail)
    events = SseFramer().feed(out + tail)
    again = exchange.collected(CHAT, ANTHROPIC, events, client)
    assert again["content"] == whole["content"]
    with pytest.raises(AnswerBroken):
        exchange.collected(CHAT, ANTHROPIC, events[:2], client)


def test_what_was_lost_is_named_in_order() -> None:
    assert (
        untranslated(frozenset({"seed", "logit_bias", "messages[].name"}))
        == "logit_bias, messages[].name, seed"
    )
    assert untranslated(frozenset()) == ""


@given(st.frozensets(st.text()))
def test_names_that_a_client_chose_cannot_break_the_header(names: frozenset[str]) -> None:
    value = untranslated(names)
    assert value.isascii()
    assert value.isprintable()
    assert len(value) < 4096


def test_very_many_names_are_counted() -> None:
    assert untranslated(frozenset(map(str, range(100)))).endswith(", and_68_more")
