"""What the table of upstream answers says of each status, code and fault."""

import pytest

from gproxy.errors import (
    AnswerBroken,
    AnswerRefused,
    ConnectFailed,
    ConnectTimedOut,
    CredentialRefused,
    FirstByteTimedOut,
    IdleTimedOut,
    UpstreamFault,
)
from gproxy.routing.credentials import Cause
from gproxy.routing.verdicts import Verdict, failure_of, fault_of, judge, may_repeat
from gproxy.values import NO_COMPLAINT, Complaint

PASSED = {400, 404, 413, 422}
CAUSES = {
    401: Cause.BAD_KEY,
    402: Cause.BILLING,
    403: Cause.FORBIDDEN,
    429: Cause.RATE_LIMITED,
    **dict.fromkeys((301, 302, 307, 405, 408, 409, 418, 500, 502, 503, 504, 508, 529), Cause.TROUBLE),
}


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_an_answer_is_used(status: int) -> None:
    assert judge(status) is Verdict.ANSWER


@pytest.mark.parametrize("status", sorted(PASSED))
def test_what_the_client_got_wrong_is_passed(status: int) -> None:
    assert judge(status) is Verdict.PASS


@pytest.mark.parametrize(("status", "cause"), sorted(CAUSES.items()))
def test_all_else_is_tried_elsewhere_and_has_its_cause(status: int, cause: Cause) -> None:
    assert judge(status) is Verdict.NEXT
    failure = failure_of(status, Complaint(retry_s=7.0), ())
    assert (failure.cause, failure.status, failure.hint_s) == (cause, status, 7.0)
    assert failure.reason.startswith(f"status {status}")


@pytest.mark.parametrize("status", [400, 403, 429])
@pytest.mark.parametrize(
    "complaint",
    [
        Complaint(frozenset({"insufficient_quota"})),
        Complaint(frozenset({"x", "organization_spend_limit_exceeded"})),
        Complaint(frozenset({"enforced_spend_limit_reached"})),
        Complaint(message="Your credit balance is too low to access the API."),
    ],
)
def test_an_empty_balance_is_told_by_its_code(status: int, complaint: Complaint) -> None:
    assert judge(status, complaint) is Verdict.NEXT
    assert failure_of(status, complaint, ()).cause is Cause.BILLING


BAD_KEY = [
    Complaint(frozenset({"API_KEY_INVALID"})),
    Complaint(frozenset({"invalid_api_key"})),
    Complaint(message="Incorrect API key provided: xa***1."),
]


@pytest.mark.parametrize("complaint", BAD_KEY)
def test_a_bad_key_that_is_called_a_bad_request_is_one(complaint: Complaint) -> None:
    assert judge(400, complaint) is Verdict.NEXT
    assert failure_of(400, complaint, ()).cause is Cause.BAD_KEY
    assert judge(404, complaint) is Verdict.PASS
    assert failure_of(403, complaint, ()).cause is Cause.FORBIDDEN


@pytest.mark.parametrize("phrase", ["Incorrect API key provided", "Your credit balance is too low"])
def test_an_upstream_that_quotes_its_client_takes_no_credential_out(phrase: str) -> None:
    quoting = Complaint(message=f"{phrase} is not a valid model ID")
    assert judge(400, quoting, ["other", f'{{"model": "{phrase}"}}']) is Verdict.PASS
    inside = Complaint(message=f'the model "{phrase}" is not known')
    assert judge(400, inside) is Verdict.PASS


def test_where_no_key_was_sent_none_was_refused() -> None:
    assert failure_of(401, NO_COMPLAINT, (), keyless=True).cause is Cause.FORBIDDEN


@pytest.mark.parametrize(
    ("fault", "cause", "repeated"),
    [
        (ConnectFailed("x"), Cause.NO_CONNECTION, True),
        (ConnectTimedOut("x"), Cause.NO_CONNECTION, True),
        (CredentialRefused("x"), Cause.BAD_KEY, True),
        (AnswerBroken("x"), Cause.TROUBLE, True),
        (AnswerRefused("x"), Cause.TROUBLE, True),
        (FirstByteTimedOut("x"), Cause.TROUBLE, False),
        (IdleTimedOut("x"), Cause.TROUBLE, False),
    ],
)
def test_a_fault_has_its_cause_and_what_may_still_be_running_is_not_sent_again(
    fault: UpstreamFault, cause: Cause, repeated: bool
) -> None:
    failure = fault_of(fault)
    assert (failure.cause, failure.reason, failure.status) == (cause, "x", None)
    assert may_repeat(fault) is repeated
