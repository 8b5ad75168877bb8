"""What is shown of credentials: all that are configured, how they stand, and nothing of their secrets."""

import json
from pathlib import Path

from gproxy.config.source import load_text
from gproxy.ledger.credential_state import change, since
from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import open_store
from gproxy.providers.catalog import CHANNELS
from gproxy.server.control import overview
from gproxy.values import READY, Health

NOW = 1_795_612_800.0  # 2026-11-25T13:20:00Z
FILE = """
[[providers]]
name = "p"
channel = "custom"
settings.base_url = "http://x"
credentials = [{ api_key = "sk-canary", label = "one" }, { env = "NOT_SET" }]
[[providers]]
name = "free"
channel = "custom"
settings.base_url = "http://y"
[[providers]]
name = "off"
channel = "openai"
enabled = false
credentials = [{ api_key = "sk-canary" }]
[[providers]]
name = "none"
channel = "openai"
"""
_LOADED = load_text(FILE.encode(), directory=Path(), channels=CHANNELS, environ={})
assert _LOADED.config is not None
assert _LOADED.snapshot is not None
CONFIG, SNAPSHOT = _LOADED.config, _LOADED.snapshot

OUT = Health(
    state="cooling", held="out", until=NOW + 12, failures=3, status=429, error="status 429", at=NOW - 1
)


def test_every_configured_credential_is_there_in_file_order() -> None:
    trees = overview.credentials(CONFIG, {}, NOW)
    assert [(tree["provider"], tree["credential"]) for tree in trees] == [
        ("p", "one"),
        ("p", "p#2"),
        ("free", "no key"),
        ("off", "off#1"),
    ]
    assert [tree["state"] for tree in trees] == ["ready", "ready", "ready", "disabled"]
    assert trees[0] == {
        "provider": "p",
        "credential": "one",
        "model": None,
        "state": "ready",
        "held": None,
        "until": None,
        "failures": 0,
        "last_status": None,
        "last_error": None,
        "last_failed_at": None,
    }


def test_what_the_server_could_not_read_is_told_by_it() -> None:
    trees = overview.credentials(CONFIG, {}, NOW, SNAPSHOT)
    assert [tree["last_error"] for tree in trees] == [
        None,
        "its secret could not be read",
        None,
        "its provider is disabled",
    ]
    assert trees[1]["state"] == "disabled"


def test_models_follow_their_credential_and_are_told_until_they_have_recovered() -> None:
    known = {
        ("p", "one", "b"): OUT,
        ("p", "one", "a"): OUT,
        ("p", "one", "fine"): READY,
        ("p", "gone", ""): OUT,
    }
    trees = overview.credentials(CONFIG, known, NOW)
    assert [tree["model"] for tree in trees if tree["credential"] == "one"] == [None, "a", "b"]
    assert trees[1] == {
        "provider": "p",
        "credential": "one",
        "model": "a",
        "state": "cooling",
        "held": "out",
        "until": "2026-11-25T13:20:12.000Z",
        "failures": 3,
        "last_status": 429,
        "last_error": "status 429",
        "last_failed_at": "2026-11-25T13:19:59.000Z",
    }


def test_a_cool_down_that_has_ended_is_over() -> None:
    (tree, *_) = overview.credentials(CONFIG, {("p", "one", ""): OUT}, NOW + 12)
    assert (tree["state"], tree["held"], tree["until"]) == ("ready", None, None)
    assert tree["last_error"] == "status 429"


def test_a_refused_key_is_disabled_without_an_end() -> None:
    (tree, *_) = overview.credentials(CONFIG, {("p", "one", ""): Health(state="disabled", at=NOW)}, NOW)
    assert (tree["state"], tree["held"], tree["until"]) == ("disabled", None, None)


def test_only_what_is_said_of_the_secret_in_force_counts_where_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    open_store(path).close()
    db = connect(path)
    change(db, key=("p", "one", ""), identity="http://x\0sk-canary", step=lambda _: OUT)
    change(db, key=("p", "one", "m"), identity="another", step=lambda _: OUT)
    change(db, key=("gone", "one", "m"), identity="another", step=lambda _: OUT)
    rows = since(db, 0)
    db.close()
    assert set(overview.healths(rows, SNAPSHOT)) == {("p", "one", "")}
    assert len(overview.healths(rows)) == 3
    assert "canary" not in json.dumps(overview.credentials(CONFIG, overview.healths(rows), NOW, SNAPSHOT))
