"""The line that a request leaves on stderr: what it says, and what it must never do to a terminal."""

import json
import time
from collections.abc import MutableMapping
from typing import Any

import pytest

from gproxy.config.snapshot import Client
from gproxy.server.console import LINES
from gproxy.server.request import accesslog
from gproxy.server.request.incoming import Incoming
from tests.server.parts import incoming


def written(capsys: pytest.CaptureFixture[str]) -> str:
    LINES.close()
    return capsys.readouterr().err


async def nothing() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}


async def asked(client: Client | None = None, model: str = "", unknown: str = "") -> Incoming:
    found = incoming(nothing)
    found.client, found.model, found.unknown = client, model, unknown
    return found


async def test_a_line_says_what_was_asked_and_answered(capsys: pytest.CaptureFixture[str]) -> None:
    keyless = await asked(unknown="no key came")
    accesslog.write("text", "POST", "/v1/chat/completions", 401, 3, None, keyless)
    line = written(capsys)
    assert line.endswith("POST /v1/chat/completions 401 3 ms no key came\n")
    accesslog.write("json", "POST", "/v1/messages", 401, 3, None, keyless)
    assert json.loads(written(capsys))["error"] == "no key came"


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    accesslog.write("json", "POST", "/v1/messages", 404, 12, None)
    fields = json.loads(written(capsys))
    assert fields.pop("time").endswith("Z")
    assert fields == {"method": "POST", "path": "/v1/messages", "status": 404, "ms": 12}


def test_a_line_begins_with_the_time_of_day(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = 1_795_698_000
    moments = [second, 0.5, second + 0.999, second + 1, second + 61, second - 1, second]
    for moment in moments:
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        accesslog.write("text", "GET", "/", 200, 1, None)
    monkeypatch.undo()
    found = [line.split()[0] for line in written(capsys).splitlines()]
    assert found == [time.strftime("%H:%M:%S", time.localtime(moment)) for moment in moments]


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_path_cannot_move_the_cursor_or_hide(capsys: pytest.CaptureFixture[str], style: str) -> None:
    path = "/v1/\x1b[2J\nchat\x9b\u2028\u202e"
    accesslog.write(style, "POST", path, 404, 1, None)
    line = written(capsys)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    if style == "json":
        assert json.loads(line)["path"] == path


@pytest.mark.parametrize("style", ["text", "json"])
async def test_who_asked_for_what_is_told_without_a_row(
    capsys: pytest.CaptureFixture[str], style: str
) -> None:
    about = await asked(Client(user="alice", key_label="laptop", key_id="id"), "m\u202e" + "x" * 900)
    accesslog.write(style, "POST", "/v1/messages", 404, 1, None, about)
    line = written(capsys)
    assert line[:-1].isprintable()
    assert len(line) < 400
    if style == "json":
        fields = json.loads(line)
        assert (fields["user"], fields["key"], fields["model"][:2]) == ("alice", "laptop", "m\u202e")
    else:
        assert " 404 1 ms alice/laptop m\\u202ex" in line
