"""A project's address: by location, from every form of base URL, for every action."""

import json

import pytest

from gproxy.config.schema import Settings
from gproxy.providers.catalog import CHANNELS
from gproxy.providers.endpoints import auth_headers, endpoint, list_url
from gproxy.providers.vertex import service_account

VERTEX = CHANNELS["vertex"]
PATH = "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"
TAIL = "publishers/google/models/gemini-x:streamGenerateContent?alt=sse"


def url(base_url: str = "", location: str = "", path: str = PATH) -> str:
    return endpoint(VERTEX, Settings(base_url=base_url, location=location), "gemini", path, project="p-1")


@pytest.mark.parametrize(
    ("base", "location", "root", "place"),
    [
        ("", "", "https://aiplatform.googleapis.com", "global"),
        ("", "europe-west4", "https://europe-west4-aiplatform.googleapis.com", "europe-west4"),
        ("", "global", "https://aiplatform.googleapis.com", "global"),
        ("", "eu", "https://aiplatform.eu.rep.googleapis.com", "eu"),
        (
            "https://us-central1-aiplatform.googleapis.com",
            "",
            "https://us-central1-aiplatform.googleapis.com",
            "us-central1",
        ),
        (
            "https://us-central1-aiplatform.googleapis.com/v1/",
            "",
            "https://us-central1-aiplatform.googleapis.com",
            "us-central1",
        ),
        ("https://aiplatform.us.rep.googleapis.com", "", "https://aiplatform.us.rep.googleapis.com", "us"),
        (
            "https://aiplatform.googleapis.com/v1/projects/p-1/locations/asia-east1",
            "",
            "https://asia-east1-aiplatform.googleapis.com",
            "asia-east1",
        ),
        ("http://127.0.0.1:9", "", "http://127.0.0.1:9", "global"),
        ("http://127.0.0.1:9/", "us-east5", "http://127.0.0.1:9", "us-east5"),
        ("https://relay.example/google/v1", "", "https://relay.example/google", "global"),
        ("https://relay.example/locations/us-west1", "", "https://relay.example", "us-west1"),
    ],
)
def test_a_location_comes_from_its_setting_or_the_address(
    base: str, location: str, root: str, place: str
) -> None:
    assert url(base, location) == f"{root}/v1/projects/p-1/locations/{place}/{TAIL}"


def test_an_address_may_name_another_project_and_version() -> None:
    base = "https://us-east1-aiplatform.googleapis.com/v1beta1/projects/other/locations/us-east1"
    for ending in ("", "/publishers/google", "/publishers/google/models/"):
        assert url(base + ending) == f"{base}/{TAIL}"


@pytest.mark.parametrize("action", ["generateContent", "countTokens", "embedContent", "batchEmbedContents"])
def test_every_action_goes_the_same_way(action: str) -> None:
    expected = f"/v1/projects/p-1/locations/global/publishers/google/models/m:{action}"
    assert url("http://h", path=f"/v1beta/models/m:{action}") == f"http://h{expected}"


def test_a_query_of_the_address_is_kept() -> None:
    assert url("http://h?a=1").endswith("?a=1&alt=sse")


def test_a_project_is_one_segment() -> None:
    found = endpoint(VERTEX, Settings(), "gemini", PATH, project="domain.com:p/1")
    assert "/projects/domain.com%3Ap%2F1/" in found


def test_the_token_is_sent_as_bearer_and_there_is_no_list() -> None:
    assert auth_headers(VERTEX, "gemini", "ya29.t") == (("authorization", "Bearer ya29.t"),)
    assert list_url(VERTEX, Settings()) is None


def test_an_account_shows_all_but_its_key() -> None:
    fields = {"project_id": "p", "client_email": "e", "private_key": "PEM-SECRET", "token_uri": "https://t"}
    account = service_account(json.dumps(fields))
    assert (account.project, account.email, account.key_id, account.token_uri) == ("p", "e", "", "https://t")
    assert "PEM-SECRET" not in repr(account)
