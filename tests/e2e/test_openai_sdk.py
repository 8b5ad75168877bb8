"""The official openai client, against the gateway as against OpenAI."""

from collections.abc import Iterator

import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

from tests.kit.answers import LISTED, TEXT, TOOL_ARGUMENTS
from tests.kit.calls import TOOL
from tests.kit.gateway import KEY, Gateway
from tests.kit.upstream import Script, Upstream

HELLO = [{"role": "user", "content": "Hello"}]


def connect(gateway: Gateway, scope: str = "") -> OpenAI:
    return OpenAI(api_key=KEY, base_url=f"{gateway.url}{scope}/v1", max_retries=0)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with connect(gateway) as client:
        yield client


def test_text(client: OpenAI, gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    answer = client.chat.completions.create(model=f"oa/{model}", messages=HELLO)  # type: ignore[arg-type]  # a plain dict
    assert answer.choices[0].message.content == TEXT
    assert answer.model == f"oa/{model}"
    told = upstream.only(model).told
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == told.input_tokens
    assert told.differs_from(gateway.row(model=model)) == {}


def test_text_scoped_and_by_bare_name(gateway: Gateway, upstream: Upstream) -> None:
    with connect(gateway, "/oa") as scoped, connect(gateway) as aggregated:
        model = upstream.model()
        answer = scoped.chat.completions.create(model=model, messages=HELLO)  # type: ignore[arg-type]  # a plain dict
        assert answer.model == model
        bare = aggregated.chat.completions.create(model="bare-chat", messages=HELLO)  # type: ignore[arg-type]  # as above
        assert bare.model == "bare-chat"


async def test_text_async_with_the_tail_of_a_nested_id(gateway: Gateway) -> None:
    async with AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1", max_retries=0) as client:
        answer = await client.chat.completions.create(
            model="listing/vendor/nested",
            messages=HELLO,  # type: ignore[arg-type]  # a plain dict
        )
        assert answer.model == "listing/vendor/nested"
        stream = await client.chat.completions.create(
            model="vendor/nested",
            messages=HELLO,  # type: ignore[arg-type]  # as above
            stream=True,
        )
        assert {chunk.model async for chunk in stream} == {"vendor/nested"}  # type: ignore[union-attr]  # as above


@pytest.mark.parametrize("asked", [True, False])
def test_stream_with_and_without_usage(
    client: OpenAI, gateway: Gateway, upstream: Upstream, asked: bool
) -> None:
    model = upstream.model()
    options = {"stream_options": {"include_usage": True}} if asked else {}
    stream = client.chat.completions.create(model=f"oa/{model}", messages=HELLO, stream=True, **options)  # type: ignore[call-overload]  # options vary
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert {chunk.model for chunk in chunks} == {f"oa/{model}"}
    assert [chunk for chunk in chunks if not chunk.choices] == (chunks[-1:] if asked else [])
    exchange = upstream.only(model)
    assert exchange.json()["stream_options"] == {"include_usage": True}
    assert exchange.told.input_tokens is not None
    assert exchange.told.differs_from(gateway.row(model=model)) == {}


@pytest.mark.parametrize("stream", [True, False])
def test_tool_calls_keep_a_key_named_model(client: OpenAI, upstream: Upstream, stream: bool) -> None:
    ask = {
        "model": "chat-default",
        "messages": HELLO,
        "tools": [{"type": "function", "function": TOOL}],
    }
    if not stream:
        answer = client.chat.completions.create(**ask)  # type: ignore[call-overload]  # plain dicts
        assert answer.choices[0].message.tool_calls[0].function.arguments == TOOL_ARGUMENTS
        return
    with client.chat.completions.stream(**ask) as events:  # type: ignore[arg-type]  # plain dicts
        whole = events.get_final_completion()
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.arguments == TOOL_ARGUMENTS
    assert whole.model == "chat-default"


def test_responses(client: OpenAI, gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    answer = client.responses.create(model=f"oa/{model}", input="Hello")
    assert (answer.output_text, answer.model) == (TEXT, f"oa/{model}")
    assert answer.metadata == {"model": "inner-model"}
    assert upstream.only(model).told.differs_from(gateway.row(model=model)) == {}


def test_responses_stream(client: OpenAI, gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    with client.responses.stream(model=f"oa/{model}", input="Hello") as stream:
        for event in stream:
            inner = getattr(event, "response", None)
            assert inner is None or inner.model == f"oa/{model}"
        final = stream.get_final_response()
    assert (final.output_text, final.model) == (TEXT, f"oa/{model}")
    assert upstream.only(model).told.differs_from(gateway.row(model=model)) == {}


def test_the_other_operations(client: OpenAI, gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    name = f"oa/{model}"
    assert client.completions.create(model=name, prompt="x").choices[0].text == TEXT
    assert client.embeddings.create(model=name, input="x").data[0].embedding == [0.25, -0.5]
    images = client.images.generate(model=name, prompt="x").data
    assert images is not None
    assert images[0].b64_json == "aGk="
    assert client.moderations.create(model=name, input="x").model == name
    speech = client.audio.speech.create(model=name, input="x", voice="alloy").read()
    assert speech == b"".join(upstream.exchanges(model)[-1].sent)
    assert [row["status"] for row in gateway.rows(model=model)] == [200] * 5


def test_embeddings_as_base64_by_default_are_left_alone(client: OpenAI, upstream: Upstream) -> None:
    model = upstream.model(
        Script(
            body=b'{"object":"list","model":"m","data":[{"object":"embedding",'
            b'"index":0,"embedding":"AACAPg=="}],"usage":{"prompt_tokens":1}}'
        )
    )
    assert client.embeddings.create(model=f"oa/{model}", input="x").data[0].embedding == [0.25]


def test_rerank_over_plain_http(gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    answer = gateway.post("/v1/rerank", {"model": f"oa/{model}", "query": "q", "documents": ["a"]})
    assert answer.json()["results"][0]["index"] == 1
    assert upstream.only(model).told.differs_from(gateway.row(model=model)) == {}


def test_models(gateway: Gateway) -> None:
    with connect(gateway) as client, connect(gateway, "/listing") as scoped:
        ids = [model.id for model in client.models.list()]
        assert ids == sorted(ids)
        assert {"chat-default", "claude-default", "listing/bare-chat", "listing/vendor/nested"} <= set(ids)
        assert {f"oa/{name}" for name in LISTED} <= set(ids)
        assert not [name for name in ids if "off" in name or name.startswith("refused/")]
        assert client.models.retrieve("chat-default").id == "chat-default"
        assert client.models.retrieve("listing/vendor/nested").id == "listing/vendor/nested"
        assert [model.id for model in scoped.models.list()] == ["bare-chat", "vendor/nested"]
        assert scoped.models.retrieve("vendor/nested").object == "model"
        with pytest.raises(NotFoundError):
            client.models.retrieve("listing/nothing")


def test_errors_are_those_of_the_client_library(client: OpenAI, upstream: Upstream) -> None:
    with pytest.raises(BadRequestError) as bad:
        client.chat.completions.create(model="nobody-lists-this", messages=HELLO)  # type: ignore[arg-type]  # a plain dict
    assert bad.value.body["type"] == "invalid_request_error"  # type: ignore[index]  # a dict, typed object
    model = upstream.model(Script(status=401, body=b'{"error":{"message":"bad key sk-provider-canary"}}'))
    with pytest.raises(APIStatusError) as failed:
        client.chat.completions.create(model=f"fragile-oa/{model}", messages=HELLO)  # type: ignore[arg-type]  # as above
    assert failed.value.status_code == 502
    assert "canary" not in failed.value.message


def test_an_error_inside_a_stream_is_raised_by_the_client(client: OpenAI, upstream: Upstream) -> None:
    from openai import APIError

    model = upstream.model(Script(stop_after=2, then="cut"))
    stream = client.chat.completions.create(model=f"oa/{model}", messages=HELLO, stream=True)  # type: ignore[arg-type]  # a plain dict
    with pytest.raises(APIError):
        list(stream)
