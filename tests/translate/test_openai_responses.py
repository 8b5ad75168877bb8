"""Codex, whose dialect this is, speaks to models of other makers, and clients of other dialects to OpenAI's."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.protocols.base import Event
from gproxy.protocols.sse import SseFramer
from gproxy.translate import exchange
from gproxy.translate.assembly import deltas_of
from gproxy.translate.base import ClientFacts, Dialect, TargetFacts
from gproxy.translate.exchange import StreamTranslation, Translated
from gproxy.translate.model import Answer, AnswerPart, Reasoning, Signature, Text, ToolCall
from gproxy.translate.registry import DIALECTS
from gproxy.values import Usage
from tests.translate.grammar import check_messages, check_responses, events_of

RESPONSES, CHAT = DIALECTS["openai_responses"], DIALECTS["openai_chat"]
ANTHROPIC, GEMINI = DIALECTS["anthropic_messages"], DIALECTS["gemini"]
FIXTURES = Path(__file__).parent.parent / "fixtures" / "translate"
NAMESPACED = "mcp__files.read_file"


def fixture(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / name).read_text("utf-8"))
    return found


def codex(target: Dialect, model: str) -> Translated:
    return exchange.request(RESPONSES, target, fixture("codex.json"), TargetFacts(model=model, stream=True))


def client_of(found: Translated) -> ClientFacts:
    return ClientFacts(
        model="my-alias", answer_id="7f", created=0, names=found.names, freeform=found.freeform
    )


def test_codex_speaks_to_a_claude() -> None:
    found = codex(ANTHROPIC, "claude-sonnet-4-5")
    tree = found.tree
    assert [block["text"] for block in tree["system"]][1].startswith("<permissions instructions>")
    assert [message["role"] for message in tree["messages"]] == ["user", "assistant"] * 3 + ["user"]
    asked = tree["messages"][0]["content"]
    assert [block["type"] for block in asked] == ["text", "text", "text", "image"]
    said = tree["messages"][1]["content"]
    assert [block["type"] for block in said] == ["text", "tool_use", "tool_use"]
    assert said[1]["input"] == {"cmd": "rg -n teh", "workdir": "/home/user/project"}
    (patched,) = tree["messages"][3]["content"]
    assert patched["input"]["input"].startswith("*** Begin Patch")
    assert tree["messages"][4]["content"][0]["tool_use_id"] == "call_9fQ4"
    assert [tool["name"] for tool in tree["tools"]][:5] == [
        "exec_command",
        "write_stdin",
        "update_plan",
        "apply_patch",
        "view_image",
    ]
    assert "lark" in tree["tools"][3]["description"]
    assert found.lost == {
        "client_metadata",
        "input[].phase",
        "input[].web_search_call",
        "reasoning",
        "tools.web_search",
        "verbosity",
    }
    assert tree["thinking"] == {"type": "enabled", "budget_tokens": 8192}
    assert tree["cache_control"] == {"type": "ephemeral"}
    assert found.freeform == {"apply_patch"}
    assert NAMESPACED in found.names.values()


def test_codex_speaks_to_a_chat_model_and_to_a_gemini() -> None:
    chat = codex(CHAT, "deepseek-v3.2")
    roles = [message["role"] for message in chat.tree["messages"]]
    assert roles == [
        *("system", "user", "user", "assistant", "tool", "tool"),
        *("assistant", "tool", "assistant", "user"),
    ]
    gemini = codex(GEMINI, "gemini-3-flash-preview")
    declared = gemini.tree["tools"][0]["functionDeclarations"]
    assert len(declared) == 7
    assert (
        sum("functionCall" in part for content in gemini.tree["contents"] for part in content["parts"]) == 3
    )


def events_told(target: Dialect, parts: Iterable[AnswerPart]) -> list[Event]:
    writer = target.writer(ClientFacts(model="m", answer_id="9", created=0))
    deltas = deltas_of(Answer(tuple(parts), "tools", Usage(9, 7)))
    return SseFramer().feed(b"".join(map(writer.feed, deltas)) + writer.end())


@pytest.mark.parametrize(
    ("target", "model"),
    [
        (ANTHROPIC, "claude-sonnet-4-5"),
        (CHAT, "deepseek-v3.2"),
        (GEMINI, "gemini-3-flash-preview"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_its_tools_are_called_as_it_knows_them(target: Dialect, model: str) -> None:
    found = codex(target, model)
    fitted = next((short for short, name in found.names.items() if name == NAMESPACED), NAMESPACED)
    calls = [
        ToolCall("call_1", fitted, '{"path":"a"}'),
        ToolCall("call_2", "apply_patch", '{"input":"*** Begin Patch"}'),
    ]
    translation = StreamTranslation(target, RESPONSES, client_of(found))
    told = [translation.feed(event) for event in events_told(target, [Text("Well"), *calls])]
    stream = b"".join(told) + translation.end() + translation.tail()
    check_responses(stream)
    last = json.loads(events_of(stream)[-1].data or b"")["response"]
    assert last["model"] == "my-alias"
    assert [item["type"] for item in last["output"]] == ["message", "function_call", "custom_tool_call"]
    called, patched = last["output"][1:]
    assert (called["namespace"], called["name"]) == ("mcp__files", "read_file")
    assert json.loads(called["arguments"]) == {"path": "a"}
    assert (patched["name"], patched["input"]) == ("apply_patch", "*** Begin Patch")


def test_a_signature_comes_back_by_a_client_that_keeps_its_items() -> None:
    thinking = {"type": "thinking", "thinking": "", "signature": "EqoB"}
    hidden = {"type": "redacted_thinking", "data": "EqoC"}
    used = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    client = ClientFacts(model="m", answer_id="7f", created=0)
    given = {"type": "message", "content": [thinking, hidden, used], "stop_reason": "tool_use"}
    output = exchange.answer(ANTHROPIC, RESPONSES, given, client)["output"]
    result = {"type": "function_call_output", "call_id": "toolu_1", "output": "ok"}
    request = {"input": [{"role": "user", "content": "a"}, *output, result]}
    back = exchange.request(RESPONSES, ANTHROPIC, request, TargetFacts(model="claude-sonnet-4-5"))
    assert back.tree["messages"][1]["content"] == [thinking, hidden, used]


def test_what_openai_thought_comes_back_to_it_by_another_client() -> None:
    own = Signature("gAAA", "openai_responses")
    parts = (Reasoning("hm", own), Reasoning("", own, redacted=True), ToolCall("call_1", "f", "{}"))
    client = ClientFacts(model="m", answer_id="7f", created=0)
    answer = RESPONSES.write_answer(Answer(parts, "tools"), client)
    message = exchange.answer(RESPONSES, ANTHROPIC, answer, client)
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "ok"}
    request = {
        "max_tokens": 100,
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": message["content"]},
            {"role": "user", "content": [result]},
        ],
    }
    back = exchange.request(ANTHROPIC, RESPONSES, request, TargetFacts(model="gpt-5.6"))
    first, second = back.tree["input"][1:3]
    assert (first["summary"], first["encrypted_content"]) == (
        [{"type": "summary_text", "text": "hm"}],
        "gAAA",
    )
    assert (second["summary"], second["encrypted_content"]) == ([], "gAAA")
    assert back.lost == frozenset()


def test_claude_code_speaks_to_a_model_that_reasons_beside_tools() -> None:
    found = exchange.request(
        ANTHROPIC, RESPONSES, fixture("claude_code.json"), TargetFacts(model="gpt-5.6", stream=True)
    )
    tree = found.tree
    assert len(tree["tools"]) == 45
    assert {tool["strict"] for tool in tree["tools"]} == {False}
    assert tree["reasoning"]["effort"] == "high"
    assert tree["store"] is False
    assert tree["include"] == ["reasoning.encrypted_content"]
    outputs = [item for item in tree["input"] if item["type"] == "function_call_output"]
    assert [item["call_id"] for item in outputs] == ["toolu_01A", "toolu_01B", "toolu_01C"]
    assert "thinking" not in found.lost
    translation = StreamTranslation(RESPONSES, ANTHROPIC, client_of(found))
    out = b"".join(
        map(translation.feed, events_told(RESPONSES, [Reasoning("hm"), ToolCall("c", "Bash", "{}")]))
    )
    check_messages(out + translation.end() + translation.tail())


def test_gemini_cli_speaks_to_a_model_of_openais() -> None:
    found = exchange.request(
        GEMINI, RESPONSES, fixture("gemini_cli.json"), TargetFacts(model="gpt-5.6", stream=True)
    )
    kinds = {item["type"] for item in found.tree["input"]}
    assert kinds == {"message", "function_call", "function_call_output"}


def test_what_was_said_before_cannot_be_fetched_from_another_provider() -> None:
    request = {"input": "a", "previous_response_id": "resp_1"}
    with pytest.raises(BadRequest, match="`previous_response_id`"):
        exchange.request(RESPONSES, ANTHROPIC, request, TargetFacts(model="claude-sonnet-4-5"))
