"""The table `credential_state`: how each credential stands, for all workers, over restarts, and for commands.

What changes a credential's health is decided in `routing/credentials.py` and told by `server/request/health.py`.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gproxy.errors import StoreError
from gproxy.ledger.sqlite import connect_read_only, sqlite3
from gproxy.values import READY, Health

Key = tuple[str, str, str]
"""A provider, its credential's name, and a model: "" for the credential as a whole."""

MOST_ROWS = 4096
"""Models are named by clients: beyond this, rows that say the least go."""

_FIELDS = tuple(field.name for field in fields(Health))
_COLUMNS = f"provider, credential, model, {', '.join(_FIELDS)}, salt, digest"
_SELECT = f"SELECT version, {_COLUMNS} FROM credential_state"  # noqa: S608 - names of columns alone
_REPLACE = (
    f"INSERT OR REPLACE INTO credential_state ({_COLUMNS}) "  # noqa: S608 - likewise
    f"VALUES ({', '.join('?' * (len(_FIELDS) + 5))})"
)
_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `salt` and `digest` tell whether it speaks of a credential, and give nothing of its secret away."""

    version: int
    key: Key
    health: Health
    salt: bytes
    digest: bytes

    def is_of(self, identity: str) -> bool:
        return hmac.compare_digest(self.digest, _digest(self.salt, identity))


class Reader:
    """Reads a store that exists, again and again, in the one thread that made it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def since(self, version: int) -> list[Row]:
        """What changed after `version`, oldest first. Raises `StoreError`; the next call then begins anew."""
        try:
            if self._connection is None:
                self._connection = connect_read_only(self._path)
            return since(self._connection, version)
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"The health of credentials cannot be read ({error}).") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read(path: Path) -> list[Row]:
    """All rows of the store at `path`, none where there is no store yet. Raises `StoreError`."""
    if not path.exists():
        return []
    db = connect_read_only(path)
    try:
        made = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'credential_state'").fetchone()
        return since(db, 0) if made else []  # a store of an older version, which no server has opened since
    except sqlite3.Error as error:
        raise StoreError(f"The health of credentials cannot be read ({error}).") from error
    finally:
        db.close()


def since(db: sqlite3.Connection, version: int) -> list[Row]:
    return [_row(found) for found in db.execute(f"{_SELECT} WHERE version > ? ORDER BY version", (version,))]


def change(
    db: sqlite3.Connection, *, key: Key, identity: str, step: Callable[[Health], Health | None]
) -> tuple[Row | None, bool]:
    """Take one step from how a credential stands. None from `step` leaves it as it is.

    `identity` is what makes it itself, its secret above all; what is known of another one does not count.
    Returns the row as it is now, if there is one, and whether it was changed.
    """
    found = _find(db, key)
    known = found is not None and found.is_of(identity)
    stepped = step(found.health if found is not None and known else READY)
    if stepped is None:
        return (found if known else None), False
    salt = found.salt if found is not None and known else secrets.token_bytes(16)
    _write(db, key, stepped, salt, _digest(salt, identity))
    if found is None:
        _bound(db)
    return _find(db, key), True


def keep(
    db: sqlite3.Connection, *, credentials: Mapping[tuple[str, str], str], unread: set[tuple[str, str]]
) -> None:
    """Forget what is not of these (provider, credential), by their identities. `unread` are those whose
    secret could not be read."""
    for row in since(db, 0):
        pair = row.key[:2]
        if pair not in unread and (pair not in credentials or not row.is_of(credentials[pair])):
            db.execute("DELETE FROM credential_state WHERE version = ?", (row.version,))


def reset(db: sqlite3.Connection, *, provider: str | None = None, credential: str | None = None) -> int:
    """Make all credentials ready, or those of a provider, or one; how many rows said otherwise.

    The rows stay, with nothing in them, so that every process learns of it.
    """
    count = 0
    for row in since(db, 0):
        of = row.key[0] if provider is not None else None, row.key[1] if credential is not None else None
        if of == (provider, credential) and row.health != READY:
            _write(db, row.key, READY, row.salt, row.digest)
            count += row.health.state != "ready"
    return count


def _find(db: sqlite3.Connection, key: Key) -> Row | None:
    found = db.execute(f"{_SELECT} WHERE provider = ? AND credential = ? AND model = ?", key).fetchone()
    return None if found is None else _row(found)


def _row(found: tuple[Any, ...]) -> Row:
    version, provider, credential, model, *health, salt, digest = found
    return Row(
        version,
        (provider, credential, model),
        Health(**dict(zip(_FIELDS, health, strict=True))),
        salt,
        digest,
    )


def _write(db: sqlite3.Connection, key: Key, health: Health, salt: bytes, digest: bytes) -> None:
    db.execute(_REPLACE, (*key, *(getattr(health, name) for name in _FIELDS), salt, digest))


def _bound(db: sqlite3.Connection) -> None:
    (count,) = db.execute("SELECT count(*) FROM credential_state").fetchone()
    if count > MOST_ROWS:
        db.execute(
            "DELETE FROM credential_state WHERE version IN (SELECT version FROM credential_state "
            "ORDER BY model = '', state != 'ready', until, version LIMIT ?)",
            (count - MOST_ROWS,),
        )


def _digest(salt: bytes, identity: str) -> bytes:
    return hashlib.blake2b(identity.encode(), key=salt, digest_size=_DIGEST_BYTES).digest()
