"""What a target of another dialect is asked, and what the client is told of its answer."""

import json
from typing import Any

import pytest

from gproxy.errors import AnswerBroken, BadRequest
from gproxy.protocols import anthropic_messages, gemini
from gproxy.protocols.base import Protocol
from gproxy.protocols.openai_chat import CHAT, COMPLETIONS
from gproxy.protocols.openai_embeddings import EMBEDDINGS
from gproxy.server.request import crossing
from gproxy.server.request.edge import Call
from gproxy.values import Target, Usage
from tests.server.parts import ALICE, call, provider, snapshot

UP = Target("up", "target-model")
ASK = {"model": "alias", "messages": [{"role": "user", "content": "Hello"}]}


def asked(
    protocols: tuple[str, ...] = ("anthropic_messages",), protocol: Protocol = CHAT, **more: Any
) -> Call:
    here = snapshot(provider("http://x", protocols=protocols) + ALICE)
    return call(here, json.dumps(ASK | more).encode(), protocol)


async def test_a_request_is_put_in_the_targets_words_for_its_model() -> None:
    it = await crossing.cross(asked(seed=7, logit_bias={"5": 1}), UP, True)
    tree = json.loads(it.body)
    assert (tree["model"], tree["messages"]) == ("target-model", ASK["messages"])
    assert (it.protocol.operation, it.untranslated) == ("messages", "logit_bias, seed")
    assert not it.asks_usage
    assert dict(it.headers([])) == {
        b"content-type": b"application/json",
        b"x-gproxy-untranslated": b"logit_bias, seed",
    }


@pytest.mark.parametrize(("stream", "ask"), [(True, True), (True, False), (False, True)])
async def test_usage_is_asked_for_where_that_is_needed(stream: bool, ask: bool) -> None:
    client = asked(("openai_chat",), anthropic_messages.MESSAGES, max_tokens=9, stream=stream)
    it = await crossing.cross(client, UP, ask)
    assert it.asks_usage == (stream and ask)
    assert ("stream_options" in json.loads(it.body)) == (stream and ask)


async def test_headers_of_the_upstreams_dialect_stay_behind() -> None:
    it = await crossing.cross(asked(stream=True), UP, True)
    upstream = [(b"content-type", b"text/plain"), (b"openai-version", b"1"), (b"retry-after", b"7")]
    assert it.headers(upstream, stream=True) == [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"retry-after", b"7"),
    ]


async def test_numbers_of_any_size_go_up_and_come_back() -> None:
    beyond = 10**30
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": beyond}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    it = await crossing.cross(asked(tools=tools), UP, True)
    assert json.loads(it.body)["tools"][0]["input_schema"] == schema
    given = {"type": "tool_use", "id": "t", "name": "f", "input": {"n": 7}}
    body = json.dumps({"type": "message", "content": [given], "stop_reason": "tool_use"})
    told = it.answer(body.replace("7", str(beyond)).encode()).body
    (used,) = json.loads(told)["choices"][0]["message"]["tool_calls"]
    assert json.loads(used["function"]["arguments"]) == {"n": beyond}


async def test_a_large_request_is_put_in_other_words_just_as_well() -> None:
    text = "a" * 2**20
    it = await crossing.cross(asked(messages=[{"role": "user", "content": text}]), UP, True)
    assert json.loads(it.body)["messages"] == [{"role": "user", "content": text}]


async def test_what_must_be_said_and_cannot_is_refused() -> None:
    with pytest.raises(BadRequest, match="`n`"):
        await crossing.cross(asked(n=2), UP, True)


def test_the_targets_dialect_is_one_that_it_speaks() -> None:
    assert crossing.carrier(asked(), UP) == "anthropic_messages"
    assert crossing.carrier(asked(protocol=COMPLETIONS), UP) == ""
    assert crossing.carrier(asked(("openai_embeddings",)), UP) == ""
    unsaid = '[[providers]]\nname = "up"\nchannel = "custom"\nsettings = { base_url = "http://x" }\n'
    body = json.dumps(ASK | {"max_tokens": 9}).encode()
    client = call(snapshot(unsaid + ALICE), body, anthropic_messages.MESSAGES)
    assert crossing.carrier(client, Target("up", "gpt-5.4")) == "openai_chat"


