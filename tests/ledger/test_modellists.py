"""A list is kept under its provider until a newer one comes, and found again only for the same address."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gproxy.errors import StoreError
from gproxy.ledger.modellists import KeptList, keeping, kept
from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import open_store

NOW = datetime(2026, 11, 25, 12, 0, 0, 123000, UTC)
HERE = {"up": "http://h/v1/models"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gproxy.db"


def keep(path: Path, *ids: str, address: str = HERE["up"], at: datetime = NOW) -> None:
    store = open_store(path)
    assert store.run([keeping("up", address, at, [(id, f"name of {id}") for id in ids])]) == [None]
    store.close()


def test_a_list_is_found_as_it_was_kept(path: Path) -> None:
    keep(path, "b", "a/雪")
    assert kept(path, HERE) == {"up": KeptList(NOW, (("b", "name of b"), ("a/雪", "name of a/雪")))}


def test_a_newer_list_takes_the_place_of_an_older_and_never_the_other_way(path: Path) -> None:
    keep(path, "new")
    keep(path, "old", at=NOW - timedelta(seconds=1))
    assert [id for id, _ in kept(path, HERE)["up"].models] == ["new"]
    keep(path, "newer", at=NOW + timedelta(seconds=1))
    assert [id for id, _ in kept(path, HERE)["up"].models] == ["newer"]


def test_a_list_of_another_address_or_provider_is_not_found(path: Path) -> None:
    keep(path, "a", address="http://elsewhere/v1/models")
    assert kept(path, HERE) == {}
    assert kept(path, {"other": "http://elsewhere/v1/models"}) == {}


def test_a_store_that_is_not_there_or_holds_nonsense_is_an_error(path: Path) -> None:
    with pytest.raises(StoreError):
        kept(path, HERE)
    open_store(path).close()
    for models in ("{", "[7]", '[{"id": "a"}]', "7"):
        with closing(connect(path)) as db:
            values = ("up", HERE["up"], "2026-11-25T12:00:00.000Z", models)
            db.execute("INSERT OR REPLACE INTO model_lists VALUES (?, ?, ?, ?)", values)
        with pytest.raises(StoreError, match="cannot be read"):
            kept(path, HERE)
