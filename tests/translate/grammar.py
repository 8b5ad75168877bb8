"""Checkers of what a stream may be: one for the deltas of the model, and one for each dialect's events."""

from collections.abc import Sequence

from gproxy.translate.model import (
    Added,
    Cited,
    Closed,
    Delta,
    Finished,
    Opened,
    Reasoning,
    Signed,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)


def check_deltas(deltas: Sequence[Delta], *, whole: bool = True) -> None:
    """Raises AssertionError unless the deltas are in the order that `translate/model.py` promises.

    `whole`: and the stream has its end.
    """
    opened: object = None
    finished = False
    for at, delta in enumerate(deltas):
        assert not finished, f"{delta} after the end"
        assert isinstance(delta, Started) == (at == 0), f"{delta} at {at}"
        match delta:
            case Opened(part):
                assert opened is None, f"{part} opened inside {opened}"
                assert not (part.arguments if isinstance(part, ToolCall) else part.text)
                opened = part
            case Added(text):
                assert opened is not None
                assert text
            case Cited():
                assert isinstance(opened, Text)
            case Signed():
                assert isinstance(opened, Reasoning)
            case Closed():
                assert opened is not None
                opened = None
            case Finished():
                assert opened is None, "an open part at the end"
                finished = True
            case Started() | UsageSeen():
                pass
    assert finished or not whole
