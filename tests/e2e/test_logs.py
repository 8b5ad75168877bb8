"""Request logs of a running server: switched on and off by edits, complete with several workers, cleared by age."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gproxy.ledger.logs import Body, Content, Downstream, Filters
from gproxy.ledger.logs import listed as read
from gproxy.ledger.retention import clear
from tests.kit.calls import BY_ID
from tests.kit.gateway import KEY, Gateway, poll
from tests.kit.settings import chatting, everything, user
from tests.kit.upstream import Script, Upstream
from tests.ledger.entries import attempt, request, write

CHAT = BY_ID["chat"]
FLAGS = "".join(
    f"enable_{side}_log{body} = true\n" for side in ("upstream", "downstream") for body in ("", "_body")
)


def on(text: str) -> str:
    return text.replace("[global]\n", f"[global]\n{FLAGS}", 1)


def listed(gateway: Gateway, *argv: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(gateway.cli("logs", "--json", "--limit", "1000", *argv))
    return rows


def logged(gateway: Gateway) -> list[dict[str, Any]]:
    """The same without a command, for waiting."""
    return read(gateway.database, Downstream, Filters(), limit=1000)


def shown(gateway: Gateway, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gateway.cli("logs", "show", request_id, "--json"))
    return found


def test_an_edit_switches_logs_on_for_the_requests_that_follow(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model()
    with Gateway(tmp_path, chatting(upstream.url)) as gateway:
        assert gateway.post("/oa/v1/chat/completions", CHAT.fields(model)).status_code == 200
        gateway.edit(on)

        def switched_on() -> bool:
            gateway.post("/oa/v1/chat/completions", CHAT.fields(model))
            return bool(logged(gateway))

        poll(switched_on, "a request in the logs")
        assert len(listed(gateway)) < len(gateway.rows())
        (entry, *_) = listed(gateway)
        both = shown(gateway, entry["request_id"])
        assert both["request"]["requested_model"] == model
        assert json.loads(both["attempts"][0]["request_body"])["model"] == model
        gateway.edit(lambda text: text.replace(FLAGS, ""))

        def silent() -> bool:
            before = len(logged(gateway))
            gateway.post("/oa/v1/chat/completions", CHAT.fields(model))
            time.sleep(0.3)  # what is not to be there cannot be waited for
            return len(logged(gateway)) == before

        poll(silent, "no more requests in the logs")


@pytest.fixture(scope="module", params=["text", "json"])
def styled(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, str]]:
    """A server that logs everything, and the style of its lines."""
    folder, style = tmp_path_factory.mktemp("styled"), request.param
    with Gateway(folder, on(everything(upstream.url)), "--log-format", style) as gateway:
        yield gateway, style


def test_a_name_of_a_clients_hides_nothing_wherever_it_is_shown(styled: tuple[Gateway, str]) -> None:
    gateway, _ = styled
    name = "a\u2028b\u202e4-tpg\u2066 \ufeff"
    before = len(logged(gateway))
    for where in ("/oa/v1/chat/completions", "/v1/chat/completions"):
        gateway.post(where, CHAT.fields(name))
    (row,) = gateway.rows(model=name)
    gateway.wait_line(r"a\\u2028b\\u202e4-tpg\\u2066 \\ufeff")
    poll(lambda: len(logged(gateway)) == before + 2, "both in the logs")
    commands = (
        *("logs", "logs --json", "logs --attempts", f"logs show {row['request_id']}", "top --json"),
        *("usage --by model", "usage --by model --json", "usage --by model --chart"),
    )
    told = gateway.cli_each([*map(str.split, commands), ["explain", f"oa/{name}", "--user", "alice"]])
    assert all(told)
    for text in (gateway.stderr, *told):
        assert name[:3] not in text
        assert [line for line in text.split("\n") if not line.isprintable()] == []


def test_a_line_says_who_asked_in_vain_for_what_and_what_ailed_an_upstream(
    styled: tuple[Gateway, str],
) -> None:
    gateway, style = styled
    name = "no\u202ename" + "x" * 300
    refused = gateway.post("/v1/chat/completions", CHAT.fields(name))
    failed = gateway.post("/refused/v1/chat/completions", CHAT.fields("m"))
    assert (refused.status_code, failed.status_code) == (400, 502)
    if style == "text":
        gateway.wait_line(r"400 \d+ ms alice/\S+ no\\u202enamex{193}\n")
        gateway.wait_line(r"502 \d+ ms alice/\S+ refused/m .*upstream_error: connection refused\n")
    else:
        gateway.wait_line(r'"status": ?400.*"user": ?"alice".*"model": ?"no\\u202enamex{193}"')
        gateway.wait_line(r'"status": ?502.*"error": ?"connection refused"')


@pytest.fixture(scope="module", params=["false", "true"], ids=["logs nothing", "logs"])
def closed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server whose only key is disabled."""
    text = (
        f'[global]\nenable_downstream_log = {request.param}\n[[providers]]\nname = "demo"\nchannel = "demo"\n'
    )
    text += user("alice", KEY, "*", more="enabled = false\n")
    with Gateway(tmp_path_factory.mktemp("closed"), text) as gateway:
        yield gateway


