"""The table `model_lists`: what upstreams listed when they were last asked, for when they cannot be.

Asking them, and who may see what of a list, is `server/`'s.
"""

import json
import sqlite3 as stdlib_sqlite
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from gproxy.errors import StoreError
from gproxy.ledger.sqlite import connect_read_only, sqlite3
from gproxy.ledger.store import Work
from gproxy.ledger.when import stamp

_UPSERT = """
    INSERT INTO model_lists (provider, address, fetched_at, models) VALUES (?, ?, ?, ?)
    ON CONFLICT (provider) DO UPDATE
    SET address = excluded.address, fetched_at = excluded.fetched_at, models = excluded.models
    WHERE excluded.fetched_at >= fetched_at
"""


@dataclass(frozen=True, slots=True)
class KeptList:
    """What a provider listed at `fetched_at`: (id, name for people or "") of each model."""

    fetched_at: datetime
    models: tuple[tuple[str, str], ...]


def keeping(provider: str, address: str, at: datetime, models: Sequence[tuple[str, str]]) -> Work:
    """The work of keeping a list, unless a newer one is kept. `address` is where it was fetched."""
    rows = [{"id": id, "display_name": name} for id, name in models]
    values = (provider, address, stamp(at), json.dumps(rows, ensure_ascii=False))
    return partial(_keep, values=values)


def _keep(db: sqlite3.Connection, values: tuple[str, str, str, str]) -> None:
    db.execute(_UPSERT, values)


def kept(path: Path, addresses: Mapping[str, str]) -> dict[str, KeptList]:
    """The lists that are kept of the providers in `addresses`, and were fetched from where these now are.

    Raises StoreError if there is no store, or none that can be read.
    """
    found = {}
    try:
        with closing(connect_read_only(path)) as db:
            for provider, address, at, models in db.execute("SELECT * FROM model_lists"):
                if addresses.get(provider) == address:
                    entries = tuple((row["id"], row["display_name"]) for row in json.loads(models))
                    found[provider] = KeptList(datetime.fromisoformat(at), entries)
    except (sqlite3.Error, stdlib_sqlite.Error, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"The lists of models in {path} cannot be read: {error}.") from error
    return found
