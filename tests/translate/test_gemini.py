"""Gemini's clients at other models, and other clients at Gemini's: requests of the Gemini CLI and of Claude Code."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.genai import types
from hypothesis import given, settings

from gproxy.protocols.json_array import JsonArrayFramer
from gproxy.protocols.sse import SseFramer
from gproxy.translate import exchange
from gproxy.translate.assembly import answer_of, deltas_of
from gproxy.translate.base import ClientFacts, TargetFacts
from gproxy.translate.exchange import StreamTranslation
from gproxy.translate.gemini.thoughts import UNSIGNED
from gproxy.translate.model import Answer, Part, Reasoning, Text
from gproxy.translate.registry import DIALECTS
from gproxy.values import Usage
from tests.translate.conversations import answers
from tests.translate.grammar import check_deltas, check_gemini, check_messages, events_of

CHAT, ANTHROPIC, GEMINI = (DIALECTS[name] for name in ("openai_chat", "anthropic_messages", "gemini"))
FIXTURES = Path(__file__).parents[1] / "fixtures" / "translate"
CLIENT = ClientFacts(model="m", answer_id="7f", created=0)


def fixture(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / name).read_text("utf-8"))
    return found


def test_the_gemini_cli_speaks_to_a_chat_model() -> None:
    found = exchange.request(
        GEMINI, CHAT, fixture("gemini_cli.json"), TargetFacts(model="gpt-4.1", stream=True)
    )
    messages = found.tree["messages"]
    assert [m["role"] for m in messages] == [
        "system",
        "user",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "user",
    ]
    calls = messages[3]["tool_calls"]
    assert [call["id"] for call in calls] == [m["tool_call_id"] for m in messages[4:6]]
    assert json.loads(calls[0]["function"]["arguments"]) == {"file_path": "/w/a.py"}
    assert [m["content"] for m in messages[4:6]] == ['print("hä")\n', "Command not found"]
    assert messages[6]["content"] == "It would print `hä`."
    assert messages[7]["content"][2]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert len(found.tree["tools"]) == 13
    assert found.tree["temperature"] == 1
    assert found.lost == {"reasoning", "thinking", "tool_result.is_error", "top_k"}


def test_the_gemini_cli_speaks_to_a_claude() -> None:
    facts = TargetFacts(model="claude-sonnet-4-5", stream=True)
    found = exchange.request(GEMINI, ANTHROPIC, fixture("gemini_cli.json"), facts)
    messages = found.tree["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
    used = [block for block in messages[1]["content"] if block["type"] == "tool_use"]
    assert [block["id"] for block in used] == [block["tool_use_id"] for block in messages[2]["content"]]
    assert messages[2]["content"][1]["is_error"] is True
    assert found.tree["thinking"] == {"type": "enabled", "budget_tokens": 8192}


def test_the_gemini_cli_is_answered_with_thoughts_it_can_send_back() -> None:
    given = {
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "EqoB"},
            {"type": "tool_use", "id": "toolu_1", "name": "glob", "input": {"pattern": "*"}},
        ],
        "stop_reason": "tool_use",
    }
    answer = exchange.answer(ANTHROPIC, GEMINI, given, CLIENT)
    content = answer["candidates"][0]["content"]
    response = {"functionResponse": {"name": "glob", "response": {"output": "a"}}}
    request = {"contents": [{"parts": [{"text": "a"}]}, content, {"role": "user", "parts": [response]}]}
    back = exchange.request(GEMINI, ANTHROPIC, request, TargetFacts(model="claude-sonnet-4-5"))
    assert back.tree["messages"][1]["content"] == given["content"]
    assert back.tree["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a"}
    ]


def test_claude_code_speaks_to_gemini() -> None:
    request = fixture("claude_code.json")
    found = exchange.request(ANTHROPIC, GEMINI, request, TargetFacts(model="gemini-3.5-flash", stream=True))
    contents = found.tree["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user", "user", "model", "user"]
    calls = [part for part in contents[1]["parts"] if "functionCall" in part]
    assert [call.get("thoughtSignature") for call in calls] == [UNSIGNED, None]
    assert [part["functionResponse"]["name"] for part in contents[2]["parts"]] == [
        call["functionCall"]["name"] for call in calls
    ]
    assert len(found.tree["tools"][0]["functionDeclarations"]) == 45
    assert found.tree["generationConfig"]["thinkingConfig"]["thinkingLevel"] == "HIGH"
    assert b'"id"' not in json.dumps(contents).encode()
    keywords = {name for name in found.lost if name.startswith("schema.")}
    assert found.lost - keywords >= {"cache_control", "context_management", "reasoning", "user"}


def test_a_claude_streams_to_the_gemini_sdk_and_gemini_to_claude_code() -> None:
    gemini = (
        b'data: {"candidates":[{"content":{"parts":[{"text":"hm","thought":true}]}}]}\n\n'
        b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}},'
        b'"thoughtSignature":"EqoB"}]},"finishReason":"STOP"}],'
        b'"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2}}\n\n'
    )
    translation = StreamTranslation(GEMINI, ANTHROPIC, CLIENT)
    out = b"".join(map(translation.feed, SseFramer().feed(gemini))) + translation.end()
    assert translation.finished
    stream = out + translation.tail()
    check_messages(stream)
    assert b'"stop_reason":"tool_use"' in stream
    assert b"gproxy-call.gemini.EqoB" in stream
    back = StreamTranslation(ANTHROPIC, GEMINI, CLIENT)
    again = b"".join(map(back.feed, SseFramer().feed(stream))) + back.end() + back.tail()
    check_gemini(again)
    assert b'"args":{"a":1}' in again


@pytest.mark.parametrize(
    ("case", "framer"),
    [("stream_sse/stream.txt", SseFramer), ("stream_array/stream.json.txt", JsonArrayFramer)],
)
def test_a_stream_of_googles_is_read_in_either_framing(
    case: str, framer: Callable[[], SseFramer | JsonArrayFramer]
) -> None:
    reader, framing = GEMINI.reader(), framer()
    stream = (FIXTURES.parent / "gemini" / case).read_bytes()
    deltas = [delta for event in framing.feed(stream) for delta in reader.feed(event)] + reader.end()
    check_deltas(deltas)
    assert answer_of(deltas) == Answer(
        (Reasoning("Hm"), Text("Hello!")), "stop", Usage(8, 15, reasoning_tokens=12)
    )


@settings(deadline=None)
@given(answers("gemini") | answers("anthropic_messages"))
def test_the_official_sdk_understands_an_answer_and_sends_it_back_whole(answer: Answer) -> None:
    whole = GEMINI.write_answer(answer, CLIENT)
    writer = GEMINI.writer(CLIENT)
    streamed = b"".join(map(writer.feed, deltas_of(answer))) + writer.end()
    chunks = [json.loads(event.data or b"") for event in events_of(streamed)]
    parts = [replace(part, citations=()) if isinstance(part, Text) else part for part in answer.parts]
    assert sent_back([whole]) == parts
    assert sent_back(chunks) == parts


def sent_back(trees: list[dict[str, Any]]) -> list[Part]:
    """What is read of a history to which the SDK's types were given these answers; it has no sources."""
    contents: list[Any] = [{"role": "user", "parts": [{"text": "a"}]}]
    for tree in trees:
        response = types.GenerateContentResponse.model_validate(tree)
        assert response.candidates is not None
        content = response.candidates[0].content
        assert content is not None
        contents.append(json.loads(content.model_dump_json(by_alias=True, exclude_none=True)))
    turns = GEMINI.read_request({"contents": contents}).conversation.turns
    return list(turns[1].parts)