def test_why_a_key_is_not_valid_is_told_in_the_log_and_not_to_the_client(closed: Gateway) -> None:
    answers = [closed.post(CHAT.path, CHAT.fields("demo/m"), key=key) for key in (KEY, "op_cut-short")]
    closed.wait_line(rf"POST {CHAT.path} 401 \d+ ms the key alice/laptop is disabled")
    closed.wait_line(r"401 \d+ ms the key is unknown: mistyped or cut short, by its checksum")
    assert [answer.status_code for answer in answers] == [401, 401]
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize(
    "path", ["/v1/models", "/demo/v1/models", f"/v1/models/{KEY}", "/user/quota", "/metrics"]
)
def test_why_a_key_is_not_valid_is_told_of_every_route(closed: Gateway, path: str) -> None:
    assert closed.get("/health", key=None).status_code == 200
    assert closed.get(path, key=KEY).status_code == 401
    shown = path.replace(KEY, "[redacted]").replace("[", r"\[")
    closed.wait_line(rf"GET {shown} 401 \d+ ms the key alice/laptop is disabled")
    assert "/health" not in closed.stderr
    assert KEY not in closed.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_request_of_many_at_once_is_logged_with_its_attempts(
    upstream: Upstream, tmp_path: Path, workers: str
) -> None:
    good, busy = upstream.model(), upstream.model(Script(status=503))
    with Gateway(tmp_path, on(chatting(upstream.url)), "--workers", workers) as gateway:

        def ask(number: int) -> tuple[str, int]:
            fields = CHAT.fields(busy if number % 4 == 0 else good) | {"stream": number % 2 == 1}
            answer = gateway.post("/oa/v1/chat/completions", fields)
            return answer.headers["x-gproxy-request-id"], answer.status_code

        with ThreadPoolExecutor(16) as pool:
            told = dict(pool.map(ask, range(80)))
        poll(lambda: len(logged(gateway)) >= 80, "all requests in the logs")
        assert {row["request_id"]: row["status"] for row in listed(gateway)} == told
        tried = listed(gateway, "--attempts")
        for row in gateway.rows():
            assert sum(each["request_id"] == row["request_id"] for each in tried) == row["attempts"]
    with Gateway(tmp_path, on(chatting(upstream.url)), "--workers", workers) as gateway:
        assert len(listed(gateway)) == 80, "logs outlive a restart"


def test_what_is_too_old_goes_while_the_server_runs_and_the_file_shrinks(
    upstream: Upstream, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "gproxy.db"
    path.parent.mkdir()
    body = Body("x" * 100_000, 100_000, "0" * 64)
    for number in range(60):
        content = Content([], [], body, body)
        old = "2026-01-01T00:00:00.000Z"
        write(path, request(f"old-{number}", started_at=old, content=content))
        write(path, attempt(f"old-{number}", 1, started_at=old))
    write(path, request("young", started_at="2999-01-01T00:00:00.000Z"))
    full = path.stat().st_size
    assert full > 10_000_000
    with Gateway(tmp_path, chatting(upstream.url), "--workers", "2") as gateway:
        poll(lambda: [row["request_id"] for row in logged(gateway)] == ["young"], "only the young entry left")
        assert gateway.post("/oa/v1/chat/completions", CHAT.fields(upstream.model())).status_code == 200
    clear(path, "2000")  # nothing more; the write-ahead log is brought home
    assert path.stat().st_size < full / 5


def test_logs_are_cleared_beside_a_server(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model()
    with Gateway(tmp_path, on(chatting(upstream.url))) as gateway:
        for _ in range(5):
            gateway.post("/oa/v1/chat/completions", CHAT.fields(model))
        poll(lambda: len(logged(gateway)) == 5, "all requests in the logs")
        gateway.cli("logs", "clear", "--yes")
        assert listed(gateway) == []
        gateway.post("/oa/v1/chat/completions", CHAT.fields(model))
        poll(lambda: len(logged(gateway)) == 1, "a request after it")
        assert len(gateway.rows()) == 6


def test_what_a_stopping_server_has_served_is_in_the_logs(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model()
    with Gateway(tmp_path, on(chatting(upstream.url))) as gateway:
        for _ in range(20):
            gateway.post("/oa/v1/chat/completions", CHAT.fields(model))
        gateway.stop()
        assert len(listed(gateway)) == 20
        assert len(listed(gateway, "--attempts")) == 20
