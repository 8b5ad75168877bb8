"""What is shown of a dry run, and whose it is; the weighing is held by `test_dryrun.py`."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gproxy.ledger import credential_state
from gproxy.ledger.store import open_store
from gproxy.values import Health
from tests.cli.conftest import MINIMAL, Run, Terminal

MORE = """
[[providers]]
name = "claude"
channel = "anthropic"
credentials = [{ api_key = "sk-secret-upstream", label = "team" }, { env = "NOT_SET" }]

[[model_aliases]]
alias = "chat"
provider_name = "claude"
model_id = "claude-haiku-4-5"
targets = [{ provider_name = "local", model_id = "a-model-with-quite-a-long-name-of-its-own" }]

[[rate_limits]]
user_name = "alice"
model_pattern = "claude/*"
rpm = 60
max_concurrency = 4

[[quotas]]
user_name = "alice"
quota = 20.0
cost_used = 0.5
"""


@pytest.fixture
def rich(file: Path) -> Path:
    file.write_text(MINIMAL + MORE)
    return file


def explained(run: Run, *argv: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("explain", *argv, "--json").out)
    return found


def test_all_that_was_weighed_is_in_the_json(run: Run, rich: Path) -> None:
    found = explained(run, "chat", "--key-label", "laptop", "--dialect", "anthropic_messages")
    assert (found["status"], found["error"]) == (200, None)
    assert (found["alias"], found["strategy"]) == ("chat", "failover")
    assert [(t["used"], t["why_not"], t["translated_to"]) for t in found["targets"]] == [
        (True, "", ""),
        (False, "its price is unknown and there is a quota", "openai_chat"),
    ]
    assert [t["untranslatable"] for t in found["targets"]] == [[], ["file_url"]]
    assert found["targets"][0]["untranslated"] == []
    assert "cache_control" in found["targets"][1]["untranslated"]
    assert found["attempts"] == [
        {"target": "claude/claude-haiku-4-5", "credential": "team", "weight": None, "health": "ready"}
    ]
    assert found["permissions"][0]["decides"][0] == "claude/claude-haiku-4-5"
    assert [(row["bound"], row["limit"], row["left"], row["applies"]) for row in found["limits"]] == [
        ("rpm", 60, 60, True),
        ("max_concurrency", 4, 4, True),
    ]
    assert found["quotas"] == [
        {
            "of": "user",
            "period": "total",
            "quota_usd": 20.0,
            "spent_usd": 0.5,
            "held_usd": 0.0,
            "left_usd": 19.5,
        }
    ]
    assert found["price"]["source"].startswith("genai-prices")
    assert found["price"]["tiers"][0]["output"] > 0


def test_people_see_the_same_in_80_columns_and_no_secret(run: Run, rich: Path, terminal: Terminal) -> None:
    piped = run("explain", "chat").out.splitlines()
    terminal(80)
    ran = run("explain", "chat")
    assert len(ran.out.splitlines()) > len(piped)  # which has each thing on one line
    assert ran.code == 0, ran.out
    for text in ("alice, by no key", "would be served", "permissions", "max_concurrency", "19.500000"):
        assert text in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "NOT_SET" in ran.err
    assert "sk-" not in ran.out + ran.err


def test_the_route_is_drawn_from_the_name_to_the_credential(run: Run, rich: Path) -> None:
    lines = run("explain", "chat").out.splitlines()
    assert lines[0] == "chat for alice, by no key"
    first = next(n for n, line in enumerate(lines) if line.endswith(" claude/claude-haiku-4-5"))
    assert lines[first + 1].endswith("── speaks anthropic_messages")
    assert lines[first + 2].endswith("── attempt 1: team, ready")
    told = " ".join(" ".join(lines).replace("│", " ").split())
    assert ": its price is unknown and there is a quota" in told


def test_credentials_that_cannot_be_read_are_told_of_the_providers_that_would_be_asked_alone(
    run: Run, rich: Path
) -> None:
    ran = run("explain", "chat", "--user", "alice")
    assert ran.err.count("NOT_SET is not set") == 1
    assert "udged by this terminal's environment" in ran.err
    assert run("explain", "local/large", "--user", "alice").err == ""


def test_what_is_told_beside_the_answer_stands_behind_it(rich: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-m", "gproxy.cli.main", "explain", "chat", "--config", str(rich)]
    both = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert both.stdout.index("would be served") < both.stdout.index("NOT_SET is not set")


def test_a_request_that_would_be_translated_is_told_with_what_it_would_lose(
    run: Run, rich: Path, terminal: Terminal
) -> None:
    terminal(80)
    ran = run("explain", "claude/claude-haiku-4-5", "--dialect", "openai_chat")
    told = " ".join(ran.out.split())
    assert "translated to anthropic_messages" in told
    assert "seed" in told
    assert "refused with 400 if it asks for json_object, sound" in told
    assert "other fields of the request itself may add" in told
    assert max(map(len, ran.out.splitlines())) <= 80
    own = run("explain", "claude/claude-haiku-4-5", "--dialect", "anthropic_messages")
    assert "translated to" not in own.out


def test_a_refusal_is_exit_1_with_its_status(run: Run, rich: Path, terminal: Terminal) -> None:
    terminal(80)
    ran = run("explain", "mystery")
    assert ran.code == 1
    assert "refused with 400" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert run("explain", "local/x", "--json").code == 1, "its price is unknown, under a quota"
    assert explained(run, "local/x")["status"] == 402


def test_whose_request_it_is_must_be_clear(run: Run, rich: Path) -> None:
    assert explained(run, "chat")["key"] is None
    run("users", "add", "bob")
    run("keys", "create", "--user", "bob", "--label", "laptop")
    assert explained(run, "chat", "--key-label", "bob/laptop")["user"] == "bob"
    assert explained(run, "chat", "--key-label", "laptop", "--user", "bob")["status"] == 403
    for argv, said in (
        ((), "--user"),
        (("--user", "eve"), "no user eve"),
        (("--key-label", "phone"), "no key is named phone"),
        (("--key-label", "laptop"), "alice/laptop, bob/laptop"),
        (("--key-label", "alice/laptop", "--user", "bob"), "no key is named"),
    ):
        for form in ((), ("--json",)):
            ran = run("explain", "chat", *argv, *form)
            assert (ran.code, ran.out) == (2, ""), "1 would mean that it is refused"
            assert said in " ".join(ran.err.replace("│", " ").split())


def test_a_dialect_that_is_none_is_wrong_usage(run: Run, rich: Path) -> None:
    assert run("explain", "chat", "--dialect", "klingon").code == 2


def test_a_file_with_errors_is_told(run: Run, file: Path) -> None:
    file.write_text(MINIMAL + "[[rate_limits]]\n")
    ran = run("explain", "local/x")
    assert ran.code == 1
    assert "rate_limits[0]" in ran.err


def test_how_a_credential_stands_is_told_with_its_time(run: Run, rich: Path) -> None:
    path = rich.parent / "data" / "gproxy.db"
    store = open_store(path)
    out = Health(state="cooling", held="out", until=time.time() + 600, at=time.time())
    key = ("claude", "team", "")
    store.run(
        [partial(credential_state.change, key=key, identity="\0sk-secret-upstream", step=lambda _: out)]
    )
    store.close()
    found = explained(run, "chat", "--user", "alice")
    assert found["attempts"][-1]["health"].startswith("out, not tried, ")
    assert found["attempts"][-1]["health"].endswith(" s more")
    shown = run("explain", "claude/claude-haiku-4-5", "--user", "alice")
    assert shown.code == 1
    assert "refused with 429" in shown.out


def test_a_draw_is_told_as_one(run: Run, rich: Path) -> None:
    assert "attempts in order" in run("explain", "chat", "--user", "alice").out
    rich.write_text(rich.read_text().replace('label = "team" }', 'label = "team", weight = 2 }'))
    assert "attempts drawn by weight" in run("explain", "chat", "--user", "alice").out
