"""What every user and key may spend, has spent and has left, as rows for JSON, for an admin's key and for commands.

What a quota means is `routing/limits.py`'s; what a key may know of itself is `account.py`'s.
"""

from pathlib import Path
from typing import Any

from gproxy.config.callers import Caller, callers
from gproxy.config.schema import Config
from gproxy.ledger.spend import spent
from gproxy.ledger.weighing import Spent
from gproxy.values import Budget


def quotas(config: Config, store: Path, now: float, user: str | None = None) -> list[dict[str, Any]]:
    """A row for each quota of a user and of a key, and for each user without one; `user`: of that one alone.

    Money is USD. `left_usd` is without what open requests hold, None without a quota. Blocks on the store. Raises
    `StoreError`.
    """
    shown = [
        (caller, scope, period, budget)
        for caller in callers(config)
        if user in (None, caller.user.name)
        for scope, period, budget in _budgets(caller)
    ]
    stands = spent(store, {(scope, period) for _, scope, period, _ in shown}, now)
    return [_row(caller, period, budget, stands[scope, period]) for caller, scope, period, budget in shown]


def _budgets(caller: Caller) -> list[tuple[str, str, Budget | None]]:
    """Scope, period and budget of what is the caller's own."""
    scope = caller.client.user_scope if caller.key is None else caller.client.key_scope
    own: list[tuple[str, str, Budget | None]] = [
        (scope, budget.period, budget) for budget in caller.client.budgets if budget.scope == scope
    ]
    return own or ([(scope, "total", None)] if caller.key is None else [])


def _row(caller: Caller, period: str, budget: Budget | None, stands: Spent) -> dict[str, Any]:
    used = stands.spent_nano + (budget.carried_nano if budget else 0)
    left = None if budget is None else max(0, budget.most_nano - used - stands.held_nano)
    return {
        "user": caller.user.name,
        "key": None if caller.key is None else caller.key.label or caller.client.key_id,
        "period": period,
        "quota_usd": None if budget is None else budget.most_nano / 1e9,
        "spent_usd": used / 1e9,
        "held_usd": stands.held_nano / 1e9,
        "left_usd": None if left is None else left / 1e9,
    }
