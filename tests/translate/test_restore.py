"""A client is given ids it can use, its own names of tools, and text where its tools take text."""

import pytest

from gproxy.translate.assembly import answer_of, deltas_of
from gproxy.translate.base import ClientFacts
from gproxy.translate.model import Answer, Text, ToolCall
from gproxy.translate.restore import Restorer, restored

CLIENT = ClientFacts(
    model="m", answer_id="7f", created=0, names={"short_12": "the long name"}, freeform=frozenset({"patch"})
)
CASES = {
    "an id that the client may not see as it is": (
        ToolCall("functions.f:0", "f", "{}"),
        ToolCall("gpid-ZnVuY3Rpb25zLmY6MA", "f", "{}"),
    ),
    "no id": (ToolCall("", "f", "{}"), ToolCall("call_7f1", "f", "{}")),
    "a name that was made to fit": (ToolCall("a", "short_12", "{}"), ToolCall("a", "the long name", "{}")),
    "a text in JSON": (
        ToolCall("a", "patch", '{"input":"*** Begin"}'),
        ToolCall("a", "patch", "*** Begin", freeform=True),
    ),
    "no arguments, said by saying nothing": (ToolCall("a", "f", ""), ToolCall("a", "f", "{}")),
    "no text": (ToolCall("a", "patch", "", freeform=True), ToolCall("a", "patch", "", freeform=True)),
    "an empty text": (ToolCall("a", "patch", '{"input":""}'), ToolCall("a", "patch", "", freeform=True)),
    "a text of a target that has such tools": (
        ToolCall("a", "patch", '{"input":1}', freeform=True),
        ToolCall("a", "patch", '{"input":1}', freeform=True),
    ),
}


@pytest.mark.parametrize(("call", "expected"), CASES.values(), ids=CASES.keys())
def test_a_call_is_as_its_client_knows_it(call: ToolCall, expected: ToolCall) -> None:
    answer = Answer((Text("a"), call), "tools")
    assert restored(answer, CLIENT).parts == (Text("a"), expected)
    restorer = Restorer(CLIENT)
    streamed = answer_of(delta for given in deltas_of(answer) for delta in restorer.feed(given))
    assert streamed.parts == (Text("a"), expected)


def test_an_answer_without_calls_stays_as_it_is() -> None:
    answer = Answer((Text("a"),), "stop")
    assert restored(answer, CLIENT) == answer
