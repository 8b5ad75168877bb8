"""What every user and key is told to have spent and left."""

import time
from functools import partial
from pathlib import Path

from gproxy.config.callers import callers
from gproxy.ledger import spend
from gproxy.ledger.store import open_store
from gproxy.server.control.allowances import quotas
from gproxy.values import Claim
from tests.kit.reserving import reserve
from tests.server.parts import snapshot

TEXT = """
[[users]]
name = "alice"
[[users.keys]]
label = "laptop"
api_key = "sk-1"
quota = 0.5
[[users]]
name = "bob"
enabled = false
[[users.keys]]
api_key = "sk-2"
[[quotas]]
user_name = "alice"
quota = 2.0
cost_used = 0.25
"""


def test_users_and_keys_are_told_with_what_they_spent_hold_and_have_left(tmp_path: Path) -> None:
    config, path, now = snapshot(TEXT).config, tmp_path / "gproxy.db", time.time()
    client = callers(config)[1].client
    store = open_store(path)
    for name, held in (("done", 0), ("open", 50_000_000)):
        claim = Claim(
            request_id=name,
            scopes=(client.user_scope, client.key_scope),
            bounds=(),
            budgets=client.budgets,
            tokens=0,
            cost_nano=held,
            at=now,
        )
        store.run([partial(reserve, claim=claim, worker=0, pending=b"")])
    store.run([spend.Settling("done", 0, 100_000_000, None)])
    store.close()
    told = [tuple(row.values()) for row in quotas(config, path, now)]
    assert told == [
        ("alice", None, "total", 2.0, 0.35, 0.05, 1.6),
        ("alice", "laptop", "total", 0.5, 0.1, 0.05, 0.35),
        ("bob", None, "total", None, 0.0, 0.0, None),
    ]
    assert [row["user"] for row in quotas(config, path, now, "bob")] == ["bob"]


def test_without_a_store_nothing_is_spent(tmp_path: Path) -> None:
    rows = quotas(snapshot(TEXT).config, tmp_path / "none.db", 0.0)
    assert {row["spent_usd"] for row in rows} == {0.0, 0.25}
