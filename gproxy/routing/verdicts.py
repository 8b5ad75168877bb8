"""What an upstream's answer or fault means: for the client, for the next attempt, and for the credential.

What follows from it for the credential is `credentials.py`'s, for the request `failover.py`'s.
"""

import enum
from collections.abc import Iterable

from gproxy.errors import ConnectFailed, ConnectTimedOut, CredentialRefused, UpstreamFault
from gproxy.routing.credentials import Cause, Failure
from gproxy.values import NO_COMPLAINT, Complaint


class Verdict(enum.Enum):
    """Use it, hand it to the client as its own error, or try elsewhere."""

    ANSWER = enum.auto()
    PASS = enum.auto()
    NEXT = enum.auto()


TELLING = frozenset({400, 402, 403, 429})
"""The statuses whose body may say more than they do."""

CLIENT_FAULTS = frozenset({400, 404, 413, 422})
"""The client's own doing: another credential would be answered the same."""

# OpenAI's error codes, with those of its spend limits; Anthropic's.
_BILLING_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "enforced_spend_limit_reached",
    }
)
# Gemini's `details[].reason` in a 400; OpenAI's `code`.
_BAD_KEY_CODES = frozenset({"API_KEY_INVALID", "invalid_api_key"})

# Anthropic's 400 for an empty balance and xAI's for a bad key have no code of their own.
_OUT_OF_CREDIT = "Your credit balance is too low"
_BAD_KEY = ("Incorrect API key provided", "incorrect API key")


def judge(status: int, complaint: Complaint = NO_COMPLAINT, said: Iterable[str] = ()) -> Verdict:
    """What to do with an answer of that status. `complaint` and `said` as for `failure_of`."""
    if 200 <= status < 300:
        return Verdict.ANSWER
    passed = status in CLIENT_FAULTS and _cause(status, complaint, said) is Cause.TROUBLE
    return Verdict.PASS if passed else Verdict.NEXT


def failure_of(status: int, complaint: Complaint, said: Iterable[str], *, keyless: bool = False) -> Failure:
    """What an answer that is not used says of its credential.

    `said` are the texts that the client sent: an upstream's message may quote them, so a phrase that is in one
    proves nothing. `keyless`: no key was sent, so none can have been refused.
    """
    cause = _cause(status, complaint, said)
    if cause is Cause.BAD_KEY and keyless:
        cause = Cause.FORBIDDEN
    words = {Cause.BILLING: ", out of credit", Cause.BAD_KEY: ", its key was refused"}
    return Failure(cause, f"status {status}{words.get(cause, '')}", status, complaint.retry_s)


def fault_of(fault: UpstreamFault) -> Failure:
    """The same of an attempt that got no answer, or none that is one."""
    if isinstance(fault, CredentialRefused):
        return Failure(Cause.BAD_KEY, fault.reason)
    unconnected = isinstance(fault, ConnectFailed | ConnectTimedOut)
    return Failure(Cause.NO_CONNECTION if unconnected else Cause.TROUBLE, fault.reason)


def may_repeat(fault: UpstreamFault) -> bool:
    """Whether another attempt may follow. Not after a time-out of a request that was sent: the upstream may
    still be working on it, and both would be billed."""
    return not (fault.timed_out and fault.maybe_billed)


def _cause(status: int, complaint: Complaint, said: Iterable[str]) -> Cause:
    if status == 401:
        return Cause.BAD_KEY
    if status == 402:
        return Cause.BILLING
    if status in TELLING:
        if complaint.codes & _BILLING_CODES or _says(complaint, (_OUT_OF_CREDIT,), said):
            return Cause.BILLING
        if status == 400 and (complaint.codes & _BAD_KEY_CODES or _says(complaint, _BAD_KEY, said)):
            return Cause.BAD_KEY
    return {403: Cause.FORBIDDEN, 429: Cause.RATE_LIMITED}.get(status, Cause.TROUBLE)


def _says(complaint: Complaint, phrases: Iterable[str], said: Iterable[str]) -> bool:
    return any(
        complaint.message.startswith(phrase) and not any(phrase in text for text in said)
        for phrase in phrases
    )
