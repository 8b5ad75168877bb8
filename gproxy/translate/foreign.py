"""What a client of Messages keeps of other providers' reasoning, taken out of a request that goes to Anthropic as it
came: it knows its own signatures alone, and refuses the request for one of another's.

How such signatures are carried is `signatures.py`'s.
"""

from collections.abc import Mapping
from typing import Any

from gproxy.protocols.answers import mapping, objects

_MARKS = ("gproxy.", "gproxy-call.")
_QUOTED = '"gproxy'


def may_hold_foreign(text: str) -> bool:
    """Whether it is worth a look: one search in the body's text."""
    return _QUOTED in text


def without_foreign(tree: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request without thinking blocks that another provider signed; None if it holds none.

    A turn of tool calls that so begins without a thought cannot go on with one, so `thinking` goes as well.
    """
    messages: list[Any] = []
    changed = False
    for message in objects(tree.get("messages")):
        content = message.get("content")
        if isinstance(content, list):
            kept = [block for block in content if not _is_foreign(block)]
            if len(kept) < len(content):
                changed = True
                if not kept:
                    continue
                message = {**message, "content": kept}
        messages.append(message)
    if not changed:
        return None
    out = {**tree, "messages": messages}
    if not _may_think(messages):
        out.pop("thinking", None)
    return out


def _is_foreign(block: object) -> bool:
    fields = mapping(block)
    if fields.get("type") not in ("thinking", "redacted_thinking"):
        return False
    signed = fields.get("signature", fields.get("data"))
    return isinstance(signed, str) and signed.startswith(_MARKS)


def _may_think(messages: list[Any]) -> bool:
    results = objects(messages[-1].get("content")) if messages else []
    if len(messages) < 2 or not any(block.get("type") == "tool_result" for block in results):
        return True
    called = objects(messages[-2].get("content"))
    return bool(called) and called[0].get("type") in ("thinking", "redacted_thinking")
