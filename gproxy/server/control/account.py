"""What a key may ask of its own accounts, as trees for JSON: what is left of its quotas and limits, what it used.

Blocks on the store: to be called off the event loop. Who is asking, and by which route, is `control.py`'s.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from gproxy.config.snapshot import Client
from gproxy.ledger import spend
from gproxy.ledger.weighing import Spent
from gproxy.server.control import admin
from gproxy.server.control.queries import UsageQuery
from gproxy.values import Budget, Standing

_KINDS = {"concurrency": "max_concurrency"}
"""What the file calls a bound, where it is not its kind."""


def quota(client: Client, store: Path, now: float) -> dict[str, Any]:
    """Quotas and limits of the key and of its user, as they stand at `now`, seconds since the epoch.

    Money is USD; `left_usd` leaves out what requests in flight hold. `reset_seconds` is how long until all of a
    limit is there again, null for `max_concurrency`, whose end is that of the requests. Raises `StoreError`.
    """
    spent = spend.spent(store, [(budget.scope, budget.period) for budget in client.budgets], now)
    bounds = [("user", rule.pattern.glob, bound) for rule in client.limits for bound in rule.bounds]
    bounds += [("key", "*", bound) for bound in client.key_bounds]
    standings = spend.standings(store, [bound for _, _, bound in bounds], now)
    return {
        "user": client.user,
        "key": client.key_label,
        "key_id": client.key_id,
        "quotas": [_quota(budget, spent[budget.scope, budget.period]) for budget in client.budgets],
        "limits": [
            {"scope": scope, "pattern": pattern, **_limit(standing)}
            for (scope, pattern, _), standing in zip(bounds, standings, strict=True)
        ],
    }


def usage(client: Client, store: Path, asked: UsageQuery) -> dict[str, Any]:
    """What the key used, of what was asked; as `admin.usage` tells it of all keys. Raises `StoreError`."""
    own = replace(asked, filters=replace(asked.filters, key_ids=(client.key_id,)))
    who = {"user": client.user, "key": client.key_label, "key_id": client.key_id}
    return who | admin.usage(store, own)


def _quota(budget: Budget, stands: Spent) -> dict[str, Any]:
    spent = budget.carried_nano + stands.spent_nano
    return {
        "scope": budget.scope.partition("/")[0],
        "period": budget.period,
        "quota_usd": budget.most_nano / 1e9,
        "spent_usd": spent / 1e9,
        "held_usd": stands.held_nano / 1e9,
        "left_usd": max(0, budget.most_nano - spent - stands.held_nano) / 1e9,
    }


def _limit(standing: Standing) -> dict[str, Any]:
    bound = standing.bound
    return {
        "kind": _KINDS.get(bound.kind, bound.kind),
        "limit": bound.most,
        "remaining": standing.left,
        "reset_seconds": None if bound.kind == "concurrency" else math.ceil(standing.resets_in),
    }
