"""Gemini's clients at other models, and other clients at Gemini's: requests of the Gemini CLI and of Claude Code."""

import json
from pathlib import Path
from typing import Any

from gproxy.protocols.sse import SseFramer
from gproxy.translate import exchange
from gproxy.translate.base import ClientFacts, TargetFacts
from gproxy.translate.exchange import StreamTranslation
from gproxy.translate.gemini.thoughts import UNSIGNED
from gproxy.translate.registry import DIALECTS
from tests.translate.grammar import check_gemini, check_messages

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
