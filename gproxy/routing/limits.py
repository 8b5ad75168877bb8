"""Which limits and budgets a request comes under, and what a client is told of them. Pure; time is an argument.

Counting is `ledger/spend.py`'s: here its `Admission` becomes an error or headers.
"""

from math import ceil

from gproxy.config.snapshot import Client, LimitRule
from gproxy.errors import GatewayError, QuotaExceeded, RateLimited
from gproxy.values import Admission, Bound, Budget, Target

OUTPUT_CEILING = 131_072
"""Most output tokens that a request is taken to ask for, whatever it says: no model answers with more."""

OUTPUT_UNSAID = 32_768
"""What a request that sets no output limit may cost: held against a budget until its real cost is known."""

OUTPUT_TYPICAL = 4_096
"""What such a request is taken to use of a token limit, which is settled to the truth when it ends."""

_WORDS = {
    "rpm": "requests per minute",
    "rpd": "requests per day",
    "tpm": "tokens per minute",
    "tpd": "tokens per day",
    "concurrency": "requests at once",
}

_TOLD = "x-ratelimit-limit-{0}: %d\r\nx-ratelimit-remaining-{0}: %d\r\nx-ratelimit-reset-{0}: %ds\r\n"
_LINES = {
    **dict.fromkeys(("rpm", "rpd"), _TOLD.format("requests").encode()),
    **dict.fromkeys(("tpm", "tpd"), _TOLD.format("tokens").encode()),
}


def rules_for(client: Client, target: Target, alias: str | None) -> tuple[LimitRule, ...]:
    """The rules of the client's user that apply: the most specific of those that match any of the names.

    More than one only where several are equally specific, under different names of the target: each holds then,
    so that no name is a way round another's rule.
    """
    names = [target.model, f"{target.provider}/{target.model}", *([alias] if alias else [])]
    matching = [rule for rule in client.limits if any(rule.pattern.matches(name) for name in names)]
    best = max((rule.rank for rule in matching), default=None)
    return tuple(rule for rule in matching if rule.rank == best)


def bounds_for(client: Client, target: Target, alias: str | None) -> tuple[Bound, ...]:
    """Every bound on a request: those of the user's rules that apply, and the key's own."""
    rules = rules_for(client, target, alias)
    return (*(bound for rule in rules for bound in rule.bounds), *client.key_bounds)


def output_asked(limit: int | None) -> tuple[int, int]:
    """The output tokens that a request with this limit is taken to use, and the most that it may cost."""
    if limit:
        return (limit, limit) if limit < OUTPUT_CEILING else (OUTPUT_CEILING, OUTPUT_CEILING)
    return OUTPUT_TYPICAL, OUTPUT_UNSAID


def refusal(refused: Bound | Budget, admission: Admission, quota_status: int) -> GatewayError:
    """The error for an admission that was refused by that."""
    if isinstance(refused, Budget):
        # What others hold comes back: then trying again is of use.
        no_use = () if admission.fits_alone else (("x-should-retry", "false"),)
        headers: tuple[tuple[str, str], ...] = (*no_use, *rate_headers(admission))
        error: GatewayError = QuotaExceeded(_spent(refused, admission.fits_alone), headers=headers)
        error.status = quota_status
        return error
    after = str(max(1, ceil(admission.retry_after)))
    words = _WORDS[refused.kind]
    limit = f"the limit of {refused.most} {words if refused.most != 1 else words.replace('s ', ' ', 1)}"
    left = next((s.left for s in admission.standings if s.bound == refused), 0)
    told = f"What is left of {limit} does not fit this request" if left else f"T{limit[1:]} is reached"
    whose = "this key" if refused.rule.startswith("key/") else "this user and model"
    headers = (("retry-after", after), *rate_headers(admission))
    return RateLimited(f"{told} for {whose}. Try again in {after} s.", headers=headers)


def rate_headers(admission: Admission) -> tuple[tuple[str, str], ...]:
    """`x-ratelimit-*` of what a client is told."""
    parts = (line.partition(": ") for line in rate_lines(admission).decode().splitlines())
    return tuple([(name, value) for name, _, value in parts])


def rate_lines(admission: Admission) -> bytes:
    """The same as lines of a head."""
    lines = b""
    for it in admission.told:
        bound = it.bound
        lines += _LINES[bound.kind] % (bound.most, it.left, ceil(it.resets_in))
    return lines


def _dollars(nano: int) -> str:
    """With all its digits, two at least."""
    whole, _, part = f"{nano / 1e9:.9f}".rstrip("0").partition(".")
    return f"{whole}.{part:0<2}"


def _spent(budget: Budget, fits_alone: bool) -> str:
    whose = "this key" if budget.scope.startswith("key/") else "this user"
    period = {"day": " for today", "month": " for this month"}.get(budget.period, "")
    dollars = f"${_dollars(budget.most_nano)}"
    if fits_alone:
        return (
            f"What is left of the quota of {dollars}{period} of {whose} does not fit this request beside what "
            "other requests hold; try again when they have ended."
        )
    return f"The quota of {dollars}{period} of {whose} is spent."
