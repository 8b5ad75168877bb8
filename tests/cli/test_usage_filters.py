import json
from pathlib import Path

import pytest

from gproxy.ledger.bulk import Entry
from gproxy.ledger.store import open_store
from tests.cli.conftest import Run
from tests.ledger.rows import record


@pytest.fixture
def ledger(file: Path) -> Path:
    path = file.with_name("data") / "gproxy.db"
    store = open_store(path)
    store.run(
        [
            Entry(record("a")),
            Entry(record("b", user="bob", key_id="k2")),
            Entry(
                record("c", key_id="k3", key_label="phone", credential="team", provider="other", status=404)
            ),
            Entry(record("d", alias="fast", dialect="gemini")),
        ]
    )
    store.close()
    return path


def requests(run: Run, *argv: str) -> int:
    ran = run("usage", "--json", *argv)
    assert ran.code == 0, ran.err
    return int(json.loads(ran.out)["totals"]["requests"])


@pytest.mark.parametrize(
    ("argv", "count"),
    [
        (("--provider", "other"), 1),
        (("--credential", "team"), 1),
        (("--alias", "fast"), 1),
        (("--dialect", "gemini"), 1),
        (("--status", "404"), 1),
        (("--user", "nobody"), 0),
        (("--key", "phone"), 1),
        (("--key", "alice/phone"), 1),
        (("--key", "k2"), 1),
        (("--key", "bob/laptop"), 1),
        (("--key", "alice/laptop", "--dialect", "openai_chat"), 1),
    ],
)
def test_every_dimension_filters(run: Run, ledger: Path, argv: tuple[str, ...], count: int) -> None:
    assert requests(run, *argv) == count


@pytest.mark.parametrize(
    ("name", "told"),
    [("nope", "there is no key 'nope'"), ("", "there is no key"), ("laptop", "give one id of")],
)
def test_an_unknown_or_ambiguous_key_is_exit_1(run: Run, ledger: Path, name: str, told: str) -> None:
    ran = run("usage", "--key", name)
    assert ran.code == 1
    assert told in ran.err
