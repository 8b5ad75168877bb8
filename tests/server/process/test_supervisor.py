"""The process around the server: its socket, what it says and its exit code. Each test is a process."""

import json
import os
import re
import socket
import sys
from pathlib import Path

import httpx
import pytest

from tests.kit.gateway import poll
from tests.server.parts import ALICE, KEY
from tests.server.running import running, settings


def test_the_address_is_announced_before_it_is_listened_on(tmp_path: Path) -> None:
    with running(tmp_path, settings() + ALICE) as it:
        url = it.url()
        assert it.process.stdout is not None
        assert it.process.stdout.readline() == f"announced {url}\n"


def test_where_json_is_wanted_all_that_is_said_is_json(tmp_path: Path) -> None:
    text = settings(log_format="json") + ALICE
    with running(tmp_path, text) as it:
        ask(poll(lambda: re.search('"listening on (.*)"', it.said), "listening")[1])
        it.path.write_text(text.replace(KEY, "sk-new"))
        poll(lambda: re.search("configuration reloaded", it.said), "the reload")
        it.signal()
        assert it.code() == 0
        lines = [json.loads(line) for line in it.said.splitlines()]
    assert [line["path"] for line in lines if "path" in line] == ["/v1/chat/completions"]
    assert all(("message" in line) != ("path" in line) for line in lines)


def ask(url: str) -> None:
    """A request that comes to nothing, and has its line."""
    headers = {"authorization": f"Bearer {KEY}"}
    httpx.post(f"{url}/v1/chat/completions", json={"model": "none"}, headers=headers, trust_env=False)


def test_a_port_that_is_taken_is_one_sentence_and_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(tmp_path, settings(port) + ALICE) as it:
            assert it.code() == 1
            (line,) = it.said.splitlines()
        assert not (tmp_path / "data").exists()
    by = ["(Address already in use by ", f", process {os.getpid()})"] if sys.platform == "linux" else []
    for word in (f"127.0.0.1:{port}", "--port", "--host", *by):
        assert word in line


def test_an_address_that_is_not_ours_is_one_sentence_and_one(tmp_path: Path) -> None:
    with running(tmp_path, settings(host="203.0.113.7") + ALICE) as it:
        assert it.code() == 1
        (line,) = it.said.splitlines()
    assert "203.0.113.7" in line


def test_a_configuration_with_errors_is_one_sentence_and_one(tmp_path: Path) -> None:
    with running(tmp_path, "nonsense") as it:
        assert it.code() == 1
        (line,) = it.said.splitlines()
    assert "gproxy check" in line


def test_files_that_are_no_certificate_are_one_sentence_and_one(tmp_path: Path) -> None:
    (tmp_path / "tls.pem").write_text("nonsense")
    with running(tmp_path, settings(tls_certificate="tls.pem", tls_key="tls.pem") + ALICE) as it:
        assert it.code() == 1
        (line,) = it.said.splitlines()
    assert "tls_certificate" in line


def test_a_folder_that_cannot_be_made_is_one_sentence_and_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with running(tmp_path, settings(data_dir="file/data") + ALICE) as it:
        assert it.code() == 1
        (line,) = it.said.splitlines()
    assert "data_dir" in line


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_is_listened_on(tmp_path: Path) -> None:
    with running(tmp_path, settings(host="::1") + ALICE) as it:
        url = it.url()
        assert url.startswith("http://[::1]:")
        assert httpx.get(f"{url}/health", trust_env=False).text == "OK"
