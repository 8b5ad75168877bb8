"""A call carries the thoughts before it for clients that leave them out, and nothing that was tampered with."""

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.translate import exchange
from gproxy.translate.assembly import deltas_of
from gproxy.translate.base import ClientFacts, TargetFacts
from gproxy.translate.foreign import without_foreign
from gproxy.translate.gemini import thoughts
from gproxy.translate.gemini.carriers import MOST_CHARS, carried_by_call, put_back
from gproxy.translate.model import Answer, AnswerPart, Part, Reasoning, Signature, Text, ToolCall
from gproxy.translate.registry import DIALECTS
from tests.translate.conversations import answers
from tests.translate.grammar import events_of

GEMINI = DIALECTS["gemini"]
CLIENT = ClientFacts(model="m", answer_id="7f", created=0)
CALL = ToolCall("call_1", "f", "{}")
SIGNED = Signature("EqoB", "anthropic_messages")
HIDDEN = Reasoning("", Signature("data", "anthropic_messages"), redacted=True)
ASKED: dict[str, Any] = {"role": "user", "parts": [{"text": "a"}]}


def forged(*kept: Any) -> str:
    return b64encode(b"gproxy-thoughts." + json.dumps(kept).encode()).decode()


def back(said: list[Part], signature: str) -> list[Part]:
    found = list(said)
    put_back(found, signature)
    return found


def test_thoughts_stand_where_they_stood_before_and_behind_a_text() -> None:
    before: list[AnswerPart] = [Reasoning("a", SIGNED), HIDDEN, Text("t"), Reasoning("b")]
    carried = carried_by_call(before)
    assert back([Text("u"), CALL, Text("t")], carried) == [Text("u"), CALL, *before]
    assert back([], carried) == [*before[:2], before[3]]


def test_thoughts_that_the_client_sends_itself_are_not_told_twice() -> None:
    before: list[AnswerPart] = [Reasoning("a", SIGNED), Text("t")]
    pieces: list[Part] = [Reasoning("a"), Reasoning("", SIGNED), Text("t")]
    assert back(pieces, carried_by_call(before)) == pieces
    assert back([Reasoning("b")], carried_by_call([Reasoning("b")])) == [Reasoning("b")]
    # Those of an earlier call are others.
    earlier: list[Part] = [Reasoning("x"), CALL]
    assert back(earlier, carried_by_call([Reasoning("b")])) == [*earlier, Reasoning("b")]


def test_nothing_is_carried_where_nothing_was_thought_or_too_much() -> None:
    nobody = carried_by_call([])
    assert thoughts.ours(nobody) == "gproxy.none."
    assert (thoughts.from_client(nobody), back([Text("t")], nobody)) == (None, [Text("t")])
    assert carried_by_call([Text("t")]) == carried_by_call([Reasoning("x" * MOST_CHARS)]) == nobody
    assert len(nobody) < len(carried_by_call([Reasoning("x" * (MOST_CHARS // 2), SIGNED)])) < MOST_CHARS


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "EqoB",
        b64encode(b"gproxy-thoughts.").decode(),
        b64encode(b"gproxy-thoughts.\xff").decode(),
        b64encode(b"gproxy-thoughts." + b"[" * 9000).decode(),
        forged("text"),
        forged(["a", "s", "d", False]),
        forged(["a", 1, "d", False, False]),
        forged(["", "", "", False, False]),
        forged(["", "", "", True, False]),
        forged(["x" * MOST_CHARS, "s", "d", False, False]),
    ],
)
def test_what_was_tampered_with_is_no_thought(signature: str) -> None:
    assert back([Text("t")], signature) == [Text("t")]
    call = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": signature}
    result = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "r"}}}]}
    request = {"contents": [ASKED, {"role": "model", "parts": [call]}, result]}
    for dialect in ("anthropic_messages", "openai_responses", "openai_chat"):
        found = exchange.request(GEMINI, DIALECTS[dialect], request, TargetFacts(model="gpt-5.1"))
        assert signature == "" or signature not in json.dumps(found.tree)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_of_calls_side_by_side_the_first_one_is_signed_and_gemini_takes_it_by_its_stand_in(
    streamed: bool,
) -> None:
    answer = Answer((CALL, replace(CALL, id="call_2"), Text("t"), replace(CALL, id="call_3")), "tools")
    trees = [GEMINI.write_answer(answer, CLIENT)]
    if streamed:
        writer = GEMINI.writer(CLIENT)
        stream = b"".join(map(writer.feed, deltas_of(answer))) + writer.end()
        trees = [json.loads(event.data or b"") for event in events_of(stream)]
    parts = [
        part for tree in trees for part in tree["candidates"][0]["content"]["parts"] if "functionCall" in part
    ]
    assert ["thoughtSignature" in part for part in parts] == [True, False, True]
    request = {"contents": [ASKED, {"role": "model", "parts": parts}]}
    sent = without_foreign("gemini", request, "gemini-3-pro")
    assert sent is not None
    signed = [part.get("thoughtSignature") for part in sent["contents"][1]["parts"]]
    assert signed == [thoughts.UNSIGNED, None, thoughts.UNSIGNED]


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_signature_breaks_a_request(noise: bytes) -> None:
    put_back([CALL], b64encode(b"gproxy-thoughts." + noise).decode())


