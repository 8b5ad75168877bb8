"""Results stand behind their calls, ids are unique, and neighbours of one side are one turn."""

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.model import Text, ToolCall, ToolResult, Turn
from gproxy.translate.turns import merged, settled


def call(call_id: str) -> ToolCall:
    return ToolCall(call_id, "f", "{}")


def result(call_id: str, text: str = "ok") -> ToolResult:
    return ToolResult(call_id, (Text(text),))


SAID = Turn("user", (Text("and"),))


def test_results_come_directly_after_their_calls_and_in_their_order() -> None:
    asked = Turn("assistant", (Text("wait"), call("a"), call("b")))
    turns = [asked, SAID, Turn("tool", (result("b"),)), Turn("tool", (result("a"),))]
    assert settled(turns) == [asked, Turn("tool", (result("a"), result("b"))), SAID]


def test_turns_that_are_in_order_stay_so() -> None:
    turns = [
        SAID,
        Turn("assistant", (call("a"),)),
        Turn("tool", (result("a"),)),
        Turn("assistant", (Text("b"),)),
    ]
    assert settled(turns) == turns


def test_an_id_that_was_given_twice_is_made_unique_with_its_result() -> None:
    turns = [
        Turn("assistant", (call("0"),)),
        Turn("tool", (result("0", "first"),)),
        Turn("assistant", (call("0"),)),
        Turn("tool", (result("0", "second"),)),
    ]
    assert settled(turns)[2:] == [Turn("assistant", (call("0_2"),)), Turn("tool", (result("0_2", "second"),))]


@pytest.mark.parametrize(
    ("turns", "named"),
    [
        ([Turn("assistant", (call("a"),))], "'a' is not followed"),
        ([SAID, Turn("tool", (result("b"),))], "'b' follows no call"),
        ([Turn("assistant", (call("a"),)), Turn("tool", (result("a"), result("a")))], "'a' follows no call"),
    ],
)
def test_a_call_without_its_result_is_refused_and_so_is_a_result_without_its_call(
    turns: list[Turn], named: str
) -> None:
    with pytest.raises(BadRequest, match=named):
        settled(turns)


def test_neighbours_of_one_side_are_one_and_who_says_nothing_goes() -> None:
    sides = [("user", ["a"]), ("assistant", []), ("user", ["b"]), ("assistant", ["c"])]
    assert merged(sides) == [("user", ["a", "b"]), ("assistant", ["c"])]
