"""A resource's address in every form that people paste comes out as the path that its surface has."""

import pytest

from gproxy.config.schema import Settings
from gproxy.errors import BadRequest
from gproxy.providers.azure import API_VERSION, UNKNOWN_MODEL, model_of
from gproxy.providers.catalog import CHANNELS
from gproxy.providers.endpoints import auth_headers, endpoint, list_url

AZURE = CHANNELS["azure-openai"]
RESOURCE = "https://r.openai.azure.com"
DEPLOYMENT = f"{RESOURCE}/openai/deployments/my-gpt"
V1 = f"{RESOURCE}/openai/v1"


def url(base_url: str, path: str = "/v1/chat/completions", protocol: str = "openai_chat") -> str:
    return endpoint(AZURE, Settings(base_url=base_url), protocol, path, model="my-gpt")


@pytest.mark.parametrize("ending", ["", "/", "/openai", "/openai/", "/v1", "/openai/deployments"])
@pytest.mark.parametrize(
    "operation", ["chat/completions", "completions", "embeddings", "images/generations", "audio/speech"]
)
def test_a_resource_is_asked_at_the_deployment_that_the_model_names(ending: str, operation: str) -> None:
    found = url(RESOURCE + ending, f"/v1/{operation}")
    assert found == f"{DEPLOYMENT}/{operation}?api-version={API_VERSION}"


def test_a_version_in_the_address_is_used_in_the_place_of_ours() -> None:
    found = url(f"{RESOURCE}/?api-version=2025-04-01-preview")
    assert found == f"{DEPLOYMENT}/chat/completions?api-version=2025-04-01-preview"


def test_other_parts_of_a_query_are_kept() -> None:
    assert url(f"{RESOURCE}?team=a", "/v1/embeddings?b=1") == (
        f"{DEPLOYMENT}/embeddings?team=a&api-version={API_VERSION}&b=1"
    )


@pytest.mark.parametrize("query", ["", "?api-version=2024-10-21"])
def test_the_responses_api_has_the_surface_without_a_dated_version(query: str) -> None:
    assert url(RESOURCE + query, "/v1/responses", "openai_responses") == f"{V1}/responses"
    assert url(DEPLOYMENT + query, "/v1/responses", "openai_responses") == f"{V1}/responses"


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (V1, f"{V1}/chat/completions"),
        (f"{V1}/", f"{V1}/chat/completions"),
        (f"{V1}?api-version=preview", f"{V1}/chat/completions?api-version=preview"),
        (f"{RESOURCE}?api-version=preview", f"{V1}/chat/completions?api-version=preview"),
    ],
)
def test_the_v1_surface_is_taken_where_the_address_says_so(base: str, expected: str) -> None:
    assert url(base) == expected


@pytest.mark.parametrize("ending", ["", "/", "/chat/completions", "/embeddings"])
def test_a_deployment_in_the_address_is_taken_as_given(ending: str) -> None:
    base = f"{RESOURCE}/openai/deployments/theirs{ending}?api-version=2024-06-01"
    assert url(base) == f"{RESOURCE}/openai/deployments/theirs/chat/completions?api-version=2024-06-01"


def test_a_gateway_in_front_keeps_its_own_folder() -> None:
    assert url("https://apim.example/team/openai") == (
        f"https://apim.example/team/openai/deployments/my-gpt/chat/completions?api-version={API_VERSION}"
    )


@pytest.mark.parametrize("model", ["..", ".", ""])
def test_a_model_that_is_no_segment_is_the_callers_mistake(model: str) -> None:
    with pytest.raises(BadRequest, match="deployment"):
        endpoint(AZURE, Settings(base_url=RESOURCE), "openai_chat", "/v1/chat/completions", model=model)


def test_a_models_name_cannot_leave_its_segment() -> None:
    found = endpoint(AZURE, Settings(base_url=RESOURCE), "openai_chat", "/v1/embeddings", model="../a?b#c")
    assert found == f"{RESOURCE}/openai/deployments/..%2Fa%3Fb%23c/embeddings?api-version={API_VERSION}"


def test_its_key_has_a_header_of_its_own_and_its_list_cannot_be_called() -> None:
    assert auth_headers(AZURE, "openai_chat", "k3y") == (("api-key", "k3y"),)
    assert list_url(AZURE, Settings(base_url=RESOURCE)) is None


@pytest.mark.parametrize(
    ("deployment", "display_name", "model"),
    [
        ("gpt-5.1", "", "gpt-5.1"),
        ("prod-gpt-5.1", "", "gpt-5.1"),
        ("team_gpt4o_eu", "", "gpt-4o_eu"),
        ("gpt-35-turbo", "", "gpt-35-turbo"),
        ("my-o3-mini", "", "o3-mini"),
        ("solo3", "", UNKNOWN_MODEL),
        ("chat-prod", "", UNKNOWN_MODEL),
        ("chat-prod", "Our best", UNKNOWN_MODEL),
        ("chat-prod", "GPT-5.1 mini", "gpt-5.1-mini"),
        ("gpt-4o", "GPT-5", "gpt-5"),
        ("Llama-3.3-70B", "", "llama-3.3-70b"),
        ("prod", "DeepSeek R1", "deepseek-r1"),
        ("gpt-oss-120b", "", "gpt-oss-120b"),
    ],
)
def test_a_deployment_is_known_by_what_its_names_tell(deployment: str, display_name: str, model: str) -> None:
    assert model_of(deployment, display_name) == model
