"""The official anthropic client, against the gateway as against Anthropic."""

from collections.abc import Iterator

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.kit.answers import TEXT
from tests.kit.calls import TOOL
from tests.kit.gateway import KEY, Gateway
from tests.kit.upstream import Script, Upstream

ASK = {"max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}


def connect(gateway: Gateway, scope: str = "") -> Anthropic:
    return Anthropic(api_key=KEY, base_url=f"{gateway.url}{scope}", max_retries=0)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Anthropic]:
    with connect(gateway) as client:
        yield client


@pytest.mark.parametrize("how", ["aggregated", "scoped", "bearer"])
def test_text(gateway: Gateway, upstream: Upstream, how: str) -> None:
    model = upstream.model()
    name = model if how == "scoped" else f"an/{model}"
    options = {"auth_token": KEY} if how == "bearer" else {"api_key": KEY}
    base = f"{gateway.url}/an" if how == "scoped" else gateway.url
    with Anthropic(base_url=base, max_retries=0, **options) as client:  # type: ignore[arg-type]  # options vary
        answer = client.messages.create(model=name, **ASK)  # type: ignore[call-overload]  # plain dicts
    assert (answer.content[0].text, answer.model) == (TEXT, name)
    assert upstream.only(model).told.differs_from(gateway.row(model=model)) == {}


async def test_text_async_by_alias(gateway: Gateway) -> None:
    async with AsyncAnthropic(api_key=KEY, base_url=gateway.url, max_retries=0) as client:
        answer = await client.messages.create(model="claude-default", **ASK)  # type: ignore[call-overload]  # plain dicts
        assert answer.model == "claude-default"
        async with client.messages.stream(model="claude-default", **ASK) as stream:  # type: ignore[arg-type]  # as above
            assert await stream.get_final_text() == TEXT


def test_stream(client: Anthropic, gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    with client.messages.stream(model=f"an/{model}", **ASK) as stream:  # type: ignore[arg-type]  # plain dicts
        names = [event.type for event in stream]
        final = stream.get_final_message()
    assert names[0] == "message_start"
    assert names[-1] == "message_stop"
    assert final.model == f"an/{model}"
    told = upstream.only(model).told
    assert final.usage.output_tokens == told.output_tokens
    assert told.differs_from(gateway.row(model=model)) == {}


@pytest.mark.parametrize("stream", [True, False])
def test_tool_use_keeps_a_key_named_model(client: Anthropic, stream: bool) -> None:
    ask = ASK | {"tools": [{"name": "weather", "input_schema": TOOL["parameters"]}]}
    if stream:
        with client.messages.stream(model="claude-default", **ask) as events:  # type: ignore[arg-type]  # plain dicts
            answer = events.get_final_message()
    else:
        answer = client.messages.create(model="claude-default", **ask)  # type: ignore[call-overload]  # as above
    assert answer.content[0].input == {"model": "inner-model", "city": "Oslo"}  # type: ignore[union-attr]  # tool use
    assert answer.model == "claude-default"


def test_the_beta_header_goes_up(client: Anthropic, upstream: Upstream) -> None:
    model = upstream.model()
    client.beta.messages.create(model=f"an/{model}", betas=["context-1m-2025-08-07", "x-2"], **ASK)  # type: ignore[call-overload]  # plain dicts
    assert upstream.only(model).headers["anthropic-beta"] == "context-1m-2025-08-07,x-2"


def test_count_tokens(client: Anthropic, gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    count = client.messages.count_tokens(model=f"an/{model}", messages=ASK["messages"])  # type: ignore[arg-type]  # plain dicts
    assert count.input_tokens == 17
    assert upstream.only(model).raw_path == "/v1/messages/count_tokens"
    assert not gateway.row(model=model)["total_tokens"]


def test_models(gateway: Gateway) -> None:
    with connect(gateway) as client, connect(gateway, "/listing") as scoped:
        ids = [model.id for model in client.models.list()]
        assert "claude-default" in ids
        assert ids == sorted(ids)
        assert client.models.retrieve("claude-default").type == "model"
        assert [model.id for model in scoped.models.list()] == ["bare-chat", "vendor/nested"]


def test_errors_are_those_of_the_client_library(
    gateway: Gateway, client: Anthropic, upstream: Upstream
) -> None:
    with pytest.raises(anthropic.BadRequestError) as bad:
        client.messages.create(model="nobody-lists-this", **ASK)  # type: ignore[call-overload]  # plain dicts
    assert bad.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]  # a dict, typed object
    stranger = Anthropic(api_key="sk-stranger", base_url=gateway.url, max_retries=0)
    with stranger, pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model="claude-default", **ASK)  # type: ignore[call-overload]  # as above
    overloaded = upstream.model(
        Script(
            status=400, body=b'{"type":"error","error":{"type":"invalid_request_error","message":"too long"}}'
        )
    )
    with pytest.raises(anthropic.BadRequestError, match="too long"):
        client.messages.create(model=f"an/{overloaded}", **ASK)  # type: ignore[call-overload]  # as above


def test_an_error_inside_a_stream_is_raised_by_the_client(client: Anthropic, upstream: Upstream) -> None:
    model = upstream.model(Script(stop_after=4, then="cut"))
    with pytest.raises(anthropic.APIError), client.messages.stream(model=f"an/{model}", **ASK) as stream:  # type: ignore[arg-type]  # plain dicts
        stream.get_final_message()
