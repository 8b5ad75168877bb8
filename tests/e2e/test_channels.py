"""One request for each channel and protocol that it speaks: where it goes, with what key, and what is in it."""

from collections.abc import Iterator

import pytest

from gproxy.providers.azure import API_VERSION
from gproxy.providers.catalog import CHANNELS
from tests.kit.calls import BY_ID, Call
from tests.kit.gateway import KEY, UPSTREAM_KEY, Gateway
from tests.kit.settings import provider, user
from tests.kit.upstream import Upstream

ASKED_BY = {
    "openai_chat": "chat",
    "openai_responses": "responses",
    "openai_embeddings": "embeddings",
    "anthropic_messages": "messages",
    "gemini": "generate",
}
BEARER = ("authorization", f"Bearer {UPSTREAM_KEY}")
API_KEY, GOOGLE, AZURE = (
    ("x-api-key", UPSTREAM_KEY),
    ("x-goog-api-key", UPSTREAM_KEY),
    ("api-key", UPSTREAM_KEY),
)
DATED = f"api-version={API_VERSION}"

# channel -> protocol -> (path, query, header), written out from what each provider documents; `{m}` is the model.
EXPECTED: dict[str, dict[str, tuple[str, str, tuple[str, str]]]] = {
    "openai": {
        "openai_chat": ("/v1/chat/completions", "", BEARER),
        "openai_responses": ("/v1/responses", "", BEARER),
        "openai_embeddings": ("/v1/embeddings", "", BEARER),
    },
    "anthropic": {"anthropic_messages": ("/v1/messages", "", API_KEY)},
    "gemini": {"gemini": ("/v1beta/models/{m}:generateContent", "", GOOGLE)},
    "aistudio": {"gemini": ("/v1beta/models/{m}:generateContent", "", GOOGLE)},
    "vertexexpress": {"gemini": ("/v1/publishers/google/models/{m}:generateContent", "", GOOGLE)},
    "azure-openai": {
        "openai_chat": ("/openai/deployments/{m}/chat/completions", DATED, AZURE),
        "openai_responses": ("/openai/v1/responses", "", AZURE),
        "openai_embeddings": ("/openai/deployments/{m}/embeddings", DATED, AZURE),
    },
    "openrouter": {
        "openai_chat": ("/api/v1/chat/completions", "", BEARER),
        "openai_responses": ("/api/v1/responses", "", BEARER),
        "openai_embeddings": ("/api/v1/embeddings", "", BEARER),
        "anthropic_messages": ("/api/v1/messages", "", BEARER),
    },
    "groq": {
        "openai_chat": ("/openai/v1/chat/completions", "", BEARER),
        "openai_responses": ("/openai/v1/responses", "", BEARER),
    },
    "deepseek": {
        "openai_chat": ("/chat/completions", "", BEARER),
        "openai_responses": ("/responses", "", BEARER),
        "anthropic_messages": ("/anthropic/v1/messages", "", API_KEY),
    },
    "mistral": {
        "openai_chat": ("/v1/chat/completions", "", BEARER),
        "openai_embeddings": ("/v1/embeddings", "", BEARER),
    },
    "xai": {
        "openai_chat": ("/v1/chat/completions", "", BEARER),
        "openai_responses": ("/v1/responses", "", BEARER),
    },
    "together": {
        "openai_chat": ("/v1/chat/completions", "", BEARER),
        "openai_embeddings": ("/v1/embeddings", "", BEARER),
    },
    "fireworks": {
        "openai_chat": ("/inference/v1/chat/completions", "", BEARER),
        "openai_responses": ("/inference/v1/responses", "", BEARER),
        "openai_embeddings": ("/inference/v1/embeddings", "", BEARER),
        "anthropic_messages": ("/inference/v1/messages", "", BEARER),
    },
    "nvidia": {
        "openai_chat": ("/v1/chat/completions", "", BEARER),
        "openai_embeddings": ("/v1/embeddings", "", BEARER),
    },
    **{
        name: {
            "openai_chat": ("/v1/chat/completions", "", BEARER),
            "openai_responses": ("/v1/responses", "", BEARER),
            "openai_embeddings": ("/v1/embeddings", "", BEARER),
            "anthropic_messages": ("/v1/messages", "", BEARER),
        }
        for name in ("ollama", "lmstudio", "vllm")
    },
    "custom": {
        "openai_chat": ("/v1/chat/completions", "", BEARER),
        "openai_responses": ("/v1/responses", "", BEARER),
        "openai_embeddings": ("/v1/embeddings", "", BEARER),
        "anthropic_messages": ("/v1/messages", "", API_KEY),
        "gemini": ("/v1beta/models/{m}:generateContent", "", GOOGLE),
    },
}
ROWS = [(channel, protocol) for channel, spoken in EXPECTED.items() for protocol in spoken]
KEY_HEADERS = {"authorization", "x-api-key", "x-goog-api-key", "api-key"}


@pytest.fixture(scope="module")
def served(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    parts = [user("alice", KEY, "*")]
    for channel in EXPECTED:
        more = {"protocols": list(ASKED_BY)} if CHANNELS[channel].configurable else {}
        parts.append(provider(f"p-{channel}", channel, upstream.url, **more))
    with Gateway(tmp_path_factory.mktemp("channels"), "".join(parts)) as gateway:
        yield gateway


def test_every_channel_that_has_an_address_is_asked_in_all_that_it_speaks() -> None:
    rows = {
        name: set(row.speaks) for name, row in CHANNELS.items() if not (row.offline or row.service_account)
    }
    assert {name: set(spoken) for name, spoken in EXPECTED.items()} == rows


@pytest.mark.parametrize(("channel", "protocol"), ROWS, ids=["/".join(row) for row in ROWS])
def test_a_request_goes_where_the_provider_documents_it(
    served: Gateway, upstream: Upstream, channel: str, protocol: str
) -> None:
    call: Call = BY_ID[ASKED_BY[protocol]]
    name = upstream.model()
    answer = served.post(call.url(name, f"p-{channel}"), call.fields(name))
    assert answer.status_code == 200, answer.text
    assert call.names_in(answer.content) == ({name} if call.names else set())
    seen = upstream.only(name)
    path, query, (header, value) = EXPECTED[channel][protocol]
    assert (seen.method, seen.raw_path, seen.query) == ("POST", path.format(m=name), query)
    assert {n: v for n, v in seen.headers.items() if n in KEY_HEADERS} == {header: value}
    assert seen.json() == call.fields(name)
    assert served.row(model=name)["dialect"] == protocol


@pytest.mark.parametrize("operation", ["completions", "images", "speech"])
def test_a_deployment_is_asked_for_all_that_deployments_have(
    served: Gateway, upstream: Upstream, operation: str
) -> None:
    call, name = BY_ID[operation], upstream.model()
    assert served.post(call.url(name, "p-azure-openai"), call.fields(name)).status_code == 200
    seen = upstream.only(name)
    assert seen.raw_path == f"/openai/deployments/{name}/{call.path.removeprefix('/v1/')}"
    assert seen.query == DATED


@pytest.mark.parametrize("operation", ["moderations", "rerank"])
def test_what_no_deployment_has_is_refused_without_a_call(
    served: Gateway, upstream: Upstream, operation: str
) -> None:
    call, name = BY_ID[operation], upstream.model()
    answer = served.post(call.url(name, "p-azure-openai"), call.fields(name))
    assert answer.status_code == 400
    assert "azure-openai" in answer.text
    assert upstream.exchanges(name) == []
