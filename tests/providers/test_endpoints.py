"""URLs come out the same however the base URL is spelt, and keys go where each upstream looks for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.schema import Settings
from gproxy.errors import ConfigError
from gproxy.providers.catalog import CHANNELS
from gproxy.providers.endpoints import (
    auth_headers,
    carrier,
    check_url,
    default_headers,
    endpoint,
    list_url,
    speaks,
)

CHAT, GEMINI = "/v1/chat/completions", "/v1beta/models/m:streamGenerateContent?alt=sse"

SPOKEN = [
    (channel, protocol)
    for channel in CHANNELS.values()
    for protocol in sorted(channel.speaks)
    if not (channel.offline or channel.deployments or channel.service_account)
]
RERANKERS = frozenset({"openai_chat", "openai_responses", "openai_embeddings"})


@pytest.mark.parametrize(
    ("channel", "protocol", "path", "url"),
    [
        ("openai", "openai_chat", CHAT, "https://api.openai.com/v1/chat/completions"),
        (
            "anthropic",
            "anthropic_messages",
            "/v1/messages?beta=true",
            "https://api.anthropic.com/v1/messages?beta=true",
        ),
        ("gemini", "gemini", GEMINI, f"https://generativelanguage.googleapis.com{GEMINI}"),
        (
            "vertexexpress",
            "gemini",
            GEMINI,
            "https://aiplatform.googleapis.com/v1/publishers/google/models/m:streamGenerateContent?alt=sse",
        ),
        ("groq", "openai_chat", CHAT, "https://api.groq.com/openai/v1/chat/completions"),
        ("openrouter", "anthropic_messages", "/v1/messages", "https://openrouter.ai/api/v1/messages"),
        ("deepseek", "openai_chat", CHAT, "https://api.deepseek.com/chat/completions"),
        ("deepseek", "anthropic_messages", "/v1/messages", "https://api.deepseek.com/anthropic/v1/messages"),
        ("fireworks", "openai_chat", CHAT, "https://api.fireworks.ai/inference/v1/chat/completions"),
        ("ollama", "openai_embeddings", "/v1/embeddings", "http://127.0.0.1:11434/v1/embeddings"),
    ],
)
def test_a_channel_without_settings_goes_to_its_documented_address(channel, protocol, path, url) -> None:
    assert endpoint(CHANNELS[channel], Settings(), protocol, path) == url


@pytest.mark.parametrize(
    ("channel", "base", "protocol", "url"),
    [
        ("groq", "https://api.groq.com/openai/v1", "openai_chat", "https://api.groq.com/openai/v1"),
        ("groq", "https://api.groq.com/openai/", "openai_chat", "https://api.groq.com/openai/v1"),
        ("openrouter", "https://eu.openrouter.ai/api/v1", "openai_chat", "https://eu.openrouter.ai/api/v1"),
        ("deepseek", "https://api.deepseek.com/v1", "openai_chat", "https://api.deepseek.com"),
        (
            "deepseek",
            "https://api.deepseek.com/anthropic",
            "anthropic_messages",
            "https://api.deepseek.com/anthropic/v1",
        ),
        ("custom", "http://h:8080/sub/v1/", "openai_chat", "http://h:8080/sub/v1"),
        ("custom", "http://h:8080/sub", "openai_chat", "http://h:8080/sub/v1"),
        ("custom", "https://h/api/paas/v4", "openai_chat", "https://h/api/paas/v4"),
        ("custom", "https://h/v1beta/openai/", "openai_chat", "https://h/v1beta/openai"),
        (
            "custom",
            "https://h/client/v4/accounts/a/ai/v1",
            "openai_chat",
            "https://h/client/v4/accounts/a/ai/v1",
        ),
        ("custom", "https://h/anthropic", "anthropic_messages", "https://h/anthropic/v1"),
        ("deepseek", "https://relay.example/v1", "openai_chat", "https://relay.example/v1"),
        ("deepseek", "https://relay.example/v1/", "anthropic_messages", "https://relay.example/v1"),
        ("deepseek", "https://relay.example", "openai_chat", "https://relay.example"),
        ("groq", "https://relay.example/v1", "openai_chat", "https://relay.example/v1"),
        ("groq", "https://relay.example/groq/v1", "openai_chat", "https://relay.example/groq/v1"),
        ("groq", "https://relay.example/openai/v1", "openai_chat", "https://relay.example/openai/v1"),
        ("openrouter", "http://127.0.0.1:9/v1", "anthropic_messages", "http://127.0.0.1:9/v1"),
        ("openrouter", "https://eu.openrouter.ai/v1", "openai_chat", "https://eu.openrouter.ai/api/v1"),
        ("fireworks", "https://relay.example/v1", "openai_chat", "https://relay.example/v1"),
        ("fireworks", "https://relay.example/v1", "openai_embeddings", "https://relay.example/v1"),
        ("vertexexpress", "https://relay.example/v1", "gemini", "https://relay.example/v1/publishers/google"),
        ("gemini", "https://relay.example/v1", "gemini", "https://relay.example/v1beta"),
    ],
)
def test_an_address_of_the_user_is_taken_in_the_forms_people_paste(channel, base, protocol, url) -> None:
    assert endpoint(CHANNELS[channel], Settings(base_url=base), protocol, "/v1/op") == f"{url}/op"


@given(
    row=st.sampled_from(SPOKEN),
    root=st.sampled_from(["https://h.example", "http://127.0.0.1:9", "https://h.example/a/b"]),
    slashes=st.integers(0, 3),
    data=st.data(),
)
def test_trailing_versions_prefixes_and_slashes_change_nothing(row, root, slashes, data) -> None:
    channel, protocol = row
    path = GEMINI if protocol == "gemini" else CHAT
    # Where a channel has no plain version in front of its paths, one on a host like these is a relay's own.
    versions = (
        ["/v1", "/v1beta"] if channel.speaks[protocol] in ("/v1", "/v1beta") or not channel.root else []
    )
    ending = data.draw(st.sampled_from(["", *versions, *channel.speaks.values()]))
    spelt = endpoint(channel, Settings(base_url=root + ending + "/" * slashes), protocol, path)
    assert spelt == endpoint(channel, Settings(base_url=root), protocol, path)
    assert spelt.startswith(root + channel.speaks[protocol] + "/")
    assert spelt.endswith(path.removeprefix("/v1beta").removeprefix("/v1"))


def test_a_query_of_the_address_is_kept_beside_that_of_the_path() -> None:
    settings = Settings(base_url="https://r.openai.azure.com/openai/v1/?api-version=preview")
    channel = CHANNELS["azure-openai"]
    root = "https://r.openai.azure.com/openai/v1"
    assert endpoint(channel, settings, "openai_chat", CHAT) == f"{root}/chat/completions?api-version=preview"
    assert endpoint(channel, settings, "openai_chat", "/v1/x?a=1") == f"{root}/x?api-version=preview&a=1"


@pytest.mark.parametrize(
    ("channel", "base_url", "carried"),
    [
        ("openai", "", ""),
        ("openai", "https://api.openai.com/v1", ""),
        ("openai", "https://relay.example/v1", "openai_chat"),
        ("together", "", "openai_chat"),
        ("vllm", "", "openai_chat"),
        ("azure-openai", "https://r.openai.azure.com", ""),
        ("custom", "http://h", "openai_chat"),
        ("anthropic", "", ""),
    ],
)
def test_what_a_channel_has_not_is_asked_of_a_relay_alone(channel, base_url, carried) -> None:
    assert carrier(CHANNELS[channel], Settings(base_url=base_url), "rerank", RERANKERS) == carried


def test_an_operation_goes_by_the_one_protocol_of_its_own() -> None:
    assert carrier(CHANNELS["groq"], Settings(), "embeddings", frozenset({"openai_embeddings"})) == ""
    responses = frozenset({"openai_responses"})
    assert carrier(CHANNELS["groq"], Settings(), "responses", responses) == "openai_responses"


@pytest.mark.parametrize("base", ["", "localhost:8000", "not an address"])
def test_a_channel_without_an_address_is_a_problem_of_the_configuration(base) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        endpoint(CHANNELS["custom"], Settings(base_url=base), "openai_chat", CHAT)


@pytest.mark.parametrize(
    ("channel", "protocol", "header"),
    [
        ("openai", "openai_chat", ("authorization", "Bearer s3cret")),
        ("anthropic", "anthropic_messages", ("x-api-key", "s3cret")),
        ("gemini", "gemini", ("x-goog-api-key", "s3cret")),
        ("azure-openai", "openai_chat", ("api-key", "s3cret")),
        ("deepseek", "openai_chat", ("authorization", "Bearer s3cret")),
        ("deepseek", "anthropic_messages", ("x-api-key", "s3cret")),
        ("openrouter", "anthropic_messages", ("authorization", "Bearer s3cret")),
        ("custom", "anthropic_messages", ("x-api-key", "s3cret")),
        ("custom", "gemini", ("x-goog-api-key", "s3cret")),
    ],
)
def test_the_key_goes_where_the_upstream_looks_for_it(channel, protocol, header) -> None:
    assert auth_headers(CHANNELS[channel], protocol, "s3cret") == (header,)
    assert auth_headers(CHANNELS[channel], protocol, None) == ()


def test_only_the_messages_dialect_has_a_default_header() -> None:
    assert default_headers(CHANNELS["anthropic"], "anthropic_messages") == (
        ("anthropic-version", "2023-06-01"),
    )
    assert default_headers(CHANNELS["openai"], "openai_chat") == ()


def test_a_custom_channel_speaks_what_its_settings_list() -> None:
    custom = CHANNELS["custom"]
    assert speaks(custom, Settings()) == {"openai_chat", "openai_embeddings"}
    assert speaks(custom, Settings(protocols=("gemini",))) == {"gemini"}
    assert speaks(CHANNELS["groq"], Settings(protocols=("gemini",))) == {"openai_chat", "openai_responses"}


@pytest.mark.parametrize(
    ("channel", "settings", "expected"),
    [
        ("openai", Settings(), ("https://api.openai.com/v1/models", "openai_chat")),
        ("anthropic", Settings(), ("https://api.anthropic.com/v1/models?limit=1000", "anthropic_messages")),
        (
            "gemini",
            Settings(),
            ("https://generativelanguage.googleapis.com/v1beta/models?pageSize=1000", "gemini"),
        ),
        ("groq", Settings(), ("https://api.groq.com/openai/v1/models", "openai_chat")),
        ("custom", Settings(), None),
        ("custom", Settings(base_url="http://h"), ("http://h/v1/models", "openai_chat")),
        (
            "custom",
            Settings(base_url="http://h", protocols=("anthropic_messages",)),
            ("http://h/v1/models?limit=1000", "anthropic_messages"),
        ),
        ("vertexexpress", Settings(), None),
        ("azure-openai", Settings(base_url="https://r.openai.azure.com"), None),
        ("demo", Settings(), None),
    ],
)
def test_the_list_of_models_is_asked_for_in_a_dialect_the_upstream_speaks(
    channel, settings, expected
) -> None:
    assert list_url(CHANNELS[channel], settings) == expected


@pytest.mark.parametrize(
    ("channel", "base_url", "url"),
    [
        ("openrouter", "", "https://openrouter.ai/api/v1/key"),
        ("openrouter", "https://openrouter.ai/api/v1/", "https://openrouter.ai/api/v1/key"),
        ("openrouter", "https://relay.example", None),
        ("azure-openai", "https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1/models"),
        (
            "azure-openai",
            "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
            "https://r.openai.azure.com/openai/v1/models",
        ),
        ("openai", "", None),
        ("vertex", "", None),
    ],
)
def test_a_key_is_proved_by_its_list_or_where_that_proves_nothing_by_another_path(
    channel, base_url, url
) -> None:
    expected = None if url is None else (url, "openai_responses")
    assert check_url(CHANNELS[channel], Settings(base_url=base_url)) == expected
