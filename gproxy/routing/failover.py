"""Which attempt comes next over all targets and credentials, and what is told when all have failed.

Sending is done in `server/`; this only looks at values. What an answer means is `verdicts.py`'s, how a credential
stands `credentials.py`'s.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from gproxy.config.snapshot import Credential, Snapshot
from gproxy.errors import (
    GatewayError,
    LoopDetected,
    RateLimited,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from gproxy.routing.credentials import Cause, Condition, State, by_chance, by_weight, in_order
from gproxy.values import Route, Target, Usage

Candidate = tuple[Target, Credential]
"""One attempt that may be made."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt that failed, as it is told to the client and kept in the row.

    `status` is the upstream's, None if there was no answer. `retry_s`: for one that is out, until it is not.
    `final`: no other attempt may follow. `spent`: what it had reported of its usage before it failed.
    """

    provider: str
    credential: str
    reason: str
    milliseconds: int
    status: int | None = None
    timed_out: bool = False
    maybe_billed: bool = False
    cause: Cause = Cause.TROUBLE
    retry_s: float | None = None
    final: bool = False
    model: str = ""
    spent: Usage | None = None

    def __str__(self) -> str:
        return f"{self.provider} ({self.credential}): {self.reason}, {self.milliseconds} ms"


@dataclass(frozen=True, slots=True)
class Skipped:
    """One attempt that was not made. `retry_s`: until it may be, None if that is not a matter of time."""

    provider: str
    credential: str
    retry_s: float | None

    def __str__(self) -> str:
        if self.retry_s is None:
            return f"{self.provider} ({self.credential}): not asked, its key was refused"
        return f"{self.provider} ({self.credential}): held off, {whole_seconds(self.retry_s)} s more"


_UNASKED = (State.OUT, State.REFUSED)

NO_KEY = Credential(name="no key")
"""Stands in for a credential where none is needed."""


def order_targets(route: Route, seed: Callable[[], bytes], usable: Callable[[Target], bool]) -> Route:
    """The route with its targets as they are to be tried, those that are not `usable` now last: it is by the first
    that a request is counted and its cost held. `seed` is called for a choice by weight alone."""
    targets: Sequence[Target] = route.targets
    if len(targets) < 2:
        return route
    if route.strategy == "weighted":
        targets = by_weight(((t, f"{t.provider}\0{t.model}", t.weight) for t in targets), seed())
    return replace(route, targets=tuple(sorted(targets, key=lambda target: not usable(target))))


def usable(snapshot: Snapshot, target: Target, condition: Callable[[Candidate], Condition]) -> bool:
    """Whether any credential of the target's provider may be asked now."""
    found = snapshot.providers[target.provider].credentials or (NO_KEY,)
    return any(condition((target, credential)).state not in _UNASKED for credential in found)


def candidates(
    snapshot: Snapshot, route: Route, keyless: Collection[str], seed: Callable[[], bytes]
) -> list[Candidate]:
    """Every (target, credential) in the order to try, each once. A provider in `keyless` that has no credential is
    called without one. `seed` is called for a choice by weight alone."""
    found: dict[tuple[str, str, str], Candidate] = {}
    for target in route.targets:
        credentials = in_order(target.provider, snapshot.providers[target.provider].credentials, seed)
        if len(route.targets) == 1 and credentials:
            return [(target, credential) for credential in credentials]
        for credential in credentials or ((NO_KEY,) if target.provider in keyless else ()):
            # A target may be named twice, with another weight.
            found.setdefault((target.provider, target.model, credential.name), (target, credential))
    return list(found.values())


