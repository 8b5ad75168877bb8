"""Chat and completions as the official client reads them."""

import json

import openai
import pytest
from pydantic import BaseModel

MESSAGES = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "model": {"enum": ["a"]}},
            },
        },
    }
]


@pytest.fixture
def client(demo_url):
    with openai.OpenAI(base_url=f"{demo_url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_a_chat_is_answered_with_usage(client) -> None:
    answer = client.chat.completions.create(model="echo-1", messages=MESSAGES)
    assert answer.model == "echo-1"
    assert answer.choices[0].finish_reason == "stop"
    assert "What is the weather in Paris?" in answer.choices[0].message.content
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens == -(-len(answer.choices[0].message.content) // 4)


def test_a_stream_says_the_same_as_the_whole(client) -> None:
    whole = client.chat.completions.create(model="echo-1", messages=MESSAGES)
    chunks = list(client.chat.completions.create(model="echo-1", messages=MESSAGES, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(c.usage is None for c in chunks)
    assert len({c.id for c in chunks}) == 1


def test_a_stream_ends_with_usage_only_if_it_was_asked_for(client) -> None:
    options = {"include_usage": True}
    whole = client.chat.completions.create(model="echo-1", messages=MESSAGES)
    chunks = list(
        client.chat.completions.create(model="echo-1", messages=MESSAGES, stream=True, stream_options=options)
    )
    assert [c.usage is not None for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_a_tool_is_called_and_its_result_ends_the_conversation(client) -> None:
    asked = client.chat.completions.create(model="echo-1", messages=MESSAGES, tools=TOOLS)
    assert asked.choices[0].finish_reason == "tool_calls"
    call = asked.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris", "model": "a"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}
    turn = asked.choices[0].message.model_dump(exclude_none=True)
    told = client.chat.completions.create(model="echo-1", messages=[*MESSAGES, turn, result], tools=TOOLS)
    assert "18 degrees" in told.choices[0].message.content


def test_the_arguments_of_a_streamed_call_add_up(client) -> None:
    with client.chat.completions.stream(model="echo-1", messages=MESSAGES, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    assert json.loads(final.choices[0].message.tool_calls[0].function.arguments)["city"] == "Paris"
    assert final.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("choice", "called"),
    [("none", False), ("required", True), ({"type": "function", "function": {"name": "get_weather"}}, True)],
)
def test_tool_choice_is_obeyed(client, choice, called) -> None:
    hello = [{"role": "user", "content": "Hello" if called else "Use a tool"}]
    answer = client.chat.completions.create(model="echo-1", messages=hello, tools=TOOLS, tool_choice=choice)
    assert bool(answer.choices[0].message.tool_calls) is called


def test_structured_output_parses(client) -> None:
    class City(BaseModel):
        name: str
        people: int

    answer = client.chat.completions.parse(model="echo-1", messages=MESSAGES, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Paris", people=1)
    loose = client.chat.completions.create(
        model="echo-1", messages=MESSAGES, response_format={"type": "json_object"}
    )
    assert json.loads(loose.choices[0].message.content) == {"answer": "Paris"}


def test_max_tokens_cuts_the_answer(client) -> None:
    answer = client.chat.completions.create(model="echo-1", messages=MESSAGES, max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_a_malformed_chat_is_a_bad_request(client) -> None:
    with pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(model="echo-1", messages=[])


def test_completions_answer_each_prompt(client) -> None:
    answer = client.completions.create(model="echo-1", prompt=["One?", "Two?"])
    assert [c.index for c in answer.choices] == [0, 1]
    assert "One?" in answer.choices[0].text
    assert "Two?" in answer.choices[1].text
    tokens = client.completions.create(model="echo-1", prompt=[1, 2, 3])
    assert len(tokens.choices) == 1
    assert tokens.usage.prompt_tokens == 3


def test_completions_stream_the_same_text(client) -> None:
    whole = client.completions.create(model="echo-1", prompt="One?")
    chunks = list(
        client.completions.create(
            model="echo-1", prompt="One?", stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage
