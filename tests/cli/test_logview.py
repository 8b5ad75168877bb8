"""How entries of the logs are shown; commands are run by a real shell."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from gproxy.cli.logview import curl, day, line, whole
from gproxy.config.printable import printable
from gproxy.errors import ConfigError
from gproxy.ledger.logs import Body, Content, Downstream, Upstream
from gproxy.ledger.logs import whole as read_whole
from tests.ledger.entries import attempt, request, write

EVIL = "\x1b[2J\x07\x9b1m\u202eevil\x00"


def stored(
    tmp_path: Path, *entries: Downstream | Upstream
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    write(tmp_path / "gproxy.db", *entries)
    return read_whole(tmp_path / "gproxy.db", entries[0].request_id)


def content(body: str | bytes | None, note: str | None = None, *headers: tuple[str, str]) -> Content:
    kept = None if body is None else Body(body, len(body), "0" * 64, note)
    return Content([("host", "localhost:8787"), *headers], [], kept, None)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"user": "u" * 90, "requested_model": "雪" * 90, "error": "e" * 300, "total_ms": 3_600_000},
        {"user": None, "requested_model": None, "status": None},
        {"requested_model": EVIL, "error": EVIL, "user": EVIL},
    ],
)
def test_a_line_fits_80_columns_and_moves_no_cursor(tmp_path: Path, changes: dict[str, Any]) -> None:
    found, _ = stored(tmp_path, request("req_" + "0" * 24, **changes))
    assert found is not None
    lines = line(found, cut=True).split("\n")
    assert len(lines) == (2 if changes.get("error") else 1)
    assert all(cell_len(each) <= 80 and each.isprintable() for each in lines)
    assert "req_" + "0" * 24 in lines[0]
    assert len(day(found)) == 10
    whole_line = line(found, cut=False)
    assert "…" not in whole_line
    assert whole_line.startswith(day(found))
    assert whole_line.isprintable()


def test_an_attempt_is_a_line_too(tmp_path: Path) -> None:
    _, (found,) = stored(tmp_path, attempt("req_1", 2, status=None, error="no connection"))
    shown = line(found, cut=False)
    assert "main#1" in shown
    assert "main/large" in shown
    assert shown.endswith("no connection")


def test_both_sides_are_told(tmp_path: Path) -> None:
    found, attempts = stored(
        tmp_path,
        request("req_1", content=content('{"a":\r\n1}'), query="a=b", error="it broke"),
        attempt("req_1", 1, status=None, error="no connection", content=Content([], None)),
        attempt("req_1", 2, content=content(b"\xff" + EVIL.encode(), "cut", ("x-evil", EVIL))),
    )
    text = "\n".join(whole(found, attempts))
    for part in (
        "request req_1",
        "alice/laptop",
        "POST /v1/chat/completions?a=b",
        "asked of main/large, once",
        "status 200 in 20 ms, first byte after 15 ms",
        "it broke",
        '    {"a":\n    1}',
        "attempt 1",
        "no answer in 18 ms",
        "attempt 2",
        "(cut)",
        "base64",
    ):
        assert part in text, part
    assert printable(text, lines=True) == text
    alone = "\n".join(whole(None, attempts))
    assert alone.startswith("request req_1\n\nattempt 1")


def sent(tmp_path: Path, command: str) -> list[str]:
    """The arguments that a shell gives to curl."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "curl").write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    (folder / "curl").chmod(0o700)
    shell = shutil.which("bash")
    assert shell is not None
    done = subprocess.run(
        [shell, "-c", command],
        env={"PATH": f"{folder}:/usr/bin:/bin", "GPROXY_API_KEY": "sk-mine"},
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize(
    "said", ['it\'s $HOME `id` "x" \\ !', "@file", "line\nline", "\x1b[2J and ' and \\", "雪\u202e", "-H x"]
)
def test_the_command_sends_exactly_what_was_sent_with_a_key_of_ones_own(tmp_path: Path, said: str) -> None:
    body = json.dumps({"said": said}, ensure_ascii=False) + said
    found, _ = stored(
        tmp_path,
        request(
            "req_1",
            query="alt=sse&key=[redacted]&api_key=[redacted]&q=a'b",
            content=content(
                body,
                None,
                ("authorization", "[redacted]"),
                ("x-api-key", "[redacted]"),
                ("cookie", "[redacted]"),
                ("x-note", "a'b $(id)"),
                ("x-empty", ""),
                ("content-length", "999"),
            ),
        ),
    )
    command, left_out = curl(found, "http")
    assert printable(command, lines=True) == command
    assert left_out == ["cookie"]
    assert sent(tmp_path, command) == [
        "-sS",
        "--globoff",
        "http://localhost:8787/v1/chat/completions?alt=sse&key=sk-mine&api_key=[redacted]&q=a'b",
        "-H",
        "authorization: Bearer sk-mine",
        "-H",
        "x-api-key: sk-mine",
        "-H",
        "x-note: a'b $(id)",
        "-H",
        "x-empty;",
        "--data-raw",
        body,
    ]


def test_a_request_without_a_body_is_sent_by_its_method(tmp_path: Path) -> None:
    for number, method in enumerate(("GET", "DELETE")):
        found, _ = stored(
            tmp_path,
            request(
                f"req_{number}", method=method, path="/v1/models", content=content("" if number else None)
            ),
        )
        command, _ = curl(found, "https")
        assert "https://localhost:8787/v1/models" in command
        assert ("-X DELETE" in command) == bool(number)


@pytest.mark.parametrize(
    ("body", "note", "told"),
    [
        (None, None, "enable_downstream_log_body"),
        ("{", "cut", "log_body_max_bytes"),
        ("{", "broken off", "not logged whole"),
        (b"\xff", None, "no text"),
        ("a\0b", None, "no text"),
    ],
)
def test_a_command_that_would_send_something_else_is_refused(
    tmp_path: Path, body: str | bytes | None, note: str | None, told: str
) -> None:
    found, _ = stored(tmp_path, request("req_1", content=content(body, note)))
    with pytest.raises(ConfigError, match=told):
        curl(found, "http")
    with pytest.raises(ConfigError, match="enable_downstream_log"):
        curl(None, "http")
