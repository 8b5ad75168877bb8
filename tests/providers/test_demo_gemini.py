"""Gemini's dialect as the official client reads it, and its streams as JSON arrays."""

import json

import pytest
from google import genai
from google.genai import errors, types

from gproxy.providers.demo import respond

QUESTION = "What is the weather in Paris?"
CITY = types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")})
TOOL = types.Tool(function_declarations=[types.FunctionDeclaration(name="get_weather", parameters=CITY)])


@pytest.fixture
def client(demo_url):
    with genai.Client(api_key="unused", http_options=types.HttpOptions(base_url=demo_url)) as client:
        yield client


def test_content_is_generated_with_usage(client) -> None:
    answer = client.models.generate_content(model="echo-1", contents=QUESTION)
    assert QUESTION in answer.text
    assert answer.model_version == "echo-1"
    usage = answer.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count


def test_a_stream_adds_up_to_the_whole(client) -> None:
    whole = client.models.generate_content(model="echo-1", contents=QUESTION)
    chunks = list(client.models.generate_content_stream(model="echo-1", contents=QUESTION))
    assert "".join(c.text for c in chunks) == whole.text
    assert chunks[-1].usage_metadata == whole.usage_metadata
    counts = [c.usage_metadata.candidates_token_count for c in chunks]
    assert counts == sorted(counts)
    assert [c.candidates[0].finish_reason for c in chunks][-1] == "STOP"


def test_a_stream_without_sse_is_one_json_array() -> None:
    tree = {"contents": [{"parts": [{"text": QUESTION}]}]}
    answer = respond("streamGenerateContent", "echo-1", tree, stream=True, sse=False)
    events = respond("streamGenerateContent", "echo-1", tree, stream=True, sse=True).body
    elements = json.loads(answer.body)
    texts = [json.loads(line.removeprefix(b"data: ")) for line in events.split(b"\n") if line]
    assert answer.content_type.startswith("application/json")
    assert [e["candidates"] for e in elements] == [t["candidates"] for t in texts]


def test_a_function_is_called_and_its_response_ends_the_conversation(client) -> None:
    config = types.GenerateContentConfig(
        tools=[TOOL], automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
    )
    asked = client.models.generate_content(model="echo-1", contents=QUESTION, config=config)
    call = asked.function_calls[0]
    assert (call.name, call.args) == ("get_weather", {"city": "Paris"})
    turns = [
        types.Content(role="user", parts=[types.Part(text=QUESTION)]),
        asked.candidates[0].content,
        types.Content(
            role="user", parts=[types.Part.from_function_response(name=call.name, response={"degrees": 18})]
        ),
    ]
    told = client.models.generate_content(model="echo-1", contents=turns, config=config)
    assert '{"degrees": 18}' in told.text


@pytest.mark.parametrize(("mode", "called"), [("ANY", True), ("NONE", False)])
def test_the_mode_of_function_calling_is_obeyed(client, mode, called) -> None:
    config = types.GenerateContentConfig(
        tools=[TOOL],
        tool_config=types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode=mode)),
    )
    answer = client.models.generate_content(
        model="echo-1", contents="Hello" if called else QUESTION, config=config
    )
    assert bool(answer.function_calls) is called


def test_json_is_made_after_its_schema(client) -> None:
    config = types.GenerateContentConfig(
        response_mime_type="application/json", response_schema={"type": "ARRAY", "items": {"type": "INTEGER"}}
    )
    answer = client.models.generate_content(model="echo-1", contents=QUESTION, config=config)
    assert json.loads(answer.text) == [1]


def test_max_output_tokens_cut_the_answer(client) -> None:
    config = types.GenerateContentConfig(max_output_tokens=3)
    answer = client.models.generate_content(model="echo-1", contents=QUESTION, config=config)
    assert answer.candidates[0].finish_reason == "MAX_TOKENS"
    assert answer.usage_metadata.candidates_token_count == 3


def test_a_count_is_the_input_that_the_answer_reports(client) -> None:
    counted = client.models.count_tokens(model="echo-1", contents=QUESTION)
    answer = client.models.generate_content(model="echo-1", contents=QUESTION)
    assert counted.total_tokens == answer.usage_metadata.prompt_token_count
    inner = {"generateContentRequest": {"contents": [{"parts": [{"text": QUESTION}]}]}}
    wrapped = json.loads(respond("countTokens", "echo-1", inner, stream=False, sse=False).body)
    assert wrapped["totalTokens"] == counted.total_tokens


def test_contents_are_embedded_in_the_dimensions_asked_for(client) -> None:
    config = types.EmbedContentConfig(output_dimensionality=8)
    answer = client.models.embed_content(model="echo-1", contents=["one", "two"], config=config)
    assert [len(e.values) for e in answer.embeddings] == [8, 8]
    one = {"content": {"parts": [{"text": "one"}]}, "outputDimensionality": 8}
    single = json.loads(respond("embedContent", "echo-1", one, stream=False, sse=False).body)
    assert single["embedding"]["values"] == answer.embeddings[0].values


def test_snake_case_is_understood_as_well() -> None:
    tree = {
        "contents": [{"parts": [{"text": "Hello"}]}],
        "tools": [{"function_declarations": [{"name": "clock"}]}],
        "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["clock"]}},
        "generation_config": {"max_output_tokens": 1},
    }
    body = json.loads(respond("generateContent", "echo-1", tree, stream=False, sse=False).body)
    assert body["candidates"][0]["content"]["parts"] == [{"functionCall": {"name": "clock", "args": {}}}]


def test_a_setting_out_of_range_is_a_bad_request(client) -> None:
    config = types.EmbedContentConfig(output_dimensionality=999_999)
    with pytest.raises(errors.ClientError, match="outputDimensionality"):
        client.models.embed_content(model="echo-1", contents="one", config=config)