def max_attempts(snapshot: Snapshot, route: Route) -> int:
    """How many attempts may be made in all: the first target's provider says."""
    return snapshot.providers[route.targets[0].provider].settings.max_attempts


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a route's attempts before any is made: the `candidates` in the order to try, None where that
    is drawn for each request; how many may be made at `most`, and in how many seconds together (0: any)."""

    candidates: tuple[Candidate, ...] | None
    most: int
    total_s: float


def plan(snapshot: Snapshot, route: Route, keyless: Collection[str]) -> Plan:
    """The same for every request for the route, as long as the configuration is."""
    providers = [snapshot.providers[target.provider] for target in route.targets]
    drawn = any(by_chance(provider.credentials) for provider in providers)
    found = None if drawn else tuple(candidates(snapshot, route, keyless, bytes))
    return Plan(found, max_attempts(snapshot, route), providers[0].settings.total_timeout_s)


def choose(conditions: Sequence[Condition]) -> int | None:
    """Which of the candidates left is next, by how they stand now; None if none may be asked.

    Those that are back come when no other is there, the one first whose time ends soonest: what is only back is
    always tried before a request fails.
    """
    back: int | None = None
    for place, now in enumerate(conditions):
        if now.state in (State.READY, State.PROBE):
            return place
        if now.state is State.BACK and (back is None or now.seconds < conditions[back].seconds):
            back = place
    return back


def after_overload(left: Sequence[Candidate], provider: str) -> list[Candidate]:
    """What is left after a 529 of `provider`: the other providers first."""
    return sorted(left, key=lambda candidate: candidate[0].provider == provider)


def foreseen(
    left: Sequence[Candidate], condition: Callable[[Candidate], Condition]
) -> list[tuple[Candidate, Condition]]:
    """The order in which candidates would be tried if each failed and nothing else changed; last, those that would
    not be."""
    stands = [(candidate, condition(candidate)) for candidate in left]
    ranks = {State.READY: 0, State.PROBE: 0, State.BACK: 1, State.OUT: 2, State.REFUSED: 2}
    # Only those that are back come by their time; the sort keeps the order of the others.
    return sorted(
        stands, key=lambda pair: (ranks[pair[1].state], pair[1].seconds * (ranks[pair[1].state] == 1))
    )


def passed(left: Sequence[Candidate], condition: Callable[[Candidate], Condition]) -> list[Skipped]:
    """Those of the candidates left that may not be asked now."""
    return [
        Skipped(target.provider, credential.name, stands.seconds if stands.state is State.OUT else None)
        for target, credential in left
        if (stands := condition((target, credential))).state in _UNASKED
    ]


def exhausted(
    tried: Sequence[Tried], passed: Sequence[Skipped] = (), *, untried: bool = False
) -> GatewayError:
    """The error for a request of which every attempt failed, or (`passed`) could not be made. `untried`: there are
    others, which may be asked now by another request."""
    if untried and not tried:  # their cool-downs have ended since they were looked at
        headers = (("retry-after", "1"),)
        return RateLimited(
            "Every upstream credential was held off until a moment ago; try again.", headers=headers
        )
    if not tried and not passed:
        return UpstreamFailed("No usable credential for this model's provider; `gproxy check` says why.")
    told = "; ".join(map(str, (*tried, *passed)))
    waits = [t.retry_s for t in tried if t.retry_s is not None]
    waits += [s.retry_s for s in passed if s.retry_s is not None]
    # A refused key will not be asked again, so it is not what a client would wait for.
    if waits and all(t.retry_s is not None or t.cause is Cause.BAD_KEY for t in tried):
        headers = (("retry-after", str(whole_seconds(0 if untried else min(waits)))),)
        asked = "Every upstream credential that was asked" if untried else "Every upstream credential"
        return RateLimited(f"{asked} is rate limited or out of credit: {told}", headers=headers)
    if not tried:
        return UpstreamFailed(f"No attempt could be made: {told}")
    if all(t.status == 529 for t in tried):
        return UpstreamOverloaded(f"Every upstream is overloaded: {told}")
    if all(t.status == 508 for t in tried):
        return LoopDetected(f"The request came round to a proxy that it had passed: {told}")
    if tried[-1].timed_out:
        return UpstreamTimeout(f"The upstream was too slow: {told}")
    return UpstreamFailed(f"Every attempt failed: {told}")


def whole_seconds(seconds: float) -> int:
    """A time to wait as it is told: whole, at least 1, never too early."""
    return max(1, math.ceil(seconds))
