"""Whole responses are read as answers, and answers are written as whole responses."""

from typing import Any

import pytest
from openai.types.responses import Response

from gproxy.errors import AnswerBroken
from gproxy.translate.base import ClientFacts
from gproxy.translate.model import (
    Answer,
    Citation,
    Finish,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
)
from gproxy.translate.openai_responses.answers import read_answer, write_answer
from gproxy.values import Usage

CLIENT = ClientFacts(model="my-alias", answer_id="7f", created=1764000000)
OWN = Signature("gAAA", "openai_responses")
CITED = {
    "type": "url_citation",
    "url": "https://a.example/b",
    "title": "A",
    "start_index": 0,
    "end_index": 2,
}


def response(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"object": "response", "status": "completed", "output": list(output), **fields}


def said(**part: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [part]}


def test_all_that_a_response_says_is_read() -> None:
    answer = read_answer(
        response(
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "gAAA",
            },
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
            said(type="output_text", text="Hi", annotations=[CITED, {"type": "file_citation"}]),
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {
                "type": "custom_tool_call",
                "id": "ctc_1",
                "call_id": "call_2",
                "name": "patch",
                "input": "*** Begin",
            },
            usage={
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens": 7,
                "output_tokens_details": {"reasoning_tokens": 5},
                "total_tokens": 16,
            },
        )
    )
    assert answer.parts == (
        Reasoning("hm", OWN),
        Text("Hi", (Citation("https://a.example/b", "A", 0, 2),)),
        ToolCall("call_1", "f", "{}"),
        ToolCall("call_2", "patch", "*** Begin", freeform=True),
    )
    assert answer.finish == "tools"
    assert answer.usage == Usage(9, 7, 4, reasoning_tokens=5, web_searches=1)


@pytest.mark.parametrize(
    ("fields", "finish"),
    [
        ({}, "stop"),
        ({"status": None}, "stop"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "refused"),
        ({"status": "incomplete", "incomplete_details": None}, "length"),
    ],
)
def test_why_it_ended_is_read(fields: dict[str, Any], finish: Finish) -> None:
    assert read_answer(response(said(type="output_text", text="Hi"), **fields)).finish == finish


def test_a_refusal_is_one() -> None:
    answer = read_answer(response(said(type="refusal", refusal="No")))
    assert (answer.parts, answer.finish) == ((Refusal("No"),), "refused")


def test_what_says_nothing_is_no_part() -> None:
    empty = {"type": "reasoning", "id": "rs_1", "summary": []}
    assert read_answer(response(empty, said(type="output_text", text=""))).parts == ()


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"output": None},
        response(status="failed", error={"code": "server_error", "message": "m"}),
        response(status="in_progress"),
        response(status=[]),
    ],
)
def test_what_is_no_answer_is_broken(tree: dict[str, Any]) -> None:
    with pytest.raises(AnswerBroken):
        read_answer(tree)


def test_an_answer_is_what_the_sdk_takes_for_a_response() -> None:
    parts = (
        Reasoning("hm", Signature("EqoB", "anthropic_messages")),
        Text("Hi", (Citation("https://a.example/b", "A", 0, 2, "quoted"),)),
        ToolCall("call_1", "mcp__files.read", "{}", Signature("s", "gemini")),
        ToolCall("call_2", "patch", "*** Begin", freeform=True),
    )
    tree = write_answer(Answer(parts, "tools", Usage(9, 7)), CLIENT)
    found = Response.model_validate(tree)
    assert (found.id, found.model, found.status) == ("resp_7f", "my-alias", "completed")
    assert found.output_text == "Hi"
    assert found.usage is not None
    assert found.usage.total_tokens == 16
    assert [item["id"] for item in tree["output"]] == [
        "rs_7f_0",
        "msg_7f_1",
        "rs_7f_2",
        "fc_7f_3",
        "ctc_7f_4",
    ]
    assert tree["output"][0]["encrypted_content"] == "gproxy.anthropic_messages.EqoB"
    assert tree["output"][1]["content"][0]["annotations"] == [CITED]
    assert tree["output"][2]["encrypted_content"] == "gproxy-call.gemini.s"
    assert tree["output"][3] == {
        "id": "fc_7f_3",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_1",
        "name": "read",
        "namespace": "mcp__files",
        "arguments": "{}",
    }
    assert tree["output"][4]["input"] == "*** Begin"


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (Answer((Text("a"),), "stop"), "completed", None),
        (Answer((Text("a"),), "stop_sequence", stop_sequence="END"), "completed", None),
        (Answer((Text("a"),), "length"), "incomplete", "max_output_tokens"),
        (Answer((Text("a"),), "refused"), "incomplete", "content_filter"),
        (Answer((Refusal("a"),), "refused"), "completed", None),
    ],
)
def test_why_it_ended_is_told(answer: Answer, status: str, reason: str | None) -> None:
    tree = write_answer(answer, CLIENT)
    assert tree["status"] == status
    assert tree["incomplete_details"] == (None if reason is None else {"reason": reason})
    assert tree["usage"] is None
