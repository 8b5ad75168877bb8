"""Every dialect's official client, with models whose provider speaks another: what each side says, the other hears.

The table in `docs/translation.md` is held to what passes here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from gproxy.translate.registry import DIALECTS
from tests.kit.clients import Got, Wants, ask
from tests.kit.gateway import KEY, Gateway
from tests.kit.settings import alias, provider, user
from tests.kit.spoken import DIALECTS as ALL
from tests.kit.spoken import Heard, Says, answered, failing, failure, heard, streamed
from tests.kit.upstream import Script, Upstream

DOCS = Path(__file__).resolve().parents[2] / "docs" / "translation.md"
SPOKEN = [name for name in ALL if name in DIALECTS]
PAIRS = [(client, target) for client in SPOKEN for target in SPOKEN if client != target]
SHORT = {
    "openai_chat": "chat",
    "openai_responses": "responses",
    "anthropic_messages": "messages",
    "gemini": "gemini",
}
TITLES = {
    "openai_chat": "OpenAI chat",
    "openai_responses": "OpenAI Responses",
    "anthropic_messages": "Anthropic",
    "gemini": "Gemini",
}
REASONING = {
    "openai_chat": "gpt-oss-",
    "openai_responses": "gpt-5.1-u",
    "anthropic_messages": "claude-sonnet-4-5-u",
    "gemini": "gemini-2.5-pro-u",
}
"""What begins the names of models that reason, as their dialect's translation knows them."""

TEXT = 'Say "model": "gpt" — straße, 雪.'
SYSTEM = "Answer in the words of a sailor. Ünïcode."
PNG = bytes.fromhex("89504e470d0a1a0a") + b"pixels" * 9
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
OSLO = ("call_oslo", "weather", {"city": "Oslo", "model": "inner-model"})
ROME = ("call_rome", "weather", {"city": "Rome", "n": 7})

