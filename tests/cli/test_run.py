import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gproxy.server.process.lock import held
from tests.cli.conftest import Run
from tests.kit.gateway import ROOT, Gateway, poll
from tests.server.checks.test_local import CONFIG

ASK = """
import json, os, sys, urllib.request
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
body = {"model": sys.argv[1], "messages": [{"role": "user", "content": "Hello"}]}
headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}
try:
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
        print(answer.status)
except urllib.error.HTTPError as error:
    print(error.code)
sys.exit(3)
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway"), CONFIG) as gateway:
        yield gateway


def labels(gateway: Gateway) -> list[str]:
    users = tomllib.loads(gateway.path.read_text())["users"]
    return [key["label"] for user in users for key in user.get("keys", ())]


def ran(gateway: Gateway, *command: str) -> "subprocess.CompletedProcess[str]":
    argv = (sys.executable, "-m", "gproxy.cli.main", "run", "--url", gateway.url)
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | {"PYTHONPATH": ROOT}
    return subprocess.run(
        (*argv, "--config", str(gateway.path), *command), env=env, capture_output=True, text=True, timeout=60
    )


def test_a_command_calls_with_its_own_key_and_its_cost_and_code_are_told(gateway: Gateway) -> None:
    done = ran(gateway, "--", sys.executable, "-c", ASK, "demo/echo-1")
    assert (done.returncode, done.stdout) == (3, "200\n"), done.stderr
    row = gateway.rows()[-1]
    assert row["key_label"].startswith("run-")
    assert f"gproxy: 1 request, {row['total_tokens']} tokens, " in done.stderr
    assert f"key alice/{row['key_label']} revoked" in done.stderr
    assert labels(gateway) == ["a"]


def test_its_key_may_do_what_it_was_made_for_alone(gateway: Gateway) -> None:
    done = ran(gateway, "--model", "other/*", "--quota", "0.5", sys.executable, "-c", ASK, "demo/echo-1")
    assert (done.returncode, done.stdout) == (3, "403\n"), done.stderr
    assert "There is no provider other. " in done.stderr
    assert "gproxy: no requests; " in done.stderr


def test_a_quota_holds_on_the_demo_which_has_a_price(gateway: Gateway) -> None:
    done = ran(gateway, "--quota", "2.50", "--", sys.executable, "-c", ASK, "demo/echo-1")
    assert (done.returncode, done.stdout) == (3, "200\n"), done.stderr
    row = gateway.rows()[-1]
    assert row["price_source"] == "channel"
    assert row["cost_usd"] == pytest.approx((row["input_tokens"] + 2 * row["output_tokens"]) / 1e6)


def test_a_signal_ends_the_command_and_the_key(gateway: Gateway) -> None:
    argv = (
        sys.executable,
        "-m",
        "gproxy.cli.main",
        "run",
        "--url",
        gateway.url,
        "--config",
        str(gateway.path),
    )
    script = "import signal; print('ready', flush=True); signal.pause()"
    with subprocess.Popen(
        (*argv, "--", sys.executable, "-c", script),
        env=os.environ | {"PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as outer:
        assert outer.stdout is not None
        assert outer.stderr is not None
        assert outer.stdout.readline() == "ready\n", outer.stderr.read()
        assert len(labels(gateway)) == 2
        outer.send_signal(signal.SIGTERM)
        assert "revoked" in outer.stderr.read()
        assert outer.wait(20) == 128 + signal.SIGTERM
    assert labels(gateway) == ["a"]


def test_a_key_is_no_longer_taken_after_the_run(gateway: Gateway) -> None:
    done = ran(gateway, "--", "sh", "-c", "echo $ANTHROPIC_API_KEY")
    key = done.stdout.strip()
    assert key.startswith("op_")
    poll(lambda: gateway.get("/user/quota", key=key).status_code == 401, "the key is refused")


def test_what_was_left_by_a_run_that_was_killed_goes_with_the_next(gateway: Gateway) -> None:
    gone = '[[users]]\nname = "bob"\n[[users.keys]]\nlabel = "run-01234567"\napi_key = "sk-left-over"\n'
    gateway.edit(lambda text: f"{text}\n{gone}expires_at = 2026-01-01T00:00:00Z\n")
    done = ran(gateway, "--user", "alice", "--", "true")
    assert done.returncode == 0, done.stderr
    assert "run-01234567" not in gateway.path.read_text()


def test_a_command_that_is_not_there_leaves_no_key(gateway: Gateway) -> None:
    before = labels(gateway)
    done = ran(gateway, "--user", "alice", "--", "no-such-command-here")
    assert done.returncode == 127
    assert "there is no command no-such-command-here" in done.stderr
    assert labels(gateway) == before


def test_without_a_server_no_key_is_made(run: Run, file: Path) -> None:
    before = file.read_bytes()
    ran: Any = run("run", "--url", "http://127.0.0.1:9", "--", "true")
    assert ran.code == 1
    assert "`gproxy serve` starts one" in ran.err
    assert file.read_bytes() == before


def test_a_server_at_another_address_is_told_of(run: Run, file: Path) -> None:
    file.write_text(f"[global]\nport = 9\n\n{file.read_text()}")
    folder = file.with_name("data")
    folder.mkdir()
    with held(folder):
        ran: Any = run("run", "--", "true")
    assert ran.code == 1
    assert "at another address: give that with --url" in ran.err
    assert "starts one" not in ran.err
