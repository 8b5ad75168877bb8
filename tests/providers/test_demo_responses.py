"""The Responses dialect as the official client reads it."""

import json

import openai
import pytest

TOOLS = [
    {
        "type": "function",
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": False,
    }
]
QUESTION = "What is the weather in Paris?"


@pytest.fixture
def client(demo_url):
    with openai.OpenAI(base_url=f"{demo_url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_a_response_echoes_the_input_with_usage(client) -> None:
    answer = client.responses.create(model="echo-1", input=QUESTION)
    assert answer.status == "completed"
    assert QUESTION in answer.output_text
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_a_stream_ends_in_the_response_that_comes_without_one(client) -> None:
    whole = client.responses.create(model="echo-1", input=QUESTION)
    events = list(client.responses.create(model="echo-1", input=QUESTION, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage == whole.usage


def test_a_function_is_called_and_its_output_ends_the_conversation(client) -> None:
    with client.responses.stream(model="echo-1", input=QUESTION, tools=TOOLS) as stream:
        final = stream.get_final_response()
    call = final.output[0]
    assert (call.type, call.name, json.loads(call.arguments)) == (
        "function_call",
        "get_weather",
        {"city": "Paris"},
    )
    turns = [
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"},
    ]
    told = client.responses.create(model="echo-1", input=turns, tools=TOOLS)
    assert "18 degrees" in told.output_text


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_response_is_incomplete(client, stream) -> None:
    answer = client.responses.create(model="echo-1", input=QUESTION, max_output_tokens=16, stream=stream)
    if stream:
        *_, last = answer
        assert last.type == "response.incomplete"
        answer = last.response
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.output_tokens == 16


def test_a_shape_is_filled_in(client) -> None:
    form = {"type": "json_schema", "name": "city", "schema": {"properties": {"name": {"type": "string"}}}}
    answer = client.responses.create(model="echo-1", input=QUESTION, text={"format": form})
    assert json.loads(answer.output_text) == {"name": "Paris"}


def test_an_input_that_is_none_is_a_bad_request(client) -> None:
    with pytest.raises(openai.BadRequestError, match="input"):
        client.responses.create(model="echo-1", input="")