BETWEEN = pytest.mark.parametrize(
    ("client", "target"), PAIRS, ids=[f"{SHORT[a]}-to-{SHORT[b]}" for a, b in PAIRS]
)
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def translating(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a provider for each dialect that speaks that alone, and an alias of several."""
    providers = [provider(SHORT[d], "custom", upstream.url, protocols=[d]) for d in ALL]
    providers.append(provider("vectors", "custom", upstream.url, protocols=["openai_embeddings"]))
    text = "".join([*providers, alias("default", "messages", "aliased"), user("alice", KEY, "*")])
    with Gateway(tmp_path_factory.mktemp("translating"), text) as gateway:
        yield gateway


class Talk:
    """One client and one provider that speaks another dialect."""

    def __init__(self, gateway: Gateway, upstream: Upstream, client: str, target: str, stream: bool) -> None:
        self.gateway, self.upstream = gateway, upstream
        self.client, self.target, self.stream = client, target, stream

    def name(self, model: str) -> str:
        return f"{SHORT[self.target]}/{model}"

    def model(self, script: Script, prefix: str = "m") -> str:
        return self.upstream.model(script, f"{prefix}{len(self.upstream._scripts)}")

    def hold(self, wants: Wants, says: Says, prefix: str = "m") -> tuple[Got, Heard, dict[str, Any]]:
        """What the client got, what the upstream heard, and the row."""
        script = Script(body=answered(self.target, says, "its-own-name"))
        if self.stream:
            chunks = streamed(self.target, says, "its-own-name")
            script = Script(chunks=chunks, content_type="text/event-stream")
        model = self.model(script, prefix)
        got = ask(self.client, self.gateway.url, KEY, self.name(model), wants, stream=self.stream)
        exchange = self.upstream.only(model)
        told = heard(self.target, exchange.body, exchange.raw_path)
        assert (told.model, told.stream) == (model, self.stream)
        assert got.model == self.name(model)
        row = self.gateway.row(model=model)
        assert (row["dialect"], row["status"], row["outcome"]) == (self.client, 200, "ok")
        assert row["usage_source"] == "upstream"
        return got, told, row

    def failed(self, script: Script) -> Exception:
        """What the client raises. A gate opens when it has seen the first event."""
        model = self.model(script)
        wants = Wants(seen=lambda: self.upstream.open_gate(model))
        kinds = (openai.APIError, anthropic.APIError, errors.APIError)
        with pytest.raises(kinds) as raised:
            ask(self.client, self.gateway.url, KEY, self.name(model), wants, stream=self.stream)
        return raised.value


@pytest.fixture
def talk(translating: Gateway, upstream: Upstream, client: str, target: str, stream: bool) -> Talk:
    return Talk(translating, upstream, client, target, stream)


@BOTH
@BETWEEN
def test_text(talk: Talk) -> None:
    got, told, _ = talk.hold(Wants(text=TEXT), Says(text=TEXT))
    assert (told.user, told.system, told.tools) == (TEXT, "", [])
    assert (got.text, got.thought, got.calls, got.finish) == (TEXT, "", [], "stop")


@BOTH
@BETWEEN
def test_system(talk: Talk) -> None:
    _, told, _ = talk.hold(Wants(system=SYSTEM), Says(text=TEXT))
    assert (told.system, told.user) == (SYSTEM, "Hello")


@BOTH
@BETWEEN
def test_images(talk: Talk) -> None:
    _, told, _ = talk.hold(Wants(image=PNG), Says(text=TEXT))
    ((media, data),) = told.images
    assert (media, data[:11]) == ("image/png", "iVBORw0KGgp")
    assert told.user == "Hello"


@BOTH
@BETWEEN
def test_tools(talk: Talk) -> None:
    """A call, and its result back."""
    asked = Wants(tools=("weather",))
    got, told, _ = talk.hold(asked, Says(calls=(OSLO,), finish="tools"))
    assert told.tools == ["weather"]
    assert [call[1:] for call in got.calls] == [OSLO[1:]]
    assert got.finish == "tools"
    back = Wants(tools=("weather",), calls=tuple(got.calls), results=("rain",))
    got, told, _ = talk.hold(back, Says(text=TEXT))
    assert got.text == TEXT
    assert [call[1:] for call in told.calls] == [OSLO[1:]]
    assert told.results == [(told.calls[0][0], "rain")]
    if "gemini" not in (talk.client, talk.target):
        assert told.calls[0][0] == OSLO[0]


@BOTH
@BETWEEN
def test_parallel(talk: Talk) -> None:
    """Two calls at once, and both their results."""
    got, _, _ = talk.hold(Wants(tools=("weather",)), Says(text=TEXT, calls=(OSLO, ROME), finish="tools"))
    assert got.text == TEXT
    assert [call[1:] for call in got.calls] == [OSLO[1:], ROME[1:]]
    assert talk.client == "gemini" or len({call[0] for call in got.calls}) == 2
    back = Wants(tools=("weather",), calls=tuple(got.calls), results=("rain", "sun"))
    _, told, _ = talk.hold(back, Says(text=TEXT))
    assert [call[1:] for call in told.calls] == [OSLO[1:], ROME[1:]]
    assert [result for _, result in told.results] == ["rain", "sun"]
    assert [i for i, _ in told.results] == [call[0] for call in told.calls]


@pytest.mark.parametrize("finish", ["length", "refused"])
@BOTH
@BETWEEN
def test_finish(talk: Talk, finish: str) -> None:
    got, _, _ = talk.hold(Wants(), Says(text=TEXT, finish=finish))
    assert (got.text, got.finish) == (TEXT, finish)


@BOTH
@BETWEEN
def test_usage(talk: Talk) -> None:
    """The client, the upstream and the ledger count the same."""
    says = Says(text=TEXT, inside=1200, cached=1000, outside=345, reasoned=45)
    got, _, row = talk.hold(Wants(), says)
    assert (got.inside, got.cached, got.outside) == (1200, 1000, 345)
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (1200, 1000, 345)
    assert row["reasoning_tokens"] == 45


@BOTH
@BETWEEN
def test_structured(talk: Talk) -> None:
    """The answer's JSON schema."""
    said = json.dumps({"city": "Oslo", "people": 7})
    got, told, _ = talk.hold(Wants(schema=SCHEMA), Says(text=said))
    assert json.loads(got.text) == {"city": "Oslo", "people": 7}
    assert told.schema is not None
    assert told.schema["properties"] == SCHEMA["properties"]
    assert set(told.schema["required"]) == {"city", "people"}


@BOTH
@BETWEEN
def test_reasoning(talk: Talk) -> None:
    wants = Wants(thinks=True)
    got, told, _ = talk.hold(wants, Says(text=TEXT, thought="Let me see."), REASONING[talk.target])
    assert told.thinks
    assert (got.thought, got.text) == ("Let me see.", TEXT)


KINDS = {
    "openai_chat": ("invalid_request_error", "rate_limit_exceeded"),
    "openai_responses": ("invalid_request_error", "rate_limit_exceeded"),
    "anthropic_messages": ("invalid_request_error", "rate_limit_error"),
    "gemini": ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"),
}


_BEGUN = {"openai_chat": 2, "openai_responses": 5, "anthropic_messages": 4, "gemini": 1}
"""Chunks of an answer of which the last is the first that holds text."""


@BOTH
@BETWEEN
def test_errors(talk: Talk) -> None:
    """What the client did wrong, a limit, and a failure in the middle of a stream."""
    wrong, limited = KINDS[talk.target]
    body = failure(talk.target, 400, wrong, "the prompt is too long")
    error = talk.failed(Script(status=400, body=body))
    assert getattr(error, "status_code", getattr(error, "code", None)) == 400
    assert "the prompt is too long" in str(error)
    body = failure(talk.target, 429, limited, "slow down")
    error = talk.failed(Script(status=429, body=body, headers={"retry-after": "7"}))
    assert getattr(error, "status_code", getattr(error, "code", None)) == 429
    error = talk.failed(Script(status=500, body=b"<html>"))
    assert getattr(error, "status_code", getattr(error, "code", None)) == 502
    if talk.stream:
        begun = streamed(talk.target, Says(text=TEXT), "m")[: _BEGUN[talk.target]]
        script = Script(
            chunks=(*begun, failing(talk.target, "fell over")),
            content_type="text/event-stream",
            stop_after=len(begun),
            then="gate",
        )
        assert "fell over" in str(talk.failed(script))
        row = talk.gateway.rows(status=200, outcome="upstream_error", dialect=talk.client)[-1]
        assert row["usage_source"] in ("partial", "estimated")


# Counts and embeddings.


@pytest.mark.parametrize("target", ["gemini", "chat"])
def test_a_claudes_client_is_told_a_count(translating: Gateway, upstream: Upstream, target: str) -> None:
    model = upstream.model()
    with anthropic.Anthropic(api_key=KEY, base_url=translating.url, max_retries=0) as client:
        raw = client.messages.with_raw_response.count_tokens(
            model=f"{target}/{model}", messages=[{"role": "user", "content": "Hello, how are you today?"}]
        )
    row = translating.row(model=model)
    assert (row["status"], row["outcome"], row["total_tokens"], row["cost_usd"]) == (200, "ok", None, 0)
    if target == "gemini":
        assert upstream.only(model).raw_path.endswith(":countTokens")
        assert (raw.parse().input_tokens, raw.headers.get("x-gproxy-estimated")) == (17, None)
    else:
        assert upstream.exchanges(model) == []
        assert 0 < raw.parse().input_tokens < 40
        assert raw.headers["x-gproxy-estimated"] == "true"


@pytest.mark.parametrize("script", [Script(status=404, body=b"{}"), Script(status=500), Script(body=b"{}")])
def test_a_count_that_is_not_given_is_estimated(
    translating: Gateway, upstream: Upstream, script: Script
) -> None:
    model = upstream.model(script)
    body = {"contents": [{"parts": [{"text": "Hello, how are you today?"}]}]}
    answer = translating.post(f"/v1beta/models/messages/{model}:countTokens", body)
    assert (answer.status_code, answer.headers["x-gproxy-estimated"]) == (200, "true")
    assert 0 < answer.json()["totalTokens"] < 40
    assert upstream.only(model).raw_path == "/v1/messages/count_tokens"
    assert translating.row(model=model)["outcome"] == "ok"


def test_vectors_of_openais_client_by_gemini(translating: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    with openai.OpenAI(api_key=KEY, base_url=f"{translating.url}/v1", max_retries=0) as client:
        answer = client.embeddings.create(model=f"gemini/{model}", input=["a", "b"])
    assert [item.embedding for item in answer.data] == [[0.25], [-0.5]]
    assert answer.model == f"gemini/{model}"
    row = translating.row(model=model)
    assert (row["dialect"], row["usage_source"]) == ("openai_embeddings", "estimated")
    assert answer.usage.prompt_tokens == row["input_tokens"]


def test_vectors_of_geminis_client_by_openai(translating: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    options = types.HttpOptions(base_url=translating.url)
    client = genai.Client(api_key=KEY, vertexai=False, http_options=options)
    answer = client.models.embed_content(model=f"models/vectors/{model}", contents="a")
    client.close()
    assert answer.embeddings is not None
    assert answer.embeddings[0].values == [0.25, -0.5]
    row = translating.row(model=model)
    assert (row["dialect"], row["usage_source"]) == ("gemini", "upstream")
    assert row["input_tokens"] == upstream.only(model).told.input_tokens


FEATURES = {
    "text": test_text,
    "system": test_system,
    "images": test_images,
    "a call and its result": test_tools,
    "parallel calls": test_parallel,
    "why it ended": test_finish,
    "usage": test_usage,
    "JSON schema": test_structured,
    "reasoning": test_reasoning,
    "errors": test_errors,
}


def table() -> str:
    """The matrix as docs/translation.md has it: each cell is driven above, whole and streamed."""
    rows = [
        ["client", "target", *FEATURES],
        ["---"] * (len(FEATURES) + 2),
        *([TITLES[client], TITLES[target], *["yes"] * len(FEATURES)] for client, target in PAIRS),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_table_in_the_documentation_is_what_is_driven_here() -> None:
    for test in FEATURES.values():
        marks = test.pytestmark  # type: ignore[attr-defined]  # the decorators' work
        assert BETWEEN.mark in marks
        assert BOTH.mark in marks
    assert table() in DOCS.read_text("utf-8"), table()
