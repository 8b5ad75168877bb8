"""Claims for tests of what is counted."""

import time
from collections.abc import Sequence

from gproxy.ledger.tally import Tally
from gproxy.values import Bound, Budget, Claim

NEVER = Bound("never", "rpm", 0)
SCOPES = ("user/alice", "key/k1")


def claim(
    name: str,
    *limits: Bound | Budget,
    scopes: Sequence[str] = SCOPES,
    at: float | None = None,
    tokens: int = 10,
    cost: int = 100,
) -> Claim:
    """Of a request that comes under those limits, `at` once if it is not said when."""
    return Claim(
        request_id=name,
        scopes=tuple(scopes),
        bounds=tuple(it for it in limits if isinstance(it, Bound)),
        budgets=tuple(it for it in limits if isinstance(it, Budget)),
        tokens=tokens,
        cost_nano=cost,
        at=time.time() if at is None else at,
    )


def used(tally: Tally, *limits: Bound | Budget, at: float | None = None) -> list[int]:
    """What counts of each bound, as a request is told that does not fit."""
    standings = tally.reserve(claim("never", *limits, NEVER, at=at, tokens=0)).standings[:-1]
    return [it.bound.most - it.left for it in standings]
