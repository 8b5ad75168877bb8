"""What a target of another dialect is asked, and what the client is told of its answer."""

import json
from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.protocols import anthropic_messages
from gproxy.protocols.base import Protocol
from gproxy.protocols.openai_chat import CHAT, COMPLETIONS
from gproxy.server import crossing
from gproxy.server.edge import Call
from gproxy.values import Target
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


def test_the_targets_dialect_is_one_that_it_surely_speaks() -> None:
    assert crossing.carrier(asked(), UP) == "anthropic_messages"
    assert crossing.carrier(asked(protocol=COMPLETIONS), UP) == ""
    assert crossing.carrier(asked(("openai_embeddings",)), UP) == ""
    unsaid = '[[providers]]\nname = "up"\nchannel = "custom"\nsettings = { base_url = "http://x" }\n'
    body = json.dumps(ASK | {"max_tokens": 9}).encode()
    client = call(snapshot(unsaid + ALICE), body, anthropic_messages.MESSAGES)
    assert crossing.carrier(client, Target("up", "gpt-5.4")) == "openai_chat"


def test_a_call_that_nobody_can_be_asked_is_refused_in_words() -> None:
    told = crossing.unspoken(asked(("gemini",), COMPLETIONS), UP).message
    assert "openai_completions" in told
    assert "speaks gemini" in told
