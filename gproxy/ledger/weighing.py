"""Whether a claim fits beside what is counted, spent and held, and where its bounds stand. Pure.

Where it is counted is `tally.py`'s; `spend.py` asks the store. Which bounds and budgets apply is decided in
`routing/limits.py`.

A minute is the 60 seconds before this one and this one, counted by the second: a request at any moment of second s
counts until second s + 60 has passed, so never less than 60 s. A day is the UTC day.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Protocol

from msgspec import Struct

from gproxy.ledger.periods import DAY_S, KEPT_DAYS, periods
from gproxy.values import Admission, Bound, Claim, Standing

WINDOW_S = 61
SLIDING = frozenset({"rpm", "tpm"})
BY_TOKENS = frozenset({"tpm", "tpd"})


class Spent(Struct, frozen=True, gc=False):
    """What one scope has spent and holds in one period, in nano-dollars."""

    spent_nano: int = 0
    held_nano: int = 0


class Count(Struct):
    """How a bound stands, and what a claim needs of it: what counts in slot `now`, and the last slot in which
    anything does, -1 for none."""

    bound: Bound
    need: int = 0
    now: int = -1
    used: int = 0
    newest: int = -1

    def take(self) -> None:
        """Count what is needed in this slot."""
        if self.need:
            self.used += self.need
            self.newest = max(self.newest, self.now)


class Books(Protocol):
    """Where things stand."""

    def within(self, rule: str, kind: str, first: int, last: int) -> Iterable[tuple[int, int]]:
        """The slots between the two that count anything, and what, in their order."""

    def spent(self, scope: str, key: str) -> Spent:
        """What a scope has spent and holds in the period of that key."""


def need_of(tokens: int, bound: Bound) -> int:
    """What a claim of so many tokens needs of one of its bounds."""
    return min(tokens, bound.most) if bound.kind in BY_TOKENS else 1


def counted(claim: Claim) -> list[tuple[str, str, int, int]]:
    """What a claim counts of its bounds: rule, kind, slot and how much, of each."""
    slots = slots_at(int(claim.at))
    return [(it.rule, it.kind, slots[it.kind], need_of(claim.tokens, it)) for it in claim.bounds]


def counted_open(claim: Claim) -> list[tuple[str, str, int, int]]:
    """The part of that which counts for as long as it is open."""
    return [(it.rule, it.kind, 0, 1) for it in claim.bounds if it.kind == "concurrency"]


def held(claim: Claim) -> list[tuple[str, str]]:
    """What it holds its cost of: scope and the key of the period, of each budget."""
    keys = periods(int(claim.at) // DAY_S)
    return [(it.scope, keys[it.period]) for it in claim.budgets]


@lru_cache(maxsize=64)
def slots_at(second: int) -> Mapping[str, int]:
    """Where each kind is counted in that second since 1970: in the second, in the day, or in 0 for what is open."""
    day = second // DAY_S
    return {"rpm": second, "tpm": second, "rpd": day, "tpd": day, "concurrency": 0}


def slots_of(kind: str, slot: int) -> tuple[int, int]:
    """The first and the last slot that count in one.

    A clock set back a little must let nothing more through, so a minute reaches as far ahead. What is later comes
    of a clock that was wrong, and would count until that time comes.
    """
    return (slot - (WINDOW_S - 1), slot + WINDOW_S) if kind in SLIDING else (slot, slot)


def kept_of(kind: str, slot: int) -> tuple[int, int]:
    """The first and the last slot that stay when one begins: those too that count if the clock goes back by hours."""
    return slots_of(kind, slot) if kind in SLIDING else (slot - KEPT_DAYS, slot + KEPT_DAYS)


def refusal(books: Books, counts: Iterable[Count], claim: Claim) -> Admission | None:
    """Why a claim does not fit, without standings; None if it does."""
    full = [count for count in counts if count.used + count.need > count.bound.most]
    return _too_many(books, full, claim.at) if full else _too_much(books, claim)


def standings(counts: Iterable[Count], now: float) -> tuple[Standing, ...]:
    """Where each bound stands, by what counts and not by what is needed."""
    return tuple([standing(it.bound, it.used, it.now, it.newest, now) for it in counts])


def standing(bound: Bound, used: int, slot: int, newest: int, now: float) -> Standing:
    """Where one does of which so much is used in a slot, and the last slot in which anything counts is `newest`."""
    if not used:
        resets = 0.0
    elif bound.kind in SLIDING:
        resets = (slot if newest < 0 else newest) + WINDOW_S - now
    else:
        resets = _until_tomorrow(now)
    left = bound.most - used
    return Standing(bound, left if left > 0 else 0, resets)


def tightest(standings: Iterable[Standing]) -> list[Standing]:
    """The one on requests and the one on tokens that leaves least; of those that leave as much, the one that does so
    for longest. In their order, as far as there are any."""
    found: dict[bool, Standing] = {}
    for it in standings:
        kind = it.bound.kind
        if kind == "concurrency":
            continue
        other = found.get(kind in BY_TOKENS)
        if other is None or (it.left, -it.resets_in) < (other.left, -other.resets_in):
            found[kind in BY_TOKENS] = it
    return list(found.values())


def _too_many(books: Books, full: Iterable[Count], now: float) -> Admission:
    """The refusal by the bound that will be full for longest: waiting for another would not help."""
    waits = [(_wait(books, count, now), count.bound) for count in full]
    seconds, bound = max(waits, key=itemgetter(0))
    return Admission(refused=bound, retry_after=seconds)


def _too_much(books: Books, claim: Claim) -> Admission | None:
    """The refusal by the first budget that neither has room beside what is held, nor is free and not yet spent."""
    keys = periods(int(claim.at) // DAY_S)
    for budget in claim.budgets:
        stands = books.spent(budget.scope, keys[budget.period])
        spent = stands.spent_nano + budget.carried_nano
        fits = spent + stands.held_nano + claim.cost_nano <= budget.most_nano
        if not fits and (stands.held_nano > 0 or spent >= budget.most_nano):
            return Admission(refused=budget, fits_alone=spent < budget.most_nano)
    return None


def _until_tomorrow(now: float) -> float:
    return (now // DAY_S + 1) * DAY_S - now


def _wait(books: Books, count: Count, now: float) -> float:
    """Seconds until there is room for what is needed, if nothing else comes; a guess for requests at once."""
    kind = count.bound.kind
    if kind == "concurrency":
        return 1.0
    if kind not in SLIDING:
        return _until_tomorrow(now)
    missing = count.used + count.need - count.bound.most
    for slot, n in books.within(count.bound.rule, kind, *slots_of(kind, count.now)):
        missing -= n
        if missing <= 0:
            return float(slot + WINDOW_S - now)
    return float(WINDOW_S)
