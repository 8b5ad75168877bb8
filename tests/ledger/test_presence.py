import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gproxy.errors import StoreError
from gproxy.ledger import presence
from gproxy.ledger.bulk import Entry
from gproxy.ledger.presence import Presence
from gproxy.ledger.store import open_store
from tests.ledger.rows import record


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LOOK_EVERY_S", 0.0)


def other(path: Path) -> None:
    """Another file in its place."""
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("do", [Path.unlink, other], ids=["removed", "replaced"])
def test_nothing_is_written_into_a_store_that_is_not_there_any_more(
    tmp_path: Path, end: str, do: Callable[[Path], None]
) -> None:
    path = tmp_path / "gproxy.db"
    store = open_store(path)
    store.run([Entry(record("a"))])
    file = path.with_name(path.name + end)
    do(file)
    with pytest.raises(StoreError, match=rf"{file.name} was removed or replaced.*restart the server"):
        store.run([Entry(record("b"))])
    store.close()


def test_a_file_that_is_put_back_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    store = open_store(path)
    away = path.rename(tmp_path / "away.db")
    with pytest.raises(StoreError):
        store.run([Entry(record("a"))])
    away.rename(path)
    assert store.run([Entry(record("a"))]) == [None]
    store.close()


def test_a_main_file_that_was_emptied_is_none_and_a_log_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    store = open_store(path)
    store.run([lambda db: None])
    os.truncate(path.with_name("gproxy.db-wal"), 0)
    Presence(path).check()
    os.truncate(path, 0)
    with pytest.raises(StoreError, match="removed or replaced"):
        store.run([Entry(record("a"))])
    store.close()


def test_files_are_looked_at_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gproxy.db"
    path.write_bytes(b"x")
    it = Presence(path)
    monkeypatch.setattr(presence, "LOOK_EVERY_S", 60.0)
    path.unlink()
    it.check()
    monkeypatch.setattr(presence, "LOOK_EVERY_S", 0.0)
    for _ in range(2):
        with pytest.raises(StoreError):
            it.check()
