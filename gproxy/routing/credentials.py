"""How a credential's health changes by what upstreams answer, and the order in which credentials are asked.

Where health is kept is `server/request/health.py`'s; which attempt comes next over several targets is
`failover.py`'s.
"""

import enum
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from gproxy.config.snapshot import Credential
from gproxy.values import Health

T = TypeVar("T")

LEAST_SECONDS, MOST_SECONDS = 1.0, 900.0
"""What an upstream's own word on when to come back is clamped to."""

PROBE_SECONDS = 5.0
"""How long others wait for the outcome of a probe: a 429 comes at once, while a good answer may take its time."""

BILLING_SECONDS = 600.0

_SHORT = (1.0, 60.0)
_FORBIDDEN = (60.0, 600.0)


class Cause(enum.Enum):
    """Why an attempt failed, as far as its credential is concerned."""

    RATE_LIMITED = enum.auto()
    BILLING = enum.auto()
    BAD_KEY = enum.auto()
    FORBIDDEN = enum.auto()
    NO_CONNECTION = enum.auto()
    TROUBLE = enum.auto()


HOLDING = frozenset({Cause.RATE_LIMITED, Cause.BILLING})
"""The causes that put a credential out."""

WHOLE = frozenset({Cause.BILLING, Cause.BAD_KEY, Cause.NO_CONNECTION})
"""The causes that say something of the credential as a whole; the others do of it and the model asked."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt. `reason` is ours; `status` the upstream's; `hint_s` when it wants to be asked again."""

    cause: Cause
    reason: str
    status: int | None = None
    hint_s: float | None = None


def after_failure(health: Health, failure: Failure, *, began: float, now: float) -> Health:
    """The health after a failure of what was sent at `began` and ended at `now`.

    Only rate limits and billing put a credential out, only a refused key disables it; all else moves it back. What
    is out stays out for as long as it was, whatever else fails in the meantime.
    """
    failures = max(1, health.failures + (began >= health.at))
    told = replace(
        health, failures=failures, status=failure.status, error=failure.reason, at=now, probe_until=0.0
    )
    if health.state == "disabled":
        return told
    if failure.cause is Cause.BAD_KEY:
        return replace(told, state="disabled", held="", until=0.0)
    held = "out" if failure.cause in HOLDING else "back"
    cooling = health.state == "cooling" and left(health, now) > 0
    if cooling and health.held == "out" and held == "back":
        return told
    until = now + _seconds(failure, failures)
    if cooling and health.held == held:
        until = max(until, health.until)
    return replace(told, state="cooling", held=held, until=until)


def after_success(health: Health, *, began: float) -> Health:
    """The health after a good answer to what was sent at `began`: ready, and the last failure still told.

    A disabled key stays so, and so does what has failed since.
    """
    if health.state == "disabled" or began < health.at:
        return health
    return replace(health, state="ready", held="", until=0.0, failures=0, probe_until=0.0)


def _seconds(failure: Failure, failures: int) -> float:
    if failure.cause is Cause.RATE_LIMITED and failure.hint_s is not None:
        return min(max(failure.hint_s, LEAST_SECONDS), MOST_SECONDS)
    if failure.cause is Cause.BILLING:
        return BILLING_SECONDS
    least, most = _FORBIDDEN if failure.cause is Cause.FORBIDDEN else _SHORT
    return min(least * 2.0 ** min(failures - 1, 16), most)


def left(health: Health, now: float) -> float:
    """Seconds until the cool-down ends, at least 0. One that seems longer than any was set by another clock."""
    remaining = health.until - now
    return remaining if 0 < remaining <= MOST_SECONDS else 0.0


class State(enum.Enum):
    """Whether a credential may be asked now. PROBE: by one request, which has to claim it first."""

    READY = enum.auto()
    BACK = enum.auto()
    PROBE = enum.auto()
    OUT = enum.auto()
    REFUSED = enum.auto()


@dataclass(frozen=True, slots=True)
class Condition:
    """How a credential stands now. `seconds`: until that ends, for BACK and OUT."""

    state: State = State.READY
    seconds: float = 0.0


def condition(whole: Health, model: Health, now: float) -> Condition:
    """How a credential stands for one model, by its health as a whole and for that model: the worse of both."""
    found = (_condition(whole, now), _condition(model, now))
    return max(found, key=lambda each: (each.state.value, each.seconds))


def _condition(health: Health, now: float) -> Condition:
    if health.state == "disabled":
        return Condition(State.REFUSED)
    if health.state != "cooling":
        return Condition()
    held = State.BACK if health.held == "back" else State.OUT
    if not health.probe_until:
        # Once it was probed it has ended, also for a clock that was set back and comes to that time again.
        seconds = left(health, now)
        return Condition(held, seconds) if seconds else Condition(State.PROBE)
    waited = health.probe_until - now
    # A probe that was not refused in this time is taken for a good sign, or its process has died.
    return Condition(held, waited) if 0 < waited <= PROBE_SECONDS else Condition()


def probed(health: Health, now: float) -> Health | None:
    """The health once a request has begun to probe it, None if there is nothing to probe."""
    if _condition(health, now).state is not State.PROBE:
        return None
    return replace(health, probe_until=now + PROBE_SECONDS)


def not_probed(health: Health, claim: float) -> Health:
    """The health once a probe was given up before it had an outcome. `claim` is its `probe_until`."""
    return replace(health, probe_until=0.0) if health.probe_until == claim else health


def by_chance(credentials: Sequence[Credential]) -> bool:
    """Whether the order in which they are asked is drawn anew for each conversation."""
    return len(credentials) > 1 and any(credential.weight is not None for credential in credentials)


def in_order(
    provider: str, credentials: Sequence[Credential], seed: Callable[[], bytes]
) -> Sequence[Credential]:
    """A provider's credentials as they are to be asked: in file order, or by weight if any of them has one.

    `seed` is called for weights alone.
    """
    if not by_chance(credentials):
        return credentials
    weighed = ((c, f"{provider}\0{c.name}", 1 if c.weight is None else c.weight) for c in credentials)
    return by_weight(weighed, seed())


def by_weight(items: Iterable[tuple[T, str, int]], seed: bytes) -> list[T]:
    """Items (of a name and a weight) in an order drawn by weight: the same for the same seed, and each first as
    often as its weight says over all seeds. Those of weight 0 come last, as they stand.

    Weighted rendezvous hashing: without an item that cannot be used the order of the others stays. With an empty seed
    nothing is drawn: the heaviest come first.
    """
    scored = [(_score(seed, name, weight), item) for item, name, weight in items]
    return [item for _, item in sorted(scored, key=lambda pair: pair[0], reverse=True)]


def _score(seed: bytes, name: str, weight: int) -> float:
    if not weight or not seed:
        return float(weight)
    drawn = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=seed[:64], digest_size=7).digest()
    return -weight / math.log((int.from_bytes(drawn, "big") + 0.5) / 2**56)
