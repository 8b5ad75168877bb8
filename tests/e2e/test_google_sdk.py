"""The official google-genai client, against the gateway as against Gemini."""

from collections.abc import Iterator

import pytest
from google import genai
from google.genai import errors, types

from tests.kit.answers import LISTED, TEXT
from tests.kit.gateway import KEY, Gateway
from tests.kit.upstream import Upstream


def connect(gateway: Gateway, scope: str = "", key: str = KEY) -> genai.Client:
    # One attempt: what the client would hide by trying again is what the test is about.
    options = types.HttpOptions(
        base_url=f"{gateway.url}{scope}", retry_options=types.HttpRetryOptions(attempts=1)
    )
    return genai.Client(api_key=key, vertexai=False, http_options=options)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[genai.Client]:
    client = connect(gateway)
    yield client
    client.close()


@pytest.mark.parametrize("scope", ["", "/ge"])
def test_text(gateway: Gateway, upstream: Upstream, scope: str) -> None:
    model = upstream.model()
    name = model if scope else f"ge/{model}"
    client = connect(gateway, scope)
    answer = client.models.generate_content(model=f"models/{name}", contents="Hello")
    client.close()
    assert (answer.text, answer.model_version) == (TEXT, name)
    assert upstream.only(model).told.differs_from(gateway.row(model=model)) == {}


# The SDK subclasses aiohttp's session, which aiohttp deprecates.
@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")
async def test_text_async_by_alias(gateway: Gateway) -> None:
    client = connect(gateway)
    answer = await client.aio.models.generate_content(model="models/gemini-default", contents="Hello")
    assert answer.model_version == "gemini-default"
    parts = [
        part
        async for part in await client.aio.models.generate_content_stream(
            model="models/gemini-default", contents="Hello"
        )
    ]
    assert "".join(part.text or "" for part in parts) == TEXT
    await client.aio.aclose()
    client.close()


def test_stream(client: genai.Client, gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    parts = list(client.models.generate_content_stream(model=f"models/ge/{model}", contents="Hello"))
    assert "".join(part.text or "" for part in parts) == TEXT
    assert {part.model_version for part in parts} == {f"ge/{model}"}
    told = upstream.only(model).told
    assert told.differs_from(gateway.row(model=model)) == {}


def test_function_call_keeps_a_key_named_model(client: genai.Client) -> None:
    declared = types.FunctionDeclaration(name="weather", description="weather")
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    answer = client.models.generate_content(model="models/gemini-default", contents="Hello", config=config)
    assert answer.function_calls is not None
    assert answer.function_calls[0].args == {"model": "inner-model", "city": "Oslo"}


def test_count_and_embed(client: genai.Client, gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    assert client.models.count_tokens(model=f"models/ge/{model}", contents="Hello").total_tokens == 17
    embedded = client.models.embed_content(model=f"models/ge/{model}", contents="Hello").embeddings
    assert embedded is not None
    assert embedded[0].values is not None
    assert [row["status"] for row in gateway.rows(model=model)] == [200, 200]


def test_models(gateway: Gateway) -> None:
    client, scoped = connect(gateway), connect(gateway, "/ge")
    names = [model.name for model in client.models.list()]
    assert "models/gemini-default" in names
    assert {f"models/ge/{name}" for name in LISTED} <= set(names)
    assert client.models.get(model="models/gemini-default").name == "models/gemini-default"
    assert {f"models/{name}" for name in LISTED} <= {model.name for model in scoped.models.list()}
    client.close()
    scoped.close()


def test_errors_are_those_of_the_client_library(client: genai.Client, gateway: Gateway) -> None:
    with pytest.raises(errors.ClientError) as bad:
        client.models.generate_content(model="models/nobody-lists-this", contents="Hello")
    assert (bad.value.code, bad.value.status) == (400, "INVALID_ARGUMENT")
    stranger = connect(gateway, key="sk-stranger")
    with pytest.raises(errors.ClientError) as refused:
        stranger.models.generate_content(model="models/gemini-default", contents="Hello")
    assert (refused.value.code, refused.value.status) == (401, "UNAUTHENTICATED")
    stranger.close()
