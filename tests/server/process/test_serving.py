"""One process from its configuration to its last row: its store and its reloads. Each test is a process."""

from pathlib import Path
from typing import Any

import httpx

from tests.kit.gateway import poll
from tests.server.parts import ALICE, KEY
from tests.server.running import running, settings


def test_a_store_that_cannot_be_opened_is_one_sentence_and_one(tmp_path: Path) -> None:
    (tmp_path / "data" / "gproxy.db").mkdir(parents=True)
    with running(tmp_path, settings() + ALICE) as it:
        assert it.code() == 1
        (line,) = it.said.splitlines()
    assert "gproxy.db" in line


def test_what_needs_a_restart_is_said_and_the_rest_is_put_in_force(tmp_path: Path) -> None:
    text = settings() + ALICE
    with running(tmp_path, text) as it:
        url = it.url()
        it.path.write_text(text.replace("port = 0", "port = 1").replace(KEY, "sk-new"))
        poll(lambda: "configuration reloaded" in it.said, "the reload")
        assert "restart to apply [global] port" in it.said
        headers = {"authorization": "Bearer sk-new"}
        assert httpx.get(f"{url}/v1/models", headers=headers, trust_env=False).status_code == 200


def test_a_bad_edit_makes_it_not_ready_until_it_is_mended(tmp_path: Path) -> None:
    text = settings() + ALICE
    with running(tmp_path, text) as it:
        url = it.url()
        it.path.write_text("nonsense")
        answer = poll(lambda: ready(url, 503), "not ready")
        assert "not in force" in answer["reasons"][0]
        it.path.write_text(text)
        poll(lambda: ready(url, 200), "ready again")


def ready(url: str, status: int) -> dict[str, Any] | None:
    """What /ready says, if it says it with that status."""
    answer = httpx.get(f"{url}/ready", trust_env=False)
    tree: dict[str, Any] = answer.json()
    return tree if answer.status_code == status else None
