"""The first requests of GPROXY's guide and OpenProxy's API reference, as their readers would send them here."""

from collections.abc import Iterator

import pytest

from tests.kit.answers import TEXT
from tests.kit.gateway import Gateway
from tests.kit.settings import alias, model, provider, user
from tests.kit.upstream import Upstream

ADMIN = "sk-admin-1"
OP_KEY = "op_xxxxxxxxxxxxxxxxxxxxxxxxxxxx"

HELLO = {"messages": [{"role": "user", "content": "Say hello in one short sentence."}]}
CLAUDE = {"max_tokens": 256, "messages": [{"role": "user", "content": "Hello"}]}
GEMINI = {"contents": [{"parts": [{"text": "Hello"}]}]}


@pytest.fixture(scope="module")
def seeded(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    text = "".join(
        [
            provider("openai-main", "openai", upstream.url),
            provider("anthropic-main", "anthropic", upstream.url),
            provider("vertex-main", "vertexexpress", upstream.url),
            provider(
                "openproxy-openai", "custom", upstream.url, protocols=["openai_chat", "openai_embeddings"]
            ),
            provider("openproxy-anthropic", "anthropic", upstream.url),
            model("openai-main", "gpt-4.1-mini"),
            model("openproxy-openai", "gpt-4o"),
            model("openproxy-openai", "text-embedding-3-small"),
            model("openproxy-anthropic", "claude-3-5-sonnet"),
            alias("chat-default", "openai-main", "gpt-4.1-mini"),
            user("admin", ADMIN, "*", is_admin=True),
            user("op", OP_KEY, "claude-3-5-sonnet", "text-*", "openproxy-openai|gpt-4o"),
            user("outsider", "op_outsider", "text-*"),
        ]
    )
    with Gateway(tmp_path_factory.mktemp("seeds"), text) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "openai-main/gpt-4.1-mini"),
        ("/openai-main/v1/chat/completions", "gpt-4.1-mini"),
        ("/v1/chat/completions", "chat-default"),
        ("/openai-main/v1/chat/completions", "chat-default"),
    ],
)
def test_gproxy_chat(seeded: Gateway, path: str, name: str) -> None:
    answer = seeded.post(path, {"model": name, **HELLO}, key=ADMIN)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == name
    stream = seeded.post(path, {"model": name, "stream": True, **HELLO}, key=ADMIN)
    assert stream.text.count(f'"model": "{name}"') == stream.text.count("data: {")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/messages", "anthropic-main/claude-3-5-sonnet-latest"),
        ("/anthropic-main/v1/messages", "claude-3-5-sonnet-latest"),
    ],
)
def test_gproxy_messages(seeded: Gateway, path: str, name: str) -> None:
    answer = seeded.post(
        path, {"model": name, **CLAUDE}, key=None, x_api_key=ADMIN, anthropic_version="2023-06-01"
    )
    assert answer.status_code == 200, answer.text
    assert (answer.json()["content"][0]["text"], answer.json()["model"]) == (TEXT, name)


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/vertex-main/gemini-1.5-flash:generateContent",
        "/vertex-main/v1beta/models/gemini-1.5-flash:generateContent",
    ],
)
def test_gproxy_gemini(seeded: Gateway, upstream: Upstream, path: str) -> None:
    answer = seeded.post(path, GEMINI, key=None, x_goog_api_key=ADMIN)
    # This channel has Google's own paths, which the scripted upstream only knows the ends of.
    assert answer.status_code == 200, answer.text
    assert answer.json()["candidates"][0]["content"]["parts"][0]["text"] == TEXT


def test_gproxy_model_lists(seeded: Gateway) -> None:
    aggregated = [entry["id"] for entry in seeded.get("/v1/models", key=ADMIN).json()["data"]]
    assert {"openai-main/gpt-4.1-mini", "chat-default"} <= set(aggregated)
    scoped = [entry["id"] for entry in seeded.get("/openai-main/v1/models", key=ADMIN).json()["data"]]
    assert "gpt-4.1-mini" in scoped
    assert seeded.get("/v1/models/chat-default", key=ADMIN).json()["id"] == "chat-default"


def test_gproxy_errors(seeded: Gateway) -> None:
    path, body = "/v1/chat/completions", {"model": "openai-main/gpt-4.1-mini", **HELLO}
    assert seeded.post(path, body, key="sk-other").status_code == 401
    assert seeded.post(path, {"model": "mystery", **HELLO}, key=ADMIN).status_code == 400
    assert seeded.post(path, body, key=OP_KEY).status_code == 403


def test_openproxy_health_and_models(seeded: Gateway) -> None:
    assert seeded.get("/health", key=None).text == "OK"
    tree = seeded.get("/v1/models", key=OP_KEY).json()
    assert tree["object"] == "list"
    for entry in tree["data"]:
        assert set(entry) >= {"id", "object", "created", "owned_by"}
    names = {entry["id"].rpartition("/")[2] for entry in tree["data"]}
    assert names == {"gpt-4o", "claude-3-5-sonnet", "text-embedding-3-small"}


def test_openproxy_chat(seeded: Gateway) -> None:
    system = {"role": "system", "content": "You are a helpful assistant."}
    body = {"model": "gpt-4o", "messages": [system, {"role": "user", "content": "Hello!"}], "stream": False}
    tree = seeded.post("/v1/chat/completions", body, key=OP_KEY).json()
    assert (tree["object"], tree["model"]) == ("chat.completion", "gpt-4o")
    assert tree["choices"][0]["finish_reason"] == "stop"
    assert set(tree["usage"]) >= {"prompt_tokens", "completion_tokens", "total_tokens"}
    stream = seeded.post("/v1/chat/completions", body | {"stream": True}, key=OP_KEY)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.text.endswith("data: [DONE]\n\n")


def test_openproxy_messages_and_embeddings(seeded: Gateway) -> None:
    messages = seeded.post("/v1/messages", {"model": "claude-3-5-sonnet", **CLAUDE}, key=OP_KEY)
    assert messages.json()["model"] == "claude-3-5-sonnet"
    body = {"model": "text-embedding-3-small", "input": "The food was delicious."}
    assert seeded.post("/v1/embeddings", body, key=OP_KEY).json()["data"][0]["object"] == "embedding"


def test_openproxy_errors(seeded: Gateway) -> None:
    path, body = "/v1/chat/completions", {"model": "gpt-4o", **HELLO}
    assert seeded.post(path, body, key=None).status_code == 401
    refused = seeded.post(path, body, key="op_outsider")
    error = refused.json()["error"]
    assert (refused.status_code, error["type"], error["code"]) == (403, "permission_error", 403)
    assert "gpt-4o" in error["message"]
    assert seeded.post(path, b"{", key=OP_KEY).status_code == 400
