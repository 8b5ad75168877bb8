import re
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gproxy.errors import StoreError
from gproxy.ledger.logs import (
    MOST_LISTED,
    Body,
    Content,
    Downstream,
    Filters,
    Upstream,
    insert,
    listed,
    whole,
)
from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import open_store
from tests.ledger.entries import attempt, request, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gproxy.db"


def names(path: Path, kind: type[Downstream] | type[Upstream] = Downstream, **filters: Any) -> list[str]:
    return [row["request_id"] for row in listed(path, kind, Filters(**filters), limit=100)]


def test_a_request_and_its_attempts_come_back_as_they_were_written(path: Path) -> None:
    content = Content(
        request_headers=[("host", "localhost"), ("x-twice", "é"), ("x-twice", "2")],
        response_headers=[("content-type", "text/plain")],
        request=Body('{"a": "é"}', 11, "0" * 64),
        response=Body(b"\xff\x00", 5000, "1" * 64, "cut"),
    )
    write(
        path,
        request("req_1", content=content, query="alt=sse", error="it broke"),
        attempt("req_1", 2),
        attempt("req_1", 1, status=None, content=Content([], None)),
        attempt("req_2", 1),
    )
    found, attempts = whole(path, "req_1")
    assert found is not None
    assert found["request_headers"] == [["host", "localhost"], ["x-twice", "é"], ["x-twice", "2"]]
    assert (found["request_body"], found["request_bytes"], found["request_note"]) == ('{"a": "é"}', 11, None)
    assert found["response_body"] == {"base64": "/wA="}
    assert (found["response_bytes"], found["response_note"]) == (5000, "cut")
    assert (found["query"], found["error"], found["user"]) == ("alt=sse", "it broke", "alice")
    assert [row["attempt"] for row in attempts] == [1, 2]
    assert attempts[0]["response_headers"] is None
    assert attempts[0]["request_body"] is None


def test_the_list_is_the_newest_in_order_without_headers_and_bodies(path: Path) -> None:
    write(path, *(request(f"req_{number}") for number in range(7)))
    rows = listed(path, Downstream, Filters(), limit=3)
    assert [row["request_id"] for row in rows] == ["req_4", "req_5", "req_6"]
    assert not {"request_headers", "request_body", "response_body"} & rows[0].keys()
    after = rows[1]["id"]
    assert [row["request_id"] for row in listed(path, Downstream, Filters(), limit=3, after=after)] == [
        "req_6"
    ]
    assert len(listed(path, Downstream, Filters(), limit=10 * MOST_LISTED)) == 7
    assert listed(path, Downstream, Filters(), limit=0) == []


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["a", "b", "c"]),
        ({"user": "alice"}, ["a"]),
        ({"key": "laptop"}, ["a"]),
        ({"key": "alice/laptop"}, ["a"]),
        ({"key": "k2"}, ["b"]),
        ({"provider": "main"}, ["a", "c"]),
        ({"model": "large"}, ["a", "c"]),
        ({"model": "main/large"}, ["a", "b", "c"]),
        ({"status": "200"}, ["a"]),
        ({"status": "4xx"}, ["b"]),
        ({"status": "4XX"}, ["b"]),
        ({"errors": True}, ["b", "c"]),
        ({"since": datetime(2026, 11, 25, 12, tzinfo=UTC)}, ["b", "c"]),
        ({"until": datetime(2026, 11, 25, 12, tzinfo=UTC)}, ["a"]),
        ({"user": "bob", "errors": True, "status": "429"}, ["b"]),
        ({"user": "nobody"}, []),
    ],
)
def test_requests_are_filtered(path: Path, filters: dict[str, Any], found: list[str]) -> None:
    write(
        path,
        request("a", started_at="2026-11-25T11:59:59.999Z"),
        request("b", user="bob", key_label="", key_id="k2", status=429, provider=None, model=None),
        request("c", user=None, key_label=None, key_id=None, status=None, error="cut off"),
    )
    assert names(path, **filters) == found


def test_attempts_are_filtered_too_but_know_no_client(path: Path) -> None:
    write(
        path, attempt("a", 1, status=503), attempt("a", 2, provider="other"), attempt("b", 1, model="small")
    )
    assert names(path, Upstream, provider="main") == ["a", "b"]
    assert names(path, Upstream, model="small") == ["b"]
    assert names(path, Upstream, errors=True) == ["a"]
    with pytest.raises(ValueError, match="no user"):
        names(path, Upstream, user="alice")


@pytest.mark.parametrize("status", ["4x", "abc", "42", "4xxx", "", "é00"])
def test_a_status_that_is_none_is_told(path: Path, status: str) -> None:
    with pytest.raises(ValueError, match="no status"):
        names(path, status=status)


def test_the_beginning_of_an_id_is_enough_if_it_is_of_one_request(path: Path) -> None:
    write(path, request("req_ab"), request("req_abc"), attempt("req_x%", 1))
    assert whole(path, "req_abc")[0] is not None
    exact = whole(path, "req_ab")[0]
    assert exact is not None
    assert exact["request_id"] == "req_ab"
    found, attempts = whole(path, "req_x%")
    assert found is None
    assert len(attempts) == 1
    for unknown in ("nothing", "req%", "reqxab"):
        with pytest.raises(ValueError, match="no request"):
            whole(path, unknown)
    with pytest.raises(ValueError, match="2 requests"):
        whole(path, "req_a")


def test_a_store_without_logs_has_no_entries_and_one_that_is_none_is_told(path: Path) -> None:
    assert names(path) == []
    connect(path).close()
    assert names(path) == []
    path.write_bytes(b"no database at all, but long enough to look like one" * 20)
    with pytest.raises(StoreError):
        names(path)


def test_one_request_may_be_written_twice_and_neither_write_fails(path: Path) -> None:
    write(path, request("a"), request("a"))
    assert names(path) == ["a", "a"]


def test_every_column_is_documented(path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()
    open_store(path).close()
    db = connect(path)
    for table in ("downstream_log", "upstream_log"):
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        assert columns[0] == "id"
        assert [name for name in columns if not re.search(rf"`{name}`", document)] == []
    db.close()


def test_what_sqlite_cannot_take_fails_alone(path: Path) -> None:
    store = open_store(path)
    broken = replace(request("a"), status=10**30)
    outcomes = store.run([partial(insert, entry=broken), partial(insert, entry=request("b"))])
    store.close()
    assert isinstance(outcomes[0], StoreError)
    assert names(path) == ["b"]


def test_the_documented_queries_run(path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()
    write(path, request("a", started_at="2999-01-01T00:00:00.000Z"), attempt("a", 1, status=503))
    queries = re.findall(r'data/gproxy\.db "\n(.*?)"\n```', document, re.DOTALL)
    with closing(connect(path)) as db:
        assert [len(db.execute(query).fetchall()) for query in queries] == [1, 1]
