"""Whatever is sent, a client is told what is wrong with it, and an upstream's answer is broken or read: no faults."""

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import AnswerBroken, BadRequest
from gproxy.protocols.base import Event
from gproxy.protocols.sse import SseFramer
from gproxy.translate import exchange
from gproxy.translate.assembly import deltas_of
from gproxy.translate.base import ClientFacts, TargetFacts
from gproxy.translate.model import (
    Answer,
    Citation,
    Conversation,
    File,
    Format,
    Image,
    Reasoning,
    Signature,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from gproxy.translate.registry import DIALECTS
from gproxy.values import Usage

NAMES = sorted(DIALECTS)
CLIENT = ClientFacts(model="m", answer_id="1", created=0)
CALL = ToolCall("call_1", "f", '{"a":1}')
CONVERSATION = Conversation(
    system=(Text("a"),),
    turns=(
        Turn("user", (Text("b"), Image("iVBO", "image/png"), File("JVBE", "application/pdf", name="c"))),
        Turn("assistant", (Text("d"), CALL)),
        Turn("tool", (ToolResult("call_1", (Text("e"),)),)),
        Turn("user", (Text("f"),)),
    ),
    tools=(Tool("f", "d", {"type": "object", "properties": {"a": {"minimum": 1}}}),),
    tool_choice=ToolChoice("required", ("f",)),
    stop=("END",),
    format=Format({"type": "object", "properties": {}, "required": [], "additionalProperties": False}, "n"),
    thinking=Thinking("low"),
    max_output=9,
    user="u",
)
WHOLE = Answer(
    (Reasoning("a", Signature("s", "openai_chat")), Text("b", (Citation("u", "t", 0, 1),)), CALL),
    "tools",
    Usage(3, 2, 1, 0),
)
PLAIN = (None, True, 0, -1, 1.5, 1e308, "", "x", "data:", "auto")
NESTED = (
    [],
    {},
    [1],
    [None],
    [{}],
    ["x"],
    [[]],
    {"a": 1},
    {"type": "text"},
    {"type": "image"},
    {"role": "tool"},
)
junk = st.sampled_from((*PLAIN, *NESTED))


@st.composite
def damaged(draw: st.DrawFn, tree: Any) -> Any:
    """The tree with up to three of its values replaced, removed or doubled."""
    found = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        holders = [(holder, key) for holder, key in _places(found)]
        if not holders:
            break
        holder, key = draw(st.sampled_from(holders))
        match draw(st.sampled_from(["replace", "replace", "remove", "double"])):
            case "remove":
                del holder[key]
            case "double" if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case _:
                holder[key] = copy.deepcopy(draw(junk))
    return found


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


@pytest.mark.parametrize("client", NAMES)
def test_a_malformed_request_is_refused_or_translated(client: str) -> None:
    valid = DIALECTS[client].write_request(CONVERSATION, TargetFacts(model="m")).tree

    @settings(max_examples=150, deadline=None)
    @given(damaged(valid))
    def holds(tree: Any) -> None:
        for target in NAMES:
            with suppress(BadRequest):
                asked = copy.deepcopy(tree)
                found = exchange.request(DIALECTS[client], DIALECTS[target], asked, TargetFacts(model="m"))
                json.dumps(found.tree, allow_nan=False)

    holds()


@pytest.mark.parametrize("target", NAMES)
def test_a_malformed_answer_is_broken_or_translated(target: str) -> None:
    valid = DIALECTS[target].write_answer(WHOLE, CLIENT)

    @settings(max_examples=150, deadline=None)
    @given(damaged(valid))
    def holds(tree: Any) -> None:
        for client in NAMES:
            with suppress(AnswerBroken):
                told = exchange.answer(DIALECTS[target], DIALECTS[client], copy.deepcopy(tree), CLIENT)
                json.dumps(told, allow_nan=False)

    holds()


@pytest.mark.parametrize("target", NAMES)
def test_a_malformed_stream_is_broken_or_translated(target: str) -> None:
    writer = DIALECTS[target].writer(CLIENT)
    stream = b"".join(map(writer.feed, deltas_of(WHOLE))) + writer.end()
    events = SseFramer().feed(stream)
    trees = [json.loads(event.data or b"") for event in events if event.data != b"[DONE]"]

    @settings(max_examples=150, deadline=None)
    @given(damaged(trees))
    def holds(told: Any) -> None:
        for client in NAMES:
            translation = exchange.StreamTranslation(DIALECTS[target], DIALECTS[client], CLIENT)
            with suppress(AnswerBroken):
                for tree in told:
                    translation.feed(Event(b"", json.dumps(tree).encode()))
                translation.end()

    holds()
