"""What upstreams list is shown beside what is configured, kept for when they are away, and marked then."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.kit.answers import LISTED
from tests.kit.settings import closed_port
from tests.kit.upstream import Script, Upstream


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as up:
        yield up


def provider(name: str, url: str, channel: str = "openai", keys: str = '{ api_key = "sk-canary-1" }') -> str:
    return (
        f'[[providers]]\nname = "{name}"\nchannel = "{channel}"\n'
        f'settings = {{ base_url = "{url}" }}\ncredentials = [{keys}]\n\n'
    )


def model(provider_name: str, id: str) -> str:
    return f'[[models]]\nprovider_name = "{provider_name}"\nmodel_id = "{id}"\n\n'


def alias(name: str, provider_name: str, id: str) -> str:
    return f'[[model_aliases]]\nalias = "{name}"\nprovider_name = "{provider_name}"\nmodel_id = "{id}"\n\n'


def write(path: Path, *parts: str) -> None:
    path.write_text("".join(parts))
    path.chmod(0o600)


def rows(text: str) -> dict[str, Any]:
    return {row["id"]: row for row in json.loads(text)}


def test_an_open_provider_is_listed_by_what_its_upstream_lists(
    run: Run, tmp_path: Path, up: Upstream
) -> None:
    write(
        tmp_path / "gproxy.toml",
        provider("open", up.url),
        provider("few", up.url) + model("few", "listed-a") + model("few", "unheard-of"),
        alias("fast", "few", "unheard-of"),
        alias("any", "open", "listed-b"),
        provider("azure", up.url, "azure-openai"),
        '[[providers]]\nname = "demo"\nchannel = "demo"\n',
    )
    ran = run("models", "list", "--live", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = rows(ran.out)
    assert {id for id in found if id.startswith("open/")} == {f"open/{id}" for id in LISTED}
    assert {
        id: found[id]["upstream"] for id in ("few/listed-a", "few/unheard-of", "fast", "any", "azure/*")
    } == {
        "few/listed-a": "listed",
        "few/unheard-of": "not listed",
        "fast": "not listed",
        "any": "listed",
        "azure/*": "has no list",
    }
    assert found["open/listed-a"]["fetched_at"].endswith("Z")
    assert not any(row["stale"] for row in found.values())
    assert any(id.startswith("demo/") for id in found)
    assert list(found) == sorted(found)
    assert {exchange.method for exchange in up.ledger} == {"GET"}
    assert len(up.ledger) == 2


def test_without_live_nobody_is_asked(run: Run, tmp_path: Path, up: Upstream) -> None:
    write(tmp_path / "gproxy.toml", provider("open", up.url))
    assert list(rows(run("models", "list", "--json").out)) == ["open/*"]
    assert up.ledger == []
    assert not (tmp_path / "data").exists()


def test_a_list_is_kept_and_marked_when_its_upstream_is_away(run: Run, tmp_path: Path, up: Upstream) -> None:
    gone = f"http://127.0.0.1:{closed_port()}"
    write(tmp_path / "gproxy.toml", provider("open", up.url), provider("never", gone))
    ran = run("models", "list", "--live")
    assert ran.code == 1
    assert ran.err == "The list of never cannot be fetched (connection refused): none is kept.\n"
    assert ran.out.splitlines()[1].split() == ["never/*", "any", "id", "unknown"]
    with closing(sqlite3.connect(tmp_path / "data" / "gproxy.db")) as db:
        db.execute("UPDATE model_lists SET fetched_at = '2026-01-01T00:00:00.000Z'")
        db.commit()
    up.lists(Script(status=500, body=b"{}"))
    write(tmp_path / "gproxy.toml", provider("open", up.url))
    ran = run("models", "list", "--live")
    assert ran.code == 0
    assert "The list of open cannot be fetched (status 500): shown is that of" in ran.err
    assert " d ago." in ran.err
    lines = ran.out.splitlines()[1:]
    assert len(lines) == len(LISTED)
    assert all(" d ago" in line and "listed" in line for line in lines)
    assert max(map(len, lines)) <= 80
    found = rows(run("models", "list", "--live", "--json").out)
    assert {row["fetched_at"] for row in found.values()} == {"2026-01-01T00:00:00.000Z"}
    assert all(row["stale"] for row in found.values())


def test_the_next_credential_is_asked_and_one_that_cannot_be_read_is_passed_over(
    run: Run, tmp_path: Path, up: Upstream
) -> None:
    write(
        tmp_path / "gproxy.toml",
        provider("open", up.url, keys='{ env = "NOT_SET" }, { api_key = "sk-2-canary" }'),
    )
    ran = run("models", "list", "--live")
    assert ran.code == 0
    assert up.ledger[0].headers["authorization"] == "Bearer sk-2-canary"


def test_a_store_that_cannot_be_written_only_means_that_nothing_is_kept(
    run: Run, tmp_path: Path, up: Upstream
) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    write(tmp_path / "gproxy.toml", provider("open", up.url))
    ran = run("models", "list", "--live", "--json")
    assert ran.code == 0
    assert set(rows(ran.out)) == {f"open/{id}" for id in LISTED}
    assert ran.err.startswith("The lists are not kept: ")


def test_nothing_configured_says_what_to_do(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "gproxy.toml", "[global]\n")
    ran = run("models", "list", "--live")
    assert ran.code == 0
    assert "gproxy providers add" in ran.err
