"""Conversations through dialects and back: unchanged by their own, and whole in what counts by another."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings

from gproxy.translate.base import TargetFacts
from gproxy.translate.model import (
    Conversation,
    Part,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from gproxy.translate.registry import DIALECTS
from tests.translate.conversations import (
    ANTHROPIC,
    CHAT,
    GEMINI,
    OPENAI,
    RESPONSES,
    Speech,
    conversations,
    plainer,
)

MODELS = {
    "openai_chat": "llama-3.3-70b",
    "anthropic_messages": "claude-3-7-sonnet-latest",
    "gemini": "gemini-3-flash-preview",
    "openai_responses": "gpt-4.1",
}


def passed(conversation: Conversation, dialect: str, model: str) -> Conversation:
    """What a target of `dialect` is told, read as if a client had said it."""
    written = DIALECTS[dialect].write_request(conversation, TargetFacts(model=model))
    read = DIALECTS[dialect].read_request(written.tree)
    return read.conversation


@settings(deadline=None)
@given(conversations(CHAT))
def test_a_chat_conversation_is_unchanged_by_its_dialect(conversation: Conversation) -> None:
    assert passed(conversation, "openai_chat", "llama-3.3-70b") == conversation


@settings(deadline=None)
@given(conversations(OPENAI))
def test_a_conversation_with_a_model_of_openais_is_unchanged(conversation: Conversation) -> None:
    assert passed(conversation, "openai_chat", "gpt-4.1") == conversation


@settings(deadline=None)
@given(conversations(ANTHROPIC))
def test_an_anthropic_conversation_is_unchanged_by_its_dialect(conversation: Conversation) -> None:
    assert passed(conversation, "anthropic_messages", "claude-3-7-sonnet-latest") == with_tools(conversation)


@settings(deadline=None)
@given(conversations(GEMINI))
def test_a_gemini_conversation_is_unchanged_by_its_dialect(conversation: Conversation) -> None:
    assert passed(conversation, "gemini", "gemini-3-flash-preview") == numbered(conversation)


@settings(deadline=None)
@given(conversations(RESPONSES))
def test_a_responses_conversation_is_unchanged_by_its_dialect(conversation: Conversation) -> None:
    assert passed(conversation, "openai_responses", "gpt-4.1") == conversation


@pytest.mark.parametrize("speech", [CHAT, ANTHROPIC, GEMINI, RESPONSES], ids=lambda speech: speech.dialect)
def test_another_dialect_keeps_texts_tools_calls_and_results(speech: Speech) -> None:
    @settings(deadline=None)
    @given(conversations(speech))
    def holds(conversation: Conversation) -> None:
        for dialect in sorted(DIALECTS):  # to make a conversation takes longer than all that is done with it
            kept(plainer(conversation), speech.dialect, dialect)

    holds()


def kept(conversation: Conversation, own: str, dialect: str) -> None:
    """Fails unless a conversation of the dialect `own` is the same after another."""
    if "gemini" in (dialect, own):
        conversation = numbered(conversation)
    again = passed(passed(conversation, dialect, MODELS[dialect]), own, MODELS[own])
    assert list(told(again)) == list(told(conversation)), dialect
    if "anthropic_messages" in (dialect, own) and not conversation.tools:
        conversation = with_tools(conversation)
        assert [tool.name for tool in again.tools] == [tool.name for tool in conversation.tools], dialect
    else:
        assert [(tool.name, tool.schema) for tool in again.tools] == [
            (tool.name, tool.schema) for tool in conversation.tools
        ], dialect
    assert again.tool_choice == conversation.tool_choice, dialect


def with_tools(conversation: Conversation) -> Conversation:
    """The conversation after Anthropic's dialect, where tools that were called must be defined."""
    names = {p.name: None for turn in conversation.turns for p in turn.parts if isinstance(p, ToolCall)}
    if conversation.tools or not names:
        return conversation
    tools = tuple(Tool(name, schema={"type": "object", "properties": {}}) for name in names)
    return replace(conversation, tools=tools, tool_choice=ToolChoice("none"))


def numbered(conversation: Conversation) -> Conversation:
    """The conversation with the ids of calls that it has after a dialect without ids."""
    known: dict[str, str] = {}

    def part_of(part: Part) -> Part:
        if isinstance(part, ToolCall):
            return replace(part, id=known.setdefault(part.id, f"call_{len(known) + 1}"))
        return replace(part, call_id=known[part.call_id]) if isinstance(part, ToolResult) else part

    turns = tuple(Turn(turn.role, tuple(map(part_of, turn.parts))) for turn in conversation.turns)
    return replace(conversation, turns=turns)


def told(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """Who says which text, calls what and gets which result; neighbouring texts are one."""
    texts = [("system", part.text) for part in conversation.system]
    for turn in conversation.turns:
        for part in turn.parts:
            texts += told_by(turn.role, part)
    who, said = "", ""
    for role, text in texts:
        if role == who:
            said += text
            continue
        if who:
            yield who, said.replace("\n", "")
        who, said = role, text
    yield who, said.replace("\n", "")


def told_by(role: str, part: Part) -> list[tuple[str, str]]:
    match part:
        case Text(text) | Refusal(text):
            return [(role, text)]
        case ToolCall():
            return [(f"call {part.id}", f"{part.name} {part.arguments}")]
        case ToolResult():
            texts = [inner.text for inner in part.parts if isinstance(inner, Text)]
            return [(f"result {part.call_id}", "".join(texts) or "See the image or file below.")]
    return []
