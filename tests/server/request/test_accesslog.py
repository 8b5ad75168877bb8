"""The line that a request leaves on stderr: what it says, and what it must never do to a terminal."""

import json

import pytest

from gproxy.server.console import LINES
from gproxy.server.request import accesslog


def written(capsys: pytest.CaptureFixture[str]) -> str:
    LINES.close()
    return capsys.readouterr().err


def test_a_line_says_what_was_asked_and_answered(capsys: pytest.CaptureFixture[str]) -> None:
    accesslog.write("text", "POST", "/v1/chat/completions", 401, 3, None, "no key came")
    line = written(capsys)
    assert line.endswith("POST /v1/chat/completions 401 3 ms no key came\n")
    accesslog.write("json", "POST", "/v1/messages", 401, 3, None, "no key came")
    assert json.loads(written(capsys))["error"] == "no key came"


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    accesslog.write("json", "POST", "/v1/messages", 404, 12, None)
    fields = json.loads(written(capsys))
    assert fields.pop("time").endswith("Z")
    assert fields == {"method": "POST", "path": "/v1/messages", "status": 404, "ms": 12}


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_path_cannot_move_the_cursor_or_hide(capsys: pytest.CaptureFixture[str], style: str) -> None:
    path = "/v1/\x1b[2J\nchat\x9b\u2028\u202e"
    accesslog.write(style, "POST", path, 404, 1, None)
    line = written(capsys)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    if style == "json":
        assert json.loads(line)["path"] == path
