"""The Messages dialect as the official client reads it."""

import anthropic
import pytest

MESSAGES = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS = [
    {
        "name": "get_weather",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]


@pytest.fixture
def client(demo_url):
    with anthropic.Anthropic(base_url=demo_url, api_key="unused", max_retries=0) as client:
        yield client


def test_a_message_is_answered_with_usage(client) -> None:
    answer = client.messages.create(model="echo-1", max_tokens=1000, messages=MESSAGES)
    assert answer.stop_reason == "end_turn"
    assert answer.model == "echo-1"
    assert "What is the weather in Paris?" in answer.content[0].text
    assert answer.usage.output_tokens == -(-len(answer.content[0].text) // 4)


def test_a_stream_adds_up_to_the_whole(client) -> None:
    whole = client.messages.create(model="echo-1", max_tokens=1000, messages=MESSAGES)
    with client.messages.stream(model="echo-1", max_tokens=1000, messages=MESSAGES) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_ends_the_conversation(client, stream) -> None:
    request = {"model": "echo-1", "max_tokens": 1000, "tools": TOOLS}
    if stream:
        with client.messages.stream(**request, messages=MESSAGES) as events:
            asked = events.get_final_message()
    else:
        asked = client.messages.create(**request, messages=MESSAGES)
    assert asked.stop_reason == "tool_use"
    call = asked.content[0]
    assert (call.name, call.input) == ("get_weather", {"city": "Paris"})
    result = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": [{"type": "text", "text": "18 degrees"}],
    }
    turns = [
        *MESSAGES,
        {"role": "assistant", "content": [call.model_dump(exclude_none=True)]},
        {"role": "user", "content": [result]},
    ]
    told = client.messages.create(**request, messages=turns)
    assert "18 degrees" in told.content[0].text


def test_tool_choice_is_obeyed(client) -> None:
    request = {"model": "echo-1", "max_tokens": 1000, "tools": TOOLS}
    hello = [{"role": "user", "content": "Hello"}]
    forced = client.messages.create(**request, messages=hello, tool_choice={"type": "any"})
    assert forced.stop_reason == "tool_use"
    free = client.messages.create(**request, messages=MESSAGES, tool_choice={"type": "none"})
    assert free.stop_reason == "end_turn"


def test_max_tokens_cuts_the_answer(client) -> None:
    answer = client.messages.create(model="echo-1", max_tokens=3, messages=MESSAGES)
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 3


def test_a_count_is_the_input_that_the_answer_reports(client) -> None:
    request = {"model": "echo-1", "messages": MESSAGES, "tools": TOOLS, "system": "Be kind."}
    counted = client.messages.count_tokens(**request)
    assert counted.input_tokens == client.messages.create(**request, max_tokens=9).usage.input_tokens


def test_a_malformed_message_is_a_bad_request(client) -> None:
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        client.messages.create(model="echo-1", max_tokens=9, messages=[])
