"""The request logs: the tables `downstream_log` and `upstream_log`, how they are written, and how they are read.

What is logged, and that no secret is in it, is `server/request/capture.py`'s; for how long it is kept,
`retention.py`'s.
"""

import base64
import json
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from gproxy.errors import StoreError
from gproxy.ledger.sqlite import connect_read_only, remedy, sqlite3
from gproxy.ledger.when import stamp

MOST_LISTED = 1000
"""Most entries that one look gives."""


@dataclass(frozen=True, slots=True)
class Body:
    """What is kept of a body: its beginning, and length and SHA-256 (hex) of all of it that was seen.

    `note`: "cut" (longer than what is kept), "broken off" (its end was never seen), both, or None.
    """

    content: str | bytes
    length: int
    sha256: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """Headers as pairs; bodies None where they are not logged, an answer's headers where there was none."""

    request_headers: list[tuple[str, str]]
    response_headers: list[tuple[str, str]] | None
    request: Body | None = None
    response: Body | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Downstream:
    """One row of `downstream_log`: a request of a client. `status` is what it got, 499 when it had left.

    Times are UTC ISO 8601, durations milliseconds; who and which model are None where that never was known.
    """

    request_id: str
    started_at: str
    user: str | None
    key_label: str | None
    key_id: str | None
    method: str
    path: str
    query: str
    requested_model: str | None
    provider: str | None
    model: str | None
    attempts: int
    status: int | None
    first_byte_ms: int | None
    total_ms: int
    error: str | None
    content: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One row of `upstream_log`: an attempt at an upstream, counted from 1 within its request."""

    request_id: str
    started_at: str
    attempt: int
    provider: str
    credential: str
    model: str
    method: str
    url: str
    status: int | None
    first_byte_ms: int | None
    total_ms: int
    error: str | None
    content: Content


_ENVELOPE = {
    kind: tuple(field.name for field in fields(kind) if field.name != "content")
    for kind in (Downstream, Upstream)
}
_TABLES = {Downstream: "downstream_log", Upstream: "upstream_log"}
TABLES = tuple(_TABLES.values())


def insert(db: sqlite3.Connection, entry: Downstream | Upstream) -> None:
    """Write one row."""
    content = entry.content
    values = [getattr(entry, name) for name in _ENVELOPE[type(entry)]]
    values += [_headers(content.request_headers), _headers(content.response_headers)]
    for body in (content.request, content.response):
        values += [body.length, body.sha256, body.note] if body else [None, None, None]
    values += [body.content if body else None for body in (content.request, content.response)]
    marks = ", ?" * len(values)
    db.execute(f"INSERT INTO {_TABLES[type(entry)]} VALUES (NULL{marks})", values)  # noqa: S608 - a table of ours


def _headers(pairs: list[tuple[str, str]] | None) -> str | None:
    return None if pairs is None else json.dumps(pairs, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which entries are wanted: all that holds of an entry, None for anything.

    `key` is a label, `user/label` or an id; `model` the name sent or the upstream's id; `status` `429` or `4xx`;
    `since` and `until` are about the start, [since, until); `errors`: a status from 400 on, or an error told.
    """

    user: str | None = None
    key: str | None = None
    provider: str | None = None
    model: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    errors: bool = False


_WHERE = {
    "user": "user = :user",
    "key": ":key IN (key_label, key_id, user || '/' || key_label)",
    "provider": "provider = :provider",
    "status": "status BETWEEN :status_low AND :status_high",
    "since": "started_at >= :since",
    "until": "started_at < :until",
    "errors": "(status >= 400 OR status IS NULL OR error IS NOT NULL)",
    "after": "id > :after",
}
_MODEL = {Downstream: ":model IN (requested_model, model)", Upstream: "model = :model"}


def listed(
    path: Path,
    kind: type[Downstream] | type[Upstream],
    filters: Filters,
    *,
    limit: int,
    after: int | None = None,
) -> list[dict[str, Any]]:
    """The newest entries that are wanted, newest last, without headers and bodies, each with its `id`.

    At most `limit` and `MOST_LISTED`; `after`: only those of a greater id. A store that does not exist has none.
    Raises ValueError for a status that is none, and for `user` and `key` of attempts, which know no client;
    `StoreError` for a store that cannot be read.
    """
    given = {field.name: getattr(filters, field.name) for field in fields(filters)} | {"after": after}
    given = {name: value for name, value in given.items() if value not in (None, False)}
    if kind is Upstream and {"user", "key"} & given.keys():
        raise ValueError("an attempt has no user and no key: its request has")
    conditions = _WHERE | {"model": _MODEL[kind]}
    where = " AND ".join(conditions[name] for name in given) or "1"
    values: dict[str, Any] = {
        name: stamp(value) if isinstance(value, datetime) else value for name, value in given.items()
    }
    if filters.status is not None:
        values["status_low"], values["status_high"] = statuses(filters.status)
    query = (
        f"SELECT id, {', '.join(_ENVELOPE[kind])} FROM {_TABLES[kind]} "  # noqa: S608 - constants of this module
        f"WHERE {where} ORDER BY id DESC LIMIT {max(0, min(limit, MOST_LISTED))}"
    )
    return _rows(path, query, values)[::-1]


def whole(path: Path, request_id: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """All that is logged of one request: its row, and those of its attempts in their order.

    `request_id` may be the beginning of one. Headers are lists of pairs; a body that is no text is
    `{"base64": …}`. Raises ValueError if there is no such request, or more than one; `StoreError`.
    """
    escaped = request_id.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    selects = (
        f"SELECT request_id FROM {table} WHERE request_id LIKE :like ESCAPE '\\'"  # noqa: S608 - a table of ours
        for table in TABLES
    )
    found = {row["request_id"] for row in _rows(path, " UNION ".join(selects), {"like": f"{escaped}%"})}
    name = request_id if request_id in found else next(iter(found), None)
    if name is None:
        raise ValueError(f"no request {request_id} is in the logs")
    if name != request_id and len(found) > 1:
        raise ValueError(f"{len(found)} requests in the logs begin with {request_id}")
    requests, attempts = (
        [
            _opened(row)
            for row in _rows(
                path,
                f"SELECT * FROM {table} WHERE request_id = :id ORDER BY id",  # noqa: S608 - a table of ours
                {"id": name},
            )
        ]
        for table in TABLES
    )
    return (requests[0] if requests else None), sorted(attempts, key=lambda row: row["attempt"])


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("request_headers", "response_headers"):
        row[name] = None if row[name] is None else json.loads(row[name])
    for name in ("request_body", "response_body"):
        if isinstance(row[name], bytes):
            row[name] = {"base64": base64.b64encode(row[name]).decode()}
    return row


_STATUS = re.compile(r"[1-5](?:[0-9]{2}|xx|XX)")


def statuses(text: str) -> tuple[int, int]:
    """The first and the last status that `429` or `4xx` names. Raises ValueError for anything else."""
    if _STATUS.fullmatch(text):
        return int(text.lower().replace("x", "0")), int(text.lower().replace("x", "9"))
    raise ValueError(f"{text!r} is no status: write one such as 429, or 4xx")


def _rows(path: Path, query: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with closing(connect_read_only(path)) as connection:
        try:
            cursor = connection.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except sqlite3.Error as error:
            if "no such table" in str(error):  # a store of a version that kept no logs
                return []
            raise StoreError(f"{path} cannot be read as a usage store ({error}): {remedy(error)}.") from error
