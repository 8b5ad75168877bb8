"""What a store says of the moment: open requests, how fast others end, the last errors. Reads, and never writes.

What was used today is `report.py`'s, how credentials stand `credential_state.py`'s.
"""

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from gproxy.errors import StoreError
from gproxy.ledger.sqlite import connect_read_only, remedy, sqlite3
from gproxy.ledger.when import stamp

MOST_OPEN = 100
"""So many open requests are told one by one, the oldest first."""

MOST_ERRORS = 50
_ROWS_BACK = 10_000
"""Errors are looked for among so many of the newest rows: a store may have millions without one."""

_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Moment:
    """`in_flight`: requests that have been open for 50 ms; `open` are the oldest.
    `rows` is the id of the newest row; `requests` and `tokens` of the rows after the one asked for, or of the
    last minute. `errors` are the newest, newest first."""

    in_flight: int
    open: list[dict[str, Any]]
    rows: int
    requests: int
    tokens: int
    errors: list[dict[str, Any]]


class _Pending(msgspec.Struct):
    """The row that a request would leave if its process died now, as far as it is told."""

    user: str
    requested_model: str
    dialect: str
    stream: bool
    provider: str | None = None
    model: str | None = None


def moment(path: Path, now: datetime, after: int | None = None) -> Moment:
    """The store at `path`, which must exist, as it is now. `after`: rows are counted behind the one of that id, None:
    those of requests that began within the last minute. Raises `StoreError`."""
    try:
        with closing(connect_read_only(path)) as db:
            db.execute("BEGIN")
            (count,) = db.execute("SELECT count(*) FROM reservations").fetchone()
            (newest,) = db.execute("SELECT ifnull(max(id), 0) FROM usage").fetchone()
            return Moment(count, _open(db, now), newest, *_ended(db, now, after), _errors(db, newest))
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read as a usage store ({error}): {remedy(error)}.") from error


def open_of(path: Path, key_id: str) -> int:
    """How many requests of a key are open in the store at `path`, of those that leave a row. Raises `StoreError`."""
    query = """
        SELECT count(*) FROM reservations
        WHERE CASE WHEN json_valid(CAST(record AS TEXT)) THEN CAST(record AS TEXT) ->> '$.key_id' END = ?
    """
    if not path.exists():
        return 0
    try:
        with closing(connect_read_only(path)) as db:
            return int(db.execute(query, (key_id,)).fetchone()[0])
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read as a usage store ({error}): {remedy(error)}.") from error


def _open(db: sqlite3.Connection, now: datetime) -> list[dict[str, Any]]:
    query = """
        SELECT request_id, json_extract(hold, '$[0]') AS began, record FROM reservations ORDER BY began LIMIT ?
    """
    found = []
    for request_id, began, record in db.execute(query, (MOST_OPEN,)):
        pending = _pending(record)
        found.append(
            {
                "request_id": request_id,
                "started_at": stamp(datetime.fromtimestamp(began, UTC)),
                "seconds": round(max(0.0, now.timestamp() - began), 3),
                "user": pending and pending.user,
                "dialect": pending and pending.dialect,
                "stream": pending and pending.stream,
                "requested_model": pending and pending.requested_model,
                "provider": pending and pending.provider,
                "model": pending and pending.model,
            }
        )
    return found


def _pending(record: bytes) -> _Pending | None:
    """None where no rows are written, or by a version that wrote them otherwise."""
    try:
        return msgspec.json.decode(record, type=_Pending) if record else None
    except msgspec.MsgspecError:
        return None


def _ended(db: sqlite3.Connection, now: datetime, after: int | None) -> tuple[int, int]:
    sums = "SELECT count(*), ifnull(sum(total_tokens), 0) FROM usage WHERE"
    if after is not None:
        found = db.execute(f"{sums} id > ?", (after,))
    else:
        found = db.execute(f"{sums} started_at >= ?", (stamp(now - timedelta(seconds=_MINUTE_S)),))
    requests, tokens = found.fetchone()
    return requests, tokens


def _errors(db: sqlite3.Connection, newest: int) -> list[dict[str, Any]]:
    cursor = db.execute(
        """
        SELECT started_at, request_id, user, requested_model, provider, credential, status, outcome, error FROM usage
        WHERE id > ? AND (status >= 400 OR outcome != 'ok') ORDER BY id DESC LIMIT ?
        """,
        (newest - _ROWS_BACK, MOST_ERRORS),
    )
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
