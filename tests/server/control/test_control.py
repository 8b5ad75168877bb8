"""The control plane in each dialect; what it lists is in `test_lists.py`."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gproxy.ledger.logs import Downstream, Filters, listed
from tests.server.parts import ALICE, KEY, Visit, serving

TEXT = (
    '[[providers]]\nname = "demo"\nchannel = "demo"\n'
    '[[models]]\nprovider_name = "demo"\nmodel_id = "a/b:c"\ndisplay_name = "Big"\n'
) + ALICE
ANTHROPIC = [(b"anthropic-version", b"2023-06-01")]
GOOGLE = [(b"x-goog-api-key", KEY.encode())]
LISTS: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/models", {}, "openai"),
    ("/v1/models", {"headers": ANTHROPIC}, "anthropic"),
    ("/v1/models", {"headers": GOOGLE, "key": None}, "gemini"),
    ("/v1/models", {"query": f"key={KEY}", "key": None}, "gemini"),
    ("/v1beta/models", {}, "gemini"),
    ("/demo/v1/models", {}, "openai"),
    ("/demo/v1/models", {"headers": ANTHROPIC}, "anthropic"),
    ("/demo/v1beta/models", {}, "gemini"),
]
SHAPE = {
    "openai": lambda tree: tree["error"]["code"],
    "anthropic": lambda tree: tree["error"]["type"] and tree["request_id"] and tree["type"],
    "gemini": lambda tree: tree["error"]["status"],
}


def error(answer: Visit, family: str, status: int) -> str:
    """Asserts an error of ours in one dialect; its message."""
    assert answer.status == status
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-gproxy-request-id")
    assert SHAPE[family](answer.json())
    return answer.message


async def test_health_is_told_without_a_key(tmp_path: Path) -> None:
    async with serving(TEXT, tmp_path) as front:
        answer = await front.ask("/health", method="GET", key=None)
    assert (answer.status, answer.body) == (200, b"OK")
    assert (answer.header("content-type") or "").startswith("text/plain")


async def test_readiness_is_told_without_a_key_and_with_its_reasons(tmp_path: Path) -> None:
    async with serving(TEXT, tmp_path) as front:
        ready = await front.ask("/ready", method="GET", key=None)
        front.gateway.reload_failure = "the last edit is not in force"
        front.gateway.draining = True
        not_ready = await front.ask("/ready", method="GET", key=None)
    assert (ready.status, ready.json()) == (200, {"ready": True, "reasons": []})
    assert not_ready.status == 503
    assert not_ready.json() == {
        "ready": False,
        "reasons": ["the last edit is not in force", "the server is stopping"],
    }


@pytest.mark.parametrize(("path", "more", "family"), LISTS)
async def test_a_list_and_each_of_its_models_is_in_the_shape_that_the_caller_speaks(
    tmp_path: Path, path: str, more: dict[str, Any], family: str
) -> None:
    async with serving(TEXT, tmp_path) as front:
        listed = await front.ask(path, method="GET", **more)
        (entry,) = listed.json()["models" if family == "gemini" else "data"]
        name = "a/b:c" if path.startswith("/demo") else "demo/a/b:c"
        single = await front.ask(f"{path}/{name}", method="GET", **more)
    assert (listed.status, single.status) == (200, 200)
    assert single.json() == entry
    assert entry["name" if family == "gemini" else "id"].removeprefix("models/") == name
    if family != "openai":
        assert "Big" in entry.values()


async def test_a_model_is_found_under_the_name_that_a_list_gave_it(tmp_path: Path) -> None:
    async with serving(TEXT, tmp_path) as front:
        (entry,) = (await front.ask("/v1beta/models", method="GET")).json()["models"]
        answer = await front.ask(f"/v1beta/models/{entry['name']}", method="GET")
    assert answer.json() == entry


@pytest.mark.parametrize(("path", "more", "family"), LISTS)
async def test_a_list_needs_a_key_and_a_model_has_to_be_there(
    tmp_path: Path, path: str, more: dict[str, Any], family: str
) -> None:
    async with serving(TEXT, tmp_path) as front:
        if "key" not in more:
            error(await front.ask(path, method="GET", **more, key="sk-wrong"), family, 401)
            error(await front.ask(path, method="GET", **more, key=None), family, 401)
        error(await front.ask(f"{path}/demo/absent", method="GET", **more), family, 404)


async def test_a_provider_that_is_not_there_is_404(tmp_path: Path) -> None:
    async with serving(TEXT, tmp_path) as front:
        for path in ("/nobody/v1/models", "/nobody/v1/models/x", "/admin/v1/models"):
            error(await front.ask(path, method="GET"), "openai", 404)


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/", "openai"),
        ("/nowhere", "openai"),
        ("/v1/files", "openai"),
        ("/v1/messages/batches", "anthropic"),
        ("/demo/v1/messages/batches", "anthropic"),
        ("/v1beta/files", "gemini"),
        ("/v1beta/models/x:deleteEverything", "gemini"),
        ("/static/x", "openai"),
        ("/favicon.ico", "openai"),
    ],
)
async def test_a_route_that_is_not_there_is_404_in_the_dialect_it_belongs_to(
    tmp_path: Path, path: str, family: str
) -> None:
    async with serving(TEXT, tmp_path) as front:
        for method in ("GET", "POST") if "models" not in path else ("POST",):
            message = error(await front.ask(path, {}, method=method), family, 404)
            assert path not in message


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/responses", "/v1/responses"),
        ("/demo/embeddings", "/v1/embeddings"),
        ("/demo/v1/v1/messages", "/v1/messages"),
        ("/models", "/v1/models"),
        ("/v1/v1/models", "/v1/models"),
        ("/demo/v1/v1/models", "/v1/models"),
        ("/v1beta/v1beta/models", "/v1beta/models"),
        ("/v1/v1beta/models/demo/m", "/v1beta/models/{model}"),
        ("/v1beta/chat/completions", "/v1/chat/completions"),
        ("/v1beta/v1beta/models/demo/m:generateContent", "/v1beta/models/{model}:generateContent"),
        ("/v1/v1beta/models/m%3A1:countTokens", "/v1beta/models/{model}:countTokens"),
        ("/v1/v1/models/m:generateContent", "/v1/models/{model}:generateContent"),
        ("/demo/v1beta/v1beta/models/m:embedContent", "/v1beta/models/{model}:embedContent"),
        ("/demo/models/m:generateContent", "/v1beta/models/{model}:generateContent"),
        ("/v1beta/models/m:deleteModel", ""),
        ("/v1/models/", ""),
        ("/nowhere", ""),
        ("/v1/files", ""),
    ],
)
async def test_a_path_that_lacks_its_version_or_has_it_twice_is_told_the_right_end(
    tmp_path: Path, path: str, meant: str
) -> None:
    async with serving(TEXT, tmp_path) as front:
        answers = [await front.ask(path, {}), await front.ask(path, method="GET")]
    for answer in answers[: 2 if meant else 1]:
        assert answer.status == 404
        assert answer.message == (
            f"There is no such route; one ends in {meant}: see the client's base URL."
            if meant
            else "There is no such route."
        )


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/demo/v1/models", "/v1/models/demo/x"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE"])
async def test_what_is_read_only_is_405_by_any_other_method(tmp_path: Path, path: str, method: str) -> None:
    async with serving(TEXT, tmp_path) as front:
        answer = await front.ask(path, {}, method=method)
    error(answer, "openai", 405)
    assert answer.header("allow") == "GET"


@pytest.mark.parametrize("path", ["/health", "/v1/models"])
async def test_a_head_is_answered_as_a_get(tmp_path: Path, path: str) -> None:
    """Leaving the body out is the HTTP server's part."""
    async with serving(TEXT, tmp_path) as front:
        get, head = [await front.ask(path, method=method) for method in ("GET", "HEAD")]
    assert (head.status, head.header("content-length")) == (200, get.header("content-length"))