@pytest.mark.parametrize(
    ("protocol", "spoken", "expected"),
    [
        (anthropic_messages.COUNT_TOKENS, ("gemini", "openai_chat"), "gemini"),
        (anthropic_messages.COUNT_TOKENS, ("openai_chat",), "anthropic_messages"),
        (anthropic_messages.COUNT_TOKENS, ("openai_embeddings",), ""),
        (EMBEDDINGS, ("gemini",), "gemini"),
        (EMBEDDINGS, ("anthropic_messages",), ""),
    ],
)
def test_counts_and_vectors_have_carriers_of_their_own(
    protocol: Protocol, spoken: tuple[str, ...], expected: str
) -> None:
    assert crossing.carrier(asked(spoken, protocol, input="a"), UP) == expected


async def test_a_count_is_asked_of_a_counter_or_estimated() -> None:
    counted = await crossing.cross(asked(("gemini",), anthropic_messages.COUNT_TOKENS), UP, True)
    assert counted.protocol is gemini.COUNT_TOKENS
    assert json.loads(counted.answer(b'{"totalTokens": 31}').body) == {"input_tokens": 31}
    assert json.loads(counted.estimate)["input_tokens"] > 0
    guessed = await crossing.cross(asked(("openai_chat",), anthropic_messages.COUNT_TOKENS), UP, True)
    assert not guessed.asks
    assert guessed.estimate == counted.estimate
    assert (b"x-gproxy-estimated", b"true") in guessed.headers([], estimated=True)
    with pytest.raises(AnswerBroken):
        counted.collected(b"data: {}\n\n")


async def test_vectors_are_asked_for_and_told_both_ways() -> None:
    it = await crossing.cross(asked(("gemini",), EMBEDDINGS, input=["a", "b"]), UP, True)
    assert it.protocol is gemini.BATCH_EMBED
    assert len(json.loads(it.body)["requests"]) == 2
    told = it.answer(b'{"embeddings": [{"values": [0.25]}, {"values": [-0.5]}]}')
    assert [item["embedding"] for item in json.loads(told.body)["data"]] == [[0.25], [-0.5]]
    here = snapshot(provider("http://x", protocols=("openai_embeddings",)) + ALICE)
    body = b'{"content": {"parts": [{"text": "a"}]}}'
    back = await crossing.cross(call(here, body, gemini.EMBED, model="alias"), UP, True)
    assert json.loads(back.body) == {"model": "target-model", "input": ["a"], "encoding_format": "float"}
    answer = {"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 3}}
    told = back.answer(json.dumps(answer).encode())
    assert json.loads(told.body)["embedding"] == {"values": [0.5]}
    assert told.usage == Usage(3)


def test_a_call_that_nobody_can_be_asked_is_refused_in_words() -> None:
    told = crossing.unspoken(asked(("gemini",), COMPLETIONS), UP).message
    assert "openai_completions" in told
    assert "speaks gemini" in told


AZURE = (
    '[[providers]]\nname = "up"\nchannel = "azure-openai"\ncredentials = [{ api_key = "sk-azure-secret" }]\n'
    'settings = { base_url = "https://r.openai.azure.com" }\n'
)


@pytest.mark.parametrize(("name", "asked"), [("", "openai_chat"), ("GPT-5.1", "openai_responses")])
async def test_a_deployment_is_asked_as_its_model_wants_to_be(name: str, asked: str) -> None:
    row = f'[[models]]\nprovider_name = "up"\nmodel_id = "prod"\ndisplay_name = "{name}"\n'
    body = ASK | {"max_tokens": 9, "temperature": 0.5, "thinking": {"type": "enabled", "budget_tokens": 2048}}
    it = await crossing.cross(
        call(snapshot(AZURE + row + ALICE), json.dumps(body).encode(), anthropic_messages.MESSAGES),
        Target("up", "prod"),
        True,
    )
    tree = json.loads(it.body)
    assert (it.protocol.name, tree["model"]) == (asked, "prod")
    if name:
        assert (tree["max_output_tokens"], tree["reasoning"]) == (16, {"effort": "low"})
        assert it.untranslated == "temperature"
    else:
        assert (tree["max_completion_tokens"], tree["temperature"]) == (9, 0.5)
        assert it.untranslated == "thinking"
