"""What a key is told of its own quotas, limits and usage, from a real store."""

from pathlib import Path
from typing import Any

import pytest

from gproxy.config.snapshot import Client
from gproxy.ledger import spend
from gproxy.ledger.bulk import Entry
from gproxy.ledger.store import open_store
from gproxy.server.control import account, queries
from gproxy.values import Bound, Budget, Claim
from tests.kit.reserving import reserve
from tests.ledger.rows import record
from tests.server.parts import KEY, snapshot

NOW = 1_795_612_800.5

TEXT = f"""
[[users]]
name = "alice"
[[users.keys]]
label = "laptop"
api_key = "{KEY}"
rpd = 7
quota = 0.5
[[users.keys]]
label = "other"
api_key = "sk-other"
[[rate_limits]]
user_name = "alice"
model_pattern = "gpt-*"
rpm = 10
max_concurrency = 2
[[quotas]]
user_name = "alice"
quota = 2.0
cost_used = 0.25
[[quotas]]
user_name = "alice"
quota = 1.0
period = "day"
"""


@pytest.fixture
def clients() -> dict[str, Client]:
    return {client.key_label: client for client in snapshot(TEXT).clients.values()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gproxy.db"


def used(client: Client, path: Path, **arguments: str) -> dict[str, Any]:
    return account.usage(client, path, queries.usage(arguments.items(), NOW, own=True))


def claim(client: Client, id: str, cost_nano: int) -> Claim:
    return Claim(
        request_id=id,
        scopes=(client.user_scope, client.key_scope),
        bounds=(*client.limits[0].bounds, *client.key_bounds),
        budgets=client.budgets,
        tokens=0,
        cost_nano=cost_nano,
        at=NOW,
    )


def test_all_is_left_where_there_is_no_store_yet(clients: dict[str, Client], path: Path) -> None:
    told = account.quota(clients["laptop"], path, NOW)
    assert [row["left_usd"] for row in told["quotas"]] == [1.75, 1.0, 0.5]
    assert [(row["limit"], row["remaining"]) for row in told["limits"]] == [(10, 10), (2, 2), (7, 7)]
    assert used(clients["laptop"], path, since="7d")["totals"]["requests"] == 0


def test_what_is_spent_held_and_counted_is_told(clients: dict[str, Client], path: Path) -> None:
    laptop = clients["laptop"]
    store = open_store(path)
    for number in range(2):
        request = claim(laptop, f"r{number}", 100_000_000)
        store.run([lambda db, request=request: reserve(db, request, 0, b"")])  # type: ignore[misc]  # bound now
    store.run([spend.Settling("r0", 9, 30_000_000, None)])
    store.close()
    told = account.quota(laptop, path, NOW + 1)
    assert (told["user"], told["key"], told["key_id"]) == ("alice", "laptop", laptop.key_id)
    money = [
        (row["scope"], row["period"], row["quota_usd"], row["spent_usd"], row["held_usd"], row["left_usd"])
        for row in told["quotas"]
    ]
    assert money == [
        ("user", "total", 2.0, 0.28, 0.1, 1.62),
        ("user", "day", 1.0, 0.03, 0.1, 0.87),
        ("key", "total", 0.5, 0.03, 0.1, 0.37),
    ]
    limits: list[dict[str, Any]] = told["limits"]
    assert limits[0] == {
        "scope": "user",
        "pattern": "gpt-*",
        "kind": "rpm",
        "limit": 10,
        "remaining": 8,
        "reset_seconds": 60,
    }
    concurrency = limits[1]
    assert (concurrency["kind"], concurrency["remaining"]) == ("max_concurrency", 1)
    assert concurrency["reset_seconds"] is None
    assert (limits[2]["scope"], limits[2]["kind"], limits[2]["remaining"]) == ("key", "rpd", 5)
    other = account.quota(clients["other"], path, NOW + 1)
    assert [row["scope"] for row in other["limits"]] == ["user", "user"]


def test_what_is_spent_beyond_a_quota_leaves_nothing_not_less(path: Path) -> None:
    client = Client(user="u", key_label="k", key_id="1", budgets=(Budget("user/u", "total", 10, 30),))
    assert account.quota(client, path, NOW)["quotas"][0]["left_usd"] == 0


def test_usage_is_the_key_s_own_and_since_then(clients: dict[str, Client], path: Path) -> None:
    mine = {"user": "alice", "key_id": clients["laptop"].key_id}
    store = open_store(path)
    rows = [
        record(request_id="a", started_at="2026-11-25T11:00:00.000Z", model="big", cost_nano=5, **mine),
        record(request_id="b", started_at="2026-11-25T11:30:00.000Z", model="small", cost_nano=2, **mine),
        record(request_id="c", started_at="2026-10-01T00:00:00.000Z", model="big", cost_nano=9, **mine),
        record(request_id="d", started_at="2026-11-25T11:00:00.000Z", user="alice", key_id="other"),
    ]
    store.run([Entry(row) for row in rows])
    store.close()
    told = used(clients["laptop"], path)
    assert told["totals"]["requests"] == 2
    assert told["totals"]["cost_usd"] == pytest.approx(7e-9)
    assert [(row["model"], row["requests"]) for row in told["rows"]] == [("big", 1), ("small", 1)]
    assert used(clients["laptop"], path, since="2026-01-01T00:00:00Z")["totals"]["requests"] == 3
    assert used(clients["laptop"], path, since="30s")["rows"] == []


def test_a_bound_at_its_end_has_nothing_left(path: Path) -> None:
    client = Client(user="u", key_label="k", key_id="1", key_bounds=(Bound("key/1", "tpm", 5),))
    store = open_store(path)
    request = Claim(
        request_id="r", scopes=(), bounds=client.key_bounds, budgets=(), tokens=9, cost_nano=0, at=NOW
    )
    store.run([lambda db: reserve(db, request, 0, b"")])
    store.close()
    assert account.quota(client, path, NOW)["limits"][0]["remaining"] == 0