@pytest.mark.parametrize("dialect", ["anthropic_messages", "openai_responses"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_client_that_leaves_thoughts_out_sends_those_before_its_calls_all_the_same(
    dialect: str, streamed: bool
) -> None:
    @settings(deadline=None)
    @given(answers(dialect))
    def holds(answer: Answer) -> None:
        trees = [GEMINI.write_answer(answer, CLIENT)]
        if streamed:
            writer = GEMINI.writer(CLIENT)
            stream = b"".join(map(writer.feed, deltas_of(answer))) + writer.end()
            trees = [json.loads(event.data or b"") for event in events_of(stream)]
        parts = [part for tree in trees for part in tree["candidates"][0]["content"]["parts"]]
        kept = [part for part in parts if not part.get("thought")]
        turns = GEMINI.read_request({"contents": [ASKED, {"role": "model", "parts": kept}]})
        (_, said) = turns.conversation.turns
        calls = [at for at, part in enumerate(answer.parts) if isinstance(part, ToolCall)]
        end = calls[-1] + 1 if calls else 0
        assert _thoughts(said.parts) >= _thoughts(answer.parts[:end])

    holds()


def _thoughts(parts: Any) -> set[Reasoning]:
    return {part for part in parts if isinstance(part, Reasoning) and (part.signature or part.text)}


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-7"])
def test_the_gemini_cli_gives_a_claude_its_thinking_again_so_that_it_may_go_on_thinking(model: str) -> None:
    target = DIALECTS["anthropic_messages"]
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "EqoB"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_1", "name": "glob", "input": {}},
        {"type": "tool_use", "id": "toolu_2", "name": "glob", "input": {}},
    ]
    answer = exchange.answer(target, GEMINI, {"content": content, "stop_reason": "tool_use"}, CLIENT)
    said = answer["candidates"][0]["content"]
    said["parts"] = [part for part in said["parts"] if not part.get("thought")]
    results = [{"functionResponse": {"name": "glob", "response": {"output": r}}} for r in "ab"]
    request = {
        "contents": [ASKED, said, {"role": "user", "parts": results}],
        "generationConfig": {"thinkingConfig": {"thinkingBudget": 2048}},
    }
    found = exchange.request(GEMINI, target, request, TargetFacts(model=model))
    assert found.tree["messages"][1]["content"] == content
    assert found.tree["thinking"]["type"] in ("enabled", "adaptive")
    assert found.lost == frozenset()


def test_the_gemini_cli_gives_openai_its_encrypted_reasoning_and_deepseek_its_text_again() -> None:
    responses, chat = DIALECTS["openai_responses"], DIALECTS["openai_chat"]
    item = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAAB"}
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    told = exchange.answer(responses, GEMINI, {"output": [{**item, "id": "rs_1"}, call]}, CLIENT)
    assert exchange.request(GEMINI, responses, _next(told), TargetFacts(model="gpt-5.1")).tree["input"][
        1:3
    ] == [
        item,
        call,
    ]
    message = {
        "reasoning_content": "hm",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    told = exchange.answer(chat, GEMINI, {"choices": [{"message": message}]}, CLIENT)
    found = exchange.request(GEMINI, chat, _next(told), TargetFacts(model="deepseek-reasoner"))
    assert found.tree["messages"][1]["reasoning_content"] == "hm"


def _next(told: dict[str, Any]) -> dict[str, Any]:
    """The request that follows an answer whose thoughts were left out."""
    said = told["candidates"][0]["content"]
    said["parts"] = [part for part in said["parts"] if not part.get("thought")]
    result = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "r"}}}]}
    return {"contents": [ASKED, said, result]}
