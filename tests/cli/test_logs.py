"""`gproxy logs` over a store with entries of all kinds."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gproxy.ledger.logs import Body, Content
from gproxy.ledger.sqlite import sqlite3
from gproxy.server.process.lock import held
from tests.cli.conftest import Run
from tests.ledger.entries import attempt, request, write

FIRST = "req_" + "a" * 24
SECOND = "req_" + "b" * 24
ROOT = Path(__file__).parents[2]
LATER = "2026-11-26T12:00:00.000Z"


@pytest.fixture
def store(file: Path) -> Path:
    """Two requests, the second failed over and refused."""
    path = file.with_name("data") / "gproxy.db"
    kept = Body('{"model": "main/large"}', 23, "0" * 64)
    content = Content([("host", "localhost:8787"), ("authorization", "[redacted]")], [], kept, kept)
    write(
        path,
        request(FIRST, content=content),
        attempt(FIRST, 1),
        request(SECOND, started_at=LATER, user="bob", status=502, error="all have failed"),
        attempt(SECOND, 1, started_at=LATER, status=503),
        attempt(SECOND, 2, started_at=LATER, provider="other", status=None, error="no connection"),
    )
    return path


def ids(text: str) -> list[str]:
    return re.findall(r"req_\w+", text)


def test_no_name_is_cut_in_a_pipe(run: Run, file: Path) -> None:
    names = {"user": "u" * 60, "requested_model": "m" * 60, "error": "e" * 200}
    write(file.with_name("data") / "gproxy.db", request(FIRST, **names))
    shown = run("logs").out
    assert all(name in shown for name in names.values())
    assert f"{'m' * 60} {FIRST}" in shown


def test_in_a_pipe_a_request_is_a_line_with_its_day_and_error(store: Path) -> None:
    argv = ["logs", "--config", str(store.parents[1] / "gproxy.toml")]
    ran = subprocess.run(
        [sys.executable, "-m", "gproxy", *argv], stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True
    )
    heading, *rows = ran.stdout.splitlines()
    assert heading.split() == ["date", "time", "code", "ms", "who", "model", "request", "error"]
    assert [ids(row) for row in rows] == [[FIRST], [SECOND]]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", row) for row in rows)
    assert rows[0].endswith(FIRST)
    assert rows[1].endswith(f"{SECOND} all have failed")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such terminals")
@pytest.mark.parametrize("command", [(), ("list",)])
def test_requests_are_listed_newest_last_in_80_columns_of_a_terminal(
    store: Path, command: tuple[str, ...]
) -> None:
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        argv = ["logs", *command, "--config", str(store.parents[1] / "gproxy.toml")]
        subprocess.run([sys.executable, "-m", "gproxy", *argv], stdout=theirs, cwd=ROOT, check=True)
        shown = terminal.read(8192).decode()
        os.close(theirs)
    assert ids(shown) == [FIRST, SECOND]
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["time", "code", "ms", "who", "model", "request"]
    assert "all have failed" in lines[-1]
    assert sum(bool(re.fullmatch(r"\d{4}-\d\d-\d\d", each)) for each in lines) == 2


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (("--user", "bob"), [SECOND]),
        (("--key", "alice/laptop"), [FIRST]),
        (("--provider", "main"), [FIRST, SECOND]),
        (("--model", "large"), [FIRST, SECOND]),
        (("--status", "5xx"), [SECOND]),
        (("--since", "2026-11-26"), [SECOND]),
        (("--until", "2026-11-26"), [FIRST]),
        (("--errors",), [SECOND]),
        (("--limit", "1"), [SECOND]),
        (("--attempts",), [FIRST, SECOND, SECOND]),
        (("--attempts", "--provider", "other"), [SECOND]),
    ],
)
def test_the_list_is_filtered(run: Run, store: Path, argv: tuple[str, ...], found: list[str]) -> None:
    assert [row["request_id"] for row in json.loads(run("logs", *argv, "--json").out)] == found
    assert ids(run("logs", *argv).out) == found


@pytest.mark.parametrize(
    "argv", [("--status", "abc"), ("--since", "soon"), ("--attempts", "--user", "x"), ("--limit", "0")]
)
def test_a_wrong_filter_is_wrong_usage(run: Run, store: Path, argv: tuple[str, ...]) -> None:
    assert run("logs", *argv).code == 2


def test_where_nothing_is_logged_it_says_how(run: Run, file: Path) -> None:
    ran = run("logs")
    assert (ran.code, ran.out) == (0, "")
    assert "enable_downstream_log = true" in ran.err
    assert max(map(len, ran.err.splitlines())) <= 80
    assert "enable_upstream_log = true" in run("logs", "--attempts").err
    assert json.loads(run("logs", "--json").out) == []
    file.write_text(f"[global]\nenable_downstream_log = true\n{file.read_text()}")
    assert "off" not in run("logs").err


@pytest.mark.parametrize(("options", "flag"), [(["--errors"], "down"), (["--attempts"], "up")])
def test_who_follows_logs_that_are_off_is_told_so(file: Path, options: list[str], flag: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-m", "gproxy.cli.main", "logs", "-f", *options, "--config", str(file)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said == f"The logs are off: set `enable_{flag}stream_log = true` in [global].\n"
        finally:
            process.kill()


def test_what_comes_is_followed_until_it_is_told_to_end(run: Run, file: Path, store: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [
        sys.executable,
        "-m",
        "gproxy.cli.main",
        "logs",
        "-f",
        "--json",
        "--errors",
        "--config",
        str(file),
    ]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["request_id"] == SECOND
        write(store, request("req_fine"), request("req_wrong", status=500))
        assert json.loads(process.stdout.readline())["request_id"] == "req_wrong"
        assert run("logs", "clear", "--yes").code == 0
        write(store, request("req_later", status=429))
        assert json.loads(process.stdout.readline())["request_id"] == "req_later"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_request_is_shown_whole_by_the_beginning_of_its_id(run: Run, store: Path) -> None:
    ran = run("logs", "show", SECOND[:10])
    assert ran.code == 0, ran.err
    assert f"request {SECOND}" in ran.out
    assert "attempt 2" in ran.out
    found = json.loads(run("logs", "show", FIRST, "--json").out)
    assert found["request"]["request_body"] == '{"model": "main/large"}'
    assert [each["attempt"] for each in found["attempts"]] == [1]


def test_a_request_is_shown_as_a_command(run: Run, store: Path) -> None:
    ran = run("logs", "show", FIRST, "--curl")
    assert ran.code == 0
    assert ran.out.startswith("curl -sS --globoff http://localhost:8787/v1/chat/completions \\\n")
    assert '-H "authorization: Bearer $GPROXY_API_KEY"' in ran.out
    refused = run("logs", "show", SECOND, "--curl")
    assert refused.code == 1
    assert "enable_downstream_log_body" in refused.err


def test_a_command_that_repeats_what_was_taken_out_says_so(run: Run, store: Path) -> None:
    body = Body('{"model": "main/large", "note": "[redacted]"}', 45, "")
    write(
        store,
        request("req_whole", query="key=[redacted]", content=Content([], None, Body("{}", 2, ""))),
        request("req_lacks", query="key=[redacted]&token=[redacted]", content=Content([], None, body)),
    )
    assert run("logs", "show", "req_whole", "--curl").err == ""
    ran = run("logs", "show", "req_lacks", "--curl")
    assert "[redacted] stands in its query and body" in ran.err
    assert "[redacted]" in ran.out


def test_an_unknown_or_ambiguous_id_is_exit_1(run: Run, store: Path) -> None:
    for name, told in (("req_c", "no request"), ("req_", "2 requests")):
        ran = run("logs", "show", name)
        assert ran.code == 1
        assert told in ran.err
    assert run("logs", "show", FIRST, "--json", "--curl").code == 2


def test_clearing_says_first_what_it_would_do(run: Run, store: Path) -> None:
    ran = run("logs", "clear", "--before", "2026-11-26")
    assert "2 entries would be removed" in ran.err
    assert ids(run("logs").out) == [FIRST, SECOND]
    ran = run("logs", "clear", "--before", "2026-11-26", "--yes")
    assert (ran.code, ran.err) == (0, "2 entries removed.\n")
    assert ids(run("logs").out) == [SECOND]
    assert run("logs", "clear", "--yes").err == "3 entries removed.\n"
    assert run("logs", "clear", "--yes").err == "0 entries removed.\n"


def test_a_store_of_before_shrinks_only_while_no_server_runs(run: Run, file: Path) -> None:
    path = file.with_name("data") / "gproxy.db"
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE other (x)")  # from then on the file keeps its way of giving back no room
    db.execute("DROP TABLE other")
    db.close()
    write(path, request(FIRST), request(SECOND))
    with held(path.parent):
        ran = run("logs", "clear", "--before", "2026-11-26", "--yes")
        assert ran.code == 0
        assert "while a server runs" in ran.err
    assert run("logs", "clear", "--yes").err == "0 entries removed.\n"
    write(path, request(FIRST))
    assert run("logs", "clear", "--yes").err == "1 entry removed.\n"


def test_logs_need_a_configuration(run: Run) -> None:
    assert run("logs").code == 1
