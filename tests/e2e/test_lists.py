"""Lists of models and single ones: three shapes, two scopes, and only what the key may use."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.answers import LISTED
from tests.kit.gateway import KEY, NARROW_KEY, Gateway, poll
from tests.kit.settings import closed_port, model, provider, user
from tests.kit.upstream import Upstream

ANTHROPIC = {"anthropic_version": "2023-06-01"}
GOOGLE = {"x_goog_api_key": KEY}


def ids(answer: httpx.Response) -> list[str]:
    """The ids of a list in any of the three shapes, bare of Gemini's prefix; asserts the shape."""
    assert answer.status_code == 200, answer.text
    tree: dict[str, Any] = answer.json()
    if "models" in tree:
        assert all(entry["name"].startswith("models/") for entry in tree["models"])
        return [entry["name"].removeprefix("models/") for entry in tree["models"]]
    found = [entry["id"] for entry in tree["data"]]
    if "has_more" in tree:
        assert tree["has_more"] is False
        assert (tree["first_id"], tree["last_id"]) == (found[0], found[-1])
        assert all(set(entry) >= {"type", "display_name", "created_at"} for entry in tree["data"])
    else:
        assert tree["object"] == "list"
        assert all(entry["object"] == "model" for entry in tree["data"])
        assert all(isinstance(entry["created"], int) and entry["owned_by"] for entry in tree["data"])
    return found


def test_the_three_shapes_hold_the_same_names(gateway: Gateway) -> None:
    openai = ids(gateway.get("/v1/models"))
    assert openai == sorted(openai)
    assert ids(gateway.get("/v1/models", **ANTHROPIC)) == openai
    assert ids(gateway.get("/v1/models", key=None, **GOOGLE)) == openai
    assert ids(gateway.get("/v1beta/models")) == openai
    assert {"chat-default", "claude-default", "gemini-default", "listing/bare-chat", "priced/gold"} <= set(
        openai
    )
    assert {f"an/{name}" for name in LISTED} | {f"ge/{name}" for name in LISTED} <= set(openai)


@pytest.mark.parametrize("scope", ["oa", "an", "ge"])
def test_a_scoped_list_is_bare_and_asked_of_the_upstream_by_its_own_dialect(
    gateway: Gateway, scope: str
) -> None:
    found = ids(gateway.get(f"/{scope}/v1/models"))
    assert set(LISTED) <= set(found)
    assert not [name for name in found if name.startswith(f"{scope}/")]
    assert set(LISTED) <= set(ids(gateway.get(f"/{scope}/v1beta/models")))


def test_a_list_holds_only_what_the_key_may_use(gateway: Gateway) -> None:
    for path in ("/v1/models", "/v1beta/models"):
        found = ids(gateway.get(path, key=NARROW_KEY))
        assert found == ["chat-default", "listing/bare-chat", "listing/vendor/nested"]
    assert ids(gateway.get("/oa/v1/models", key=NARROW_KEY)) in ([], ["chat-default"])
    assert ids(gateway.get("/listing/v1/models", key=NARROW_KEY)) == ["bare-chat", "vendor/nested"]


@pytest.mark.parametrize(
    "id", ["chat-default", "listing/bare-chat", "listing/vendor/nested", "an/vendor/listed-c"]
)
def test_a_single_model_in_three_shapes(gateway: Gateway, id: str) -> None:
    assert gateway.get(f"/v1/models/{id}").json() | {"created": 0, "owned_by": ""} == {
        "id": id,
        "object": "model",
        "created": 0,
        "owned_by": "",
    }
    anthropic = gateway.get(f"/v1/models/{id}", **ANTHROPIC).json()
    assert (anthropic["type"], anthropic["id"]) == ("model", id)
    assert gateway.get(f"/v1beta/models/{id}").json()["name"] == f"models/{id}"
    assert gateway.get(f"/v1/models/{id}", key=None, **GOOGLE).json()["name"] == f"models/{id}"
    assert gateway.get(f"/v1/models/{id.replace('/', '%2F')}").json()["id"] == id


def test_a_single_model_that_is_not_there_is_404_in_the_dialect(gateway: Gateway) -> None:
    for id in ("listing/off", "listing/nothing"):
        openai = gateway.get(f"/v1/models/{id}")
        assert (openai.status_code, openai.json()["error"]["type"]) == (404, "not_found_error")
        anthropic = gateway.get(f"/v1/models/{id}", **ANTHROPIC)
        assert (anthropic.status_code, anthropic.json()["type"]) == (404, "error")
        gemini = gateway.get(f"/v1beta/models/{id}")
        assert (gemini.status_code, gemini.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_a_list_needs_a_key(gateway: Gateway) -> None:
    assert gateway.get("/v1/models", key=None).json()["error"]["type"] == "authentication_error"
    assert gateway.get("/v1/models", key=None, **ANTHROPIC).json()["type"] == "error"
    assert gateway.get("/v1beta/models", key=None).json()["error"]["status"] == "UNAUTHENTICATED"


def test_the_upstreams_own_list_is_fetched_once_and_a_dead_one_skipped(
    upstream: Upstream, tmp_path: Path
) -> None:
    text = "".join(
        [
            provider("up", "openai", upstream.url),
            provider("dead", "openai", f"http://127.0.0.1:{closed_port()}"),
            provider("own", "openai", upstream.url),
            model("own", "mine"),
            user("alice", KEY, "*"),
        ]
    )
    before = len(upstream.ledger)
    with Gateway(tmp_path, text) as gateway:
        expected = sorted(["own/mine", *(f"up/{name}" for name in LISTED)])
        for _ in range(5):
            assert ids(gateway.get("/v1/models")) == expected
    asked = [exchange.raw_path for exchange in upstream.ledger[before:]]
    assert asked == ["/v1/models"]


def test_head_and_queries_are_understood(gateway: Gateway) -> None:
    assert ids(gateway.get("/v1/models?limit=1000", **ANTHROPIC))
    assert gateway.get("/v1/models?key=" + KEY, key=None).status_code == 200


def test_health_and_ready_need_no_key(gateway: Gateway) -> None:
    health = gateway.get("/health", key=None)
    assert (health.status_code, health.text) == (200, "OK")
    assert health.headers["content-type"].startswith("text/plain")
    ready = poll(lambda: gateway.get("/ready", key=None), "an answer")
    assert ready.status_code == 200
    assert ready.headers["content-type"].startswith("application/json")
