"""When the demo calls a tool, how it counts, and that its examples fit the schemas that were sent."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import BadRequest
from gproxy.providers.demo_talk import (
    Prompt,
    Tool,
    count,
    example,
    objects,
    paced,
    pieces,
    reply_to,
    text_of,
    tokens,
    whole,
)

WEATHER = Tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}})
CLOCK = Tool("clock", {"type": "object", "properties": {}})


def reply(question: str, **more):
    return reply_to(Prompt(question=question, tokens=7, **more), "echo-1")


@pytest.mark.parametrize(
    ("question", "called"),
    [
        ("Use get_weather please", "get_weather"),
        ("What is the weather in Paris?", "get_weather"),
        ("What does the CLOCK say?", "clock"),
        ("Use a tool.", "get_weather"),
        ("Hello", None),
        ("get lost", None),
    ],
)
def test_a_tool_is_called_when_the_question_mentions_it(question, called) -> None:
    assert reply(question, tools=[WEATHER, CLOCK]).tool == called


def test_arguments_are_taken_from_the_question_and_the_schema() -> None:
    assert json.loads(reply("What is the weather in Paris?", tools=[WEATHER]).arguments) == {"city": "Paris"}


def test_after_a_tools_result_comes_text_that_repeats_it() -> None:
    said = reply("Use the tool", tools=[WEATHER], result="18 degrees")
    assert said.tool is None
    assert "18 degrees" in said.text


@pytest.mark.parametrize(("forced", "called"), [("*", "get_weather"), ("clock", "clock"), ("", None)])
def test_a_forced_tool_goes_over_what_the_question_says(forced, called) -> None:
    assert reply("Use the weather tool", tools=[WEATHER, CLOCK], forced=forced).tool == called
    assert reply("Hello", tools=[], forced=forced).tool is None


def test_the_answer_echoes_the_question_and_names_the_model() -> None:
    text = reply("What is 2+2?").text
    assert "What is 2+2?" in text
    assert "echo-1" in text


def test_a_long_question_is_cut() -> None:
    assert len(reply("word " * 10_000).text) < 500


@given(limit=st.integers(1, 60), question=st.text(max_size=80))
def test_the_limit_of_output_tokens_holds(limit, question) -> None:
    said = reply(question, limit=limit)
    assert said.output_tokens <= limit
    assert said.cut == (len(said.text) == 4 * limit and said.text != reply(question).text)
    assert said.total_tokens == said.input_tokens + said.output_tokens


@given(text=st.text())
def test_pieces_are_short_and_joined_are_the_text(text) -> None:
    assert "".join(pieces(text)) == text


def test_the_pace_is_that_of_a_model() -> None:
    delays = [delay for delay, _ in paced(pieces("The quick brown fox jumps over the lazy dog."))]
    assert delays[0] == 0.06
    assert all(0.02 <= delay <= 0.03 for delay in delays[1:])


def test_four_characters_are_a_token_and_pictures_are_not_text() -> None:
    assert [tokens(""), tokens("a"), tokens("abcd"), tokens("abcde")] == [0, 1, 1, 2]
    assert count([{"role": "user", "content": "abcdefgh"}]) == 2
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 999}}
    assert count([{"role": "user", "content": [{"type": "text", "text": "abcdefgh"}, picture]}]) == 2
    assert count(None) == 1


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "Paris"),
        ({"type": "integer"}, 1),
        ({"type": "number", "minimum": 2.5}, 2.5),
        ({"type": "boolean"}, True),
        ({"type": ["null", "string"]}, "Paris"),
        ({"type": "STRING"}, "Paris"),
        ({"enum": ["c", "f"]}, "c"),
        ({"const": 3}, 3),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        (
            {
                "type": "object",
                "properties": {"model": {"$ref": "#/$defs/M"}},
                "$defs": {"M": {"type": "string"}},
            },
            {"model": "Paris"},
        ),
        ("nonsense", None),
    ],
)
def test_an_example_fits_its_schema(schema, value) -> None:
    assert example(schema, "Paris") == value


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    fields = {f"f{n}": {"$ref": "#"} for n in range(30)}
    assert len(json.dumps(example({"type": "object", "properties": fields}, "x"))) < 100_000


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "input_text", "text": "b"}], "a\nb"),
        ({"parts": [{"text": "a"}]}, "a"),
        ([{"type": "tool_result", "content": [{"type": "text", "text": "a"}]}], "a"),
        (5, ""),
    ],
)
def test_text_is_found_in_the_content_of_every_dialect(content, text) -> None:
    assert text_of(content) == text


def test_lists_and_numbers_that_are_none_are_refused() -> None:
    assert objects({}, "tools") == []
    assert whole({}, "n") is None
    for tree in ({"x": 5}, {"x": [5]}, {"x": []}):
        with pytest.raises(BadRequest):
            objects(tree, "x", required=True)
    for value in (0, True, 1.5, "1", 11):
        with pytest.raises(BadRequest):
            whole({"n": value}, "n", high=10)
