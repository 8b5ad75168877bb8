"""Which attempt comes next, what an upstream's answer means, and what is told when all have failed.

Sending is done in `server/`; this only looks at values. Cool-downs of credentials are not kept yet.
"""

import enum
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from gproxy.config.snapshot import Credential, Snapshot
from gproxy.errors import (
    GatewayError,
    LoopDetected,
    RateLimited,
    UpstreamFailed,
    UpstreamFault,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from gproxy.values import Route, Target


class Verdict(enum.Enum):
    """What an answer's head means: use it, hand it to the client as its own error, or try elsewhere."""

    ANSWER = enum.auto()
    PASS = enum.auto()
    NEXT = enum.auto()


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt that failed, as it is told to the client and kept in the row.

    `status` is the upstream's, None if there was no answer; `retry_after` its own hint in seconds.
    """

    provider: str
    credential: str
    reason: str
    milliseconds: int
    status: int | None = None
    timed_out: bool = False
    maybe_billed: bool = False
    retry_after: int | None = None

    def __str__(self) -> str:
        return f"{self.provider} ({self.credential}): {self.reason}, {self.milliseconds} ms"


_NO_KEY = (Credential(name="no key"),)


def attempts(
    snapshot: Snapshot, route: Route, keyless: Collection[str]
) -> Iterator[tuple[Target, Credential]]:
    """Every (target, credential) in the order to try, each once, at most `max_attempts` of the first target's
    provider in all. A provider in `keyless` that has no credential is called without one."""
    limit = snapshot.providers[route.targets[0].provider].settings.max_attempts
    pairs = (
        (target, credential)
        for target in route.targets
        for credential in snapshot.providers[target.provider].credentials
        or (_NO_KEY if target.provider in keyless else ())
    )
    return itertools.islice(pairs, limit)


# The client's own doing: another credential would be answered the same.
_CLIENT_FAULTS = frozenset({400, 404, 413, 422})

# A bad key that some upstreams report as 400 (wire facts of the Gemini and xAI APIs).
_BAD_KEY = (b"API_KEY_INVALID", b"ncorrect API key")


def judge(status: int, body: bytes = b"") -> Verdict:
    """What to do with an upstream's answer; `body` is looked at for a 400 alone."""
    if 200 <= status < 300:
        return Verdict.ANSWER
    if status == 400 and any(hint in body for hint in _BAD_KEY):
        return Verdict.NEXT
    return Verdict.PASS if status in _CLIENT_FAULTS else Verdict.NEXT


def exhausted(tried: Sequence[Tried]) -> GatewayError:
    """The error for a request of which every attempt failed."""
    if not tried:
        return UpstreamFailed("No usable credential for this model's provider; `gproxy check` says why.")
    told = "; ".join(str(t) for t in tried)
    if all(t.status in (402, 429) for t in tried):
        hints = [t.retry_after for t in tried if t.retry_after is not None]
        headers = (("retry-after", str(min(hints))),) if hints else ()
        return RateLimited(f"Every upstream credential is rate limited: {told}", headers=headers)
    if all(t.status == 529 for t in tried):
        return UpstreamOverloaded(f"Every upstream is overloaded: {told}")
    if all(t.status == 508 for t in tried):
        return LoopDetected(f"The request came round to a proxy that it had passed: {told}")
    if tried[-1].timed_out:
        return UpstreamTimeout(f"The upstream was too slow: {told}")
    return UpstreamFailed(f"Every attempt failed: {told}")


def may_repeat(fault: UpstreamFault) -> bool:
    """Whether another attempt may follow. Not after a time-out of a request that was sent: the upstream may
    still be working on it, and both would be billed."""
    return not (fault.timed_out and fault.maybe_billed)
