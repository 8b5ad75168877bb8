"""The tree of failures is as its drawing says, and each failure carries what its reader needs."""

import re

import pytest

from gproxy import errors
from gproxy.errors import (
    ConfigError,
    GatewayError,
    IdleTimedOut,
    RateLimited,
    UpstreamFault,
    without_frames,
)

DRAWN = re.findall(r"── (\w+)\s+(\d{3})\s+(\w+)", errors.__doc__ or "")
FAULTS = re.findall(r"── (\w+)\s+[a-z]\D", errors.__doc__ or "")


def classes(parent: type[Exception]) -> dict[str, type[Exception]]:
    return {
        name: it for name, it in vars(errors).items() if isinstance(it, type) and parent in it.__mro__[1:]
    }


def test_the_drawing_shows_every_class_with_its_status_and_kind() -> None:
    real = {(name, str(it.status), it.kind) for name, it in classes(GatewayError).items()}  # type: ignore[attr-defined]  # of GatewayError
    assert set(DRAWN) == real


def test_the_drawing_shows_every_fault_of_an_attempt() -> None:
    assert set(classes(UpstreamFault)) <= set(FAULTS)


def test_no_two_failures_share_a_status_but_by_descent() -> None:
    statuses = [status for name, status, _ in DRAWN if GatewayError in getattr(errors, name).__bases__]
    assert len(statuses) == len(set(statuses))


def test_a_failure_carries_its_message_and_headers() -> None:
    error = RateLimited("Too fast.", headers=(("retry-after", "3"),))
    assert (str(error), error.message, error.headers) == ("Too fast.", "Too fast.", (("retry-after", "3"),))


@pytest.mark.parametrize("name", sorted(classes(UpstreamFault)))
def test_a_time_out_after_the_request_went_out_may_have_been_billed(name: str) -> None:
    fault = classes(UpstreamFault)[name]("why")
    assert isinstance(fault, UpstreamFault)
    assert fault.reason == str(fault) == "why"
    assert fault.timed_out == ("TimedOut" in name)
    assert fault.maybe_billed == (name in ("FirstByteTimedOut", "IdleTimedOut", "AnswerBroken"))


def test_a_configuration_error_carries_its_problems() -> None:
    error = ConfigError("bad", ("line 1", "line 2"))
    assert (error.message, error.problems) == ("bad", ("line 1", "line 2"))
    assert ConfigError("bad").problems == ()


def test_an_error_that_is_kept_holds_no_frame_of_what_it_came_of() -> None:
    try:
        try:
            try:
                raise ValueError
            except ValueError as first:
                raise KeyError from first
        except KeyError:
            raise IdleTimedOut("too slow") from None
    except IdleTimedOut as error:
        kept = without_frames(error)
    chain = (kept, kept.__context__, kept.__context__ and kept.__context__.__cause__)
    assert [type(it) for it in chain] == [IdleTimedOut, KeyError, ValueError]
    assert [it and it.__traceback__ for it in chain] == [None] * 3


def test_an_error_that_came_of_itself_is_gone_through_once() -> None:
    again = ValueError()
    try:
        try:
            try:
                raise again
            except ValueError as first:
                raise KeyError from first
        except KeyError:
            raise again  # noqa: B904  # its context is what this is about
    except ValueError as error:
        kept = without_frames(error)
    assert kept.__context__ is not None
    assert kept.__context__.__cause__ is kept
    assert kept.__traceback__ is kept.__context__.__traceback__ is None
