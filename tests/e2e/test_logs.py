"""Request logs of a running server: switched on and off by edits, complete with several workers, cleared by age."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gproxy.ledger.logs import Body, Content
from gproxy.ledger.retention import clear
from tests.kit.calls import BY_ID
from tests.kit.gateway import KEY, Gateway, poll
from tests.kit.settings import closed_port, everything, user
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


def shown(gateway: Gateway, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gateway.cli("logs", "show", request_id, "--json"))
    return found


def test_an_edit_switches_logs_on_for_the_requests_that_follow(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model()
    with Gateway(tmp_path, everything(upstream.url)) as gateway:
        assert gateway.post("/oa/v1/chat/completions", CHAT.fields(model)).status_code == 200
        gateway.edit(on)

        def logged() -> bool:
            gateway.post("/oa/v1/chat/completions", CHAT.fields(model))
            return bool(listed(gateway))

        poll(logged, "a request in the logs")
        assert len(listed(gateway)) < len(gateway.rows())
        (entry, *_) = listed(gateway)
        both = shown(gateway, entry["request_id"])
        assert both["request"]["requested_model"] == model
        assert json.loads(both["attempts"][0]["request_body"])["model"] == model
        gateway.edit(lambda text: text.replace(FLAGS, ""))

        def silent() -> bool:
            before = len(listed(gateway))
            gateway.post("/oa/v1/chat/completions", CHAT.fields(model))
            time.sleep(0.3)  # what is not to be there cannot be waited for
            return len(listed(gateway)) == before

        poll(silent, "no more requests in the logs")


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_name_of_a_clients_hides_nothing_wherever_it_is_shown(
    upstream: Upstream, tmp_path: Path, style: str
) -> None:
    name = "a\u2028b\u202e4-tpg\u2066 \ufeff"
    with Gateway(tmp_path, on(everything(upstream.url)), "--log-format", style) as gateway:
        for where in ("/oa/v1/chat/completions", "/v1/chat/completions"):
            gateway.post(where, CHAT.fields(name))
        (row,) = gateway.rows(model=name)
        gateway.wait_line(r"a\\u2028b\\u202e4-tpg\\u2066 \\ufeff")
        poll(lambda: len(listed(gateway)) == 2, "both in the logs")
        told = gateway.stderr
        for command in (
            *("logs", "logs --json", "logs --attempts", f"logs show {row['request_id']}", "top --json"),
            *("usage --by model", "usage --by model --json", "usage --by model --chart"),
        ):
            told += gateway.cli(*command.split(), code=None, both=True)
        told += gateway.cli("explain", f"oa/{name}", "--user", "alice", both=True)
        assert name[:3] not in told
    assert [line for line in told.split("\n") if not line.isprintable()] == []


def test_why_a_key_is_not_valid_is_told_in_the_log_and_not_to_the_client(tmp_path: Path) -> None:
    disabled = user("alice", KEY, "*", more="enabled = false\n")
    with Gateway(tmp_path, '[[providers]]\nname = "demo"\nchannel = "demo"\n' + disabled) as gateway:
        answers = [gateway.post(CHAT.path, CHAT.fields("demo/m"), key=key) for key in (KEY, "op_cut-short")]
        gateway.wait_line(r"401 \d+ ms the key alice/laptop is disabled")
        gateway.wait_line(r"401 \d+ ms the key is unknown: mistyped or cut short, by its checksum")
    assert [answer.status_code for answer in answers] == [401, 401]
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_line_says_who_asked_in_vain_for_what_and_what_ailed_an_upstream(
    tmp_path: Path, style: str
) -> None:
    text = on(everything(f"http://127.0.0.1:{closed_port()}"))
    with Gateway(tmp_path, text, "--log-format", style) as gateway:
        name = "no\u202ename" + "x" * 300
        refused = gateway.post("/v1/chat/completions", CHAT.fields(name))
        failed = gateway.post("/oa/v1/chat/completions", CHAT.fields("m"))
        assert (refused.status_code, failed.status_code) == (400, 502)
        if style == "text":
            gateway.wait_line(r"400 \d+ ms alice/\S+ no\\u202enamex{193}\n")
            gateway.wait_line(r"502 \d+ ms alice/\S+ oa/m .*upstream_error: connection refused\n")
        else:
            gateway.wait_line(r'"status": ?400.*"user": ?"alice".*"model": ?"no\\u202enamex{193}"')
            gateway.wait_line(r'"status": ?502.*"error": ?"connection refused"')


@pytest.mark.parametrize("logged", ["false", "true"])
@pytest.mark.parametrize(
    "path", ["/v1/models", "/demo/v1/models", f"/v1/models/{KEY}", "/user/quota", "/metrics"]
)
def test_why_a_key_is_not_valid_is_told_of_every_route(tmp_path: Path, path: str, logged: str) -> None:
    settings = f"[global]\nenable_downstream_log = {logged}\n"
    disabled = user("alice", KEY, "*", more="enabled = false\n")
    with Gateway(
        tmp_path, settings + '[[providers]]\nname = "demo"\nchannel = "demo"\n' + disabled
    ) as gateway:
        assert gateway.get("/health", key=None).status_code == 200
        assert gateway.get(path, key=KEY).status_code == 401
        shown = path.replace(KEY, "[redacted]").replace("[", r"\[")
        gateway.wait_line(rf"GET {shown} 401 \d+ ms the key alice/laptop is disabled")
        assert "/health" not in gateway.stderr
        assert KEY not in gateway.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_request_of_many_at_once_is_logged_with_its_attempts(
    upstream: Upstream, tmp_path: Path, workers: str
) -> None:
    good, busy = upstream.model(), upstream.model(Script(status=503))
    with Gateway(tmp_path, on(everything(upstream.url)), "--workers", workers) as gateway:

        def ask(number: int) -> tuple[str, int]:
            fields = CHAT.fields(busy if number % 4 == 0 else good) | {"stream": number % 2 == 1}
            answer = gateway.post("/oa/v1/chat/completions", fields)
            return answer.headers["x-gproxy-request-id"], answer.status_code

        with ThreadPoolExecutor(16) as pool:
            told = dict(pool.map(ask, range(80)))
        rows = poll(lambda: len(found := listed(gateway)) >= 80 and found, "all requests in the logs")
        assert {row["request_id"]: row["status"] for row in rows} == told
        tried = listed(gateway, "--attempts")
        for row in gateway.rows():
            assert sum(each["request_id"] == row["request_id"] for each in tried) == row["attempts"]
    with Gateway(tmp_path, on(everything(upstream.url)), "--workers", workers) as gateway:
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
    with Gateway(tmp_path, everything(upstream.url), "--workers", "2") as gateway:
        poll(lambda: [row["request_id"] for row in listed(gateway)] == ["young"], "only the young entry left")
        assert gateway.post("/oa/v1/chat/completions", CHAT.fields(upstream.model())).status_code == 200
    clear(path, "2000")  # nothing more; the write-ahead log is brought home
    assert path.stat().st_size < full / 5


def test_logs_are_cleared_beside_a_server(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model()
    with Gateway(tmp_path, on(everything(upstream.url))) as gateway:
        for _ in range(5):
            gateway.post("/oa/v1/chat/completions", CHAT.fields(model))
        poll(lambda: len(listed(gateway)) == 5, "all requests in the logs")
        gateway.cli("logs", "clear", "--yes")
        assert listed(gateway) == []
        gateway.post("/oa/v1/chat/completions", CHAT.fields(model))
        poll(lambda: len(listed(gateway)) == 1, "a request after it")
        assert len(gateway.rows()) == 6


def test_what_a_stopping_server_has_served_is_in_the_logs(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model()
    with Gateway(tmp_path, on(everything(upstream.url))) as gateway:
        for _ in range(20):
            gateway.post("/oa/v1/chat/completions", CHAT.fields(model))
        gateway.stop()
        assert len(listed(gateway)) == 20
        assert len(listed(gateway, "--attempts")) == 20