async def test_asking_for_options_tells_a_browser_nothing_more(tmp_path: Path) -> None:
    headers = [(b"origin", b"https://evil.example"), (b"access-control-request-method", b"GET")]
    async with serving(TEXT, tmp_path) as front:
        answer = await front.ask("/v1/models", method="OPTIONS", headers=headers)
    assert answer.header("access-control-allow-origin") is None
    assert answer.header("x-gproxy-request-id")


async def test_a_fault_of_ours_is_500_without_a_word_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("inner-detail")

    async with serving(TEXT, tmp_path) as front:
        front.gateway.lists.all = broken  # type: ignore[method-assign,assignment]  # a fault that none of ours has
        answer = await front.ask("/v1/models", method="GET", headers=ANTHROPIC)
    assert "inner-detail" not in error(answer, "anthropic", 500)
    assert "inner-detail" in caplog.text


@pytest.mark.parametrize("path", ["/user/quota", "/user/usage"])
async def test_a_key_s_own_accounts_need_that_key(tmp_path: Path, path: str) -> None:
    async with serving(TEXT, tmp_path) as front:
        error(await front.ask(path, method="GET", key=None), "openai", 401)
        error(await front.ask(path, method="GET", key="sk-wrong"), "openai", 401)
        error(await front.ask(path, {}), "openai", 405)
        answer = await front.ask(path, method="GET")
    assert answer.status == 200
    assert (answer.json()["user"], answer.json()["key"]) == ("alice", "laptop")


async def test_usage_is_asked_for_since_a_time(tmp_path: Path) -> None:
    async with serving(TEXT, tmp_path) as front:
        answer = await front.ask("/user/usage", method="GET", query="since=2026-01-01T00:00:00Z")
        assert answer.json()["since"] == "2026-01-01T00:00:00.000Z"
        error(await front.ask("/user/usage", method="GET", query="since=soon"), "openai", 400)


async def test_a_store_that_cannot_be_read_is_503(tmp_path: Path) -> None:
    async with serving(TEXT, tmp_path) as front:
        front.writer.close()
        (tmp_path / "gproxy.db").write_bytes(b"no database" * 1000)
        answer = await front.ask("/user/quota", method="GET")
        error(answer, "openai", 503)


@pytest.mark.parametrize(("path", "status"), [("/v1/models", 200), ("/v1/models/unheard-of", 400)])
async def test_the_logs_know_who_asks_for_a_list_and_keep_no_key(
    tmp_path: Path, path: str, status: int
) -> None:
    text = "[global]\nenable_downstream_log = true\n"
    text += ALICE.replace(f'api_key = "{KEY}"', f'api_key_hash = "sha256:{sha256(KEY.encode()).hexdigest()}"')
    async with serving(text, tmp_path) as front:
        visit = await front.ask(path, method="GET", query=f"note={KEY}")
        await front.rows()
        (row,) = listed(front.path, Downstream, Filters(), limit=9)
    assert visit.status == row["status"] == status
    assert (row["user"], row["query"]) == ("alice", "note=[redacted]")
    assert bool(row["error"]) == (status == 400)
