"""The order that providers demand of turns: results directly after their calls, and no two turns of one side.

What stands in a turn is not changed, apart from ids that were given twice.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from gproxy.errors import BadRequest
from gproxy.translate.fields import short
from gproxy.translate.model import Part, ToolCall, ToolResult, Turn

T = TypeVar("T")


def settled(turns: Iterable[Turn]) -> list[Turn]:
    """The turns with the results of each one's calls directly behind it, in the order of the calls.

    Some providers number their calls anew in every answer: a call with the id of an earlier one, and its result,
    get one of their own. Raises BadRequest for a call without a result and a result without a call.
    """
    ordered: list[Turn] = []
    waiting: dict[str, deque[ToolResult]] = defaultdict(deque)
    turns = list(turns)
    for turn in turns:
        if turn.role == "tool":
            for part in turn.parts:
                if isinstance(part, ToolResult):
                    waiting[part.call_id].append(part)
    times: dict[str, int] = defaultdict(int)
    for turn in turns:
        calls = [part for part in turn.parts if isinstance(part, ToolCall)]
        if not calls:
            if turn.role != "tool":
                ordered.append(turn)
            continue
        given: dict[int, str] = {}
        results: list[Part] = []
        for call in calls:
            if not waiting[call.id]:
                raise BadRequest(f"The tool call {short(call.id)} is not followed by its result.")
            times[call.id] += 1
            own = call.id if times[call.id] == 1 else f"{call.id}_{times[call.id]}"
            given[id(call)] = own
            results.append(replace(waiting[call.id].popleft(), call_id=own))
        parts = tuple(replace(p, id=given[id(p)]) if isinstance(p, ToolCall) else p for p in turn.parts)
        ordered += (Turn(turn.role, parts), Turn("tool", tuple(results)))
    for call_id, left in waiting.items():
        if left:
            raise BadRequest(f"The tool result for {short(call_id)} follows no call with that id.")
    return ordered


def merged(sides: Iterable[tuple[str, list[T]]]) -> list[tuple[str, list[T]]]:
    """What each side says, with neighbours of one side made one, and without those that say nothing."""
    joined: list[tuple[str, list[T]]] = []
    for side, said in sides:
        if not said:
            continue
        if joined and joined[-1][0] == side:
            joined[-1][1].extend(said)
        else:
            joined.append((side, said))
    return joined
