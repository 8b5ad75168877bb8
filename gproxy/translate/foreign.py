"""What a client keeps of others' reasoning, taken out of a request that goes to a provider of its own dialect as it
came: that knows its own signatures alone, and refuses the request for one of another's.

How such signatures are carried is `signatures.py`'s, at Gemini's clients `gemini/thoughts.py`'s.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gproxy.protocols.answers import mapping, objects
from gproxy.translate.gemini.models import wants_signatures
from gproxy.translate.gemini.thoughts import UNSIGNED, ours

Tree = Mapping[str, Any]

_MARKS = ("gproxy.", "gproxy-call.")
_THOUGHTS = ("thinking", "redacted_thinking")
_SIGNATURES = ("thoughtSignature", "thought_signature")


def without_foreign(dialect: str, tree: Tree, model: str) -> dict[str, Any] | None:
    """The request without reasoning that another provider than the one of `model` signed; None if it holds none.

    Nearly no request does, and all are looked at: what finds none must be quick.
    """
    spared = _SPARED.get(dialect)
    return None if spared is None else spared(tree, model)


def _said(turns: object, role: str, name: str) -> list[Any]:
    """All that is listed under `name` in the turns of one role."""
    said: list[Any] = []
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("role") == role and isinstance(listed := turn.get(name), list):
            said += listed
    return said


def _is_foreign(signature: object) -> bool:
    return isinstance(signature, str) and signature.startswith(_MARKS)


def _messages(tree: Tree, _model: str) -> dict[str, Any] | None:
    """Anthropic's: without thinking blocks.

    A turn of tool calls that so begins without a thought cannot go on with one, so `thinking` goes as well.
    """
    if not any(map(_is_foreign_thought, _said(tree.get("messages"), "assistant", "content"))):
        return None
    messages: list[Any] = []
    for message in objects(tree.get("messages")):
        content = message.get("content")
        if isinstance(content, list):
            kept = [block for block in content if not _is_foreign_thought(block)]
            if content and not kept:
                continue
            message = {**message, "content": kept}
        messages.append(message)
    out = {**tree, "messages": messages}
    if not _may_think(messages):
        out.pop("thinking", None)
    return out


def _is_foreign_thought(block: object) -> bool:
    if not isinstance(block, dict) or block.get("type") not in _THOUGHTS:
        return False
    return _is_foreign(block.get("signature", block.get("data")))


def _may_think(messages: list[Any]) -> bool:
    results = objects(messages[-1].get("content")) if messages else []
    if len(messages) < 2 or not any(block.get("type") == "tool_result" for block in results):
        return True
    called = objects(messages[-2].get("content"))
    return bool(called) and called[0].get("type") in _THOUGHTS


def _responses(tree: Tree, _model: str) -> dict[str, Any] | None:
    """OpenAI's: without items of reasoning, of which the content cannot be decrypted."""
    given = tree.get("input")
    if not isinstance(given, list):
        return None
    kept = [
        item
        for item in given
        if not (
            isinstance(item, dict) and "encrypted_content" in item and _is_foreign(item["encrypted_content"])
        )
    ]
    return {**tree, "input": kept} if len(kept) < len(given) else None


def _chat(tree: Tree, _model: str) -> dict[str, Any] | None:
    """Those of chat completions, where only OpenRouter and the like know of signatures."""
    given = tree.get("messages")
    for message in given if isinstance(given, list) else ():
        if isinstance(message, dict) and "reasoning_details" in message:
            return _chat_spared(tree)
    return None


def _chat_spared(tree: Tree) -> dict[str, Any] | None:
    """The same of one that holds reasoning, of whomever."""
    given = objects(tree.get("messages"))
    messages: list[Any] = []
    changed = False
    for message in given:
        details = message.get("reasoning_details")
        if isinstance(details, list):
            kept = [detail for detail in details if not _is_foreign_detail(mapping(detail))]
            if len(kept) < len(details):
                changed = True
                rest = {name: value for name, value in message.items() if name != "reasoning_details"}
                message = rest | ({"reasoning_details": kept} if kept else {})
        messages.append(message)
    return {**tree, "messages": messages} if changed else None


def _is_foreign_detail(detail: Tree) -> bool:
    return _is_foreign(detail.get("signature")) or _is_foreign(detail.get("data"))


def _gemini(tree: Tree, model: str) -> dict[str, Any] | None:
    """Gemini's: without signed thoughts, and with calls that are signed by Google's stand-in where they must be."""
    if not any(map(_signed_by_us, objects(_said(tree.get("contents"), "model", "parts")))):
        return None
    contents: list[Any] = []
    for content in objects(tree.get("contents")):
        parts = objects(content.get("parts"))
        kept = [fit for part in parts if (fit := _fit_for_gemini(part, model)) is not None]
        if kept or not parts:
            contents.append({**content, "parts": kept} if kept else content)
    return {**tree, "contents": contents}


def _signed_by_us(part: Tree) -> bool:
    worn = part.get(_SIGNATURES[0]) or part.get(_SIGNATURES[1])
    return isinstance(worn, str) and ours(worn) != ""


def _fit_for_gemini(part: Tree, model: str) -> Tree | None:
    """The part; None for one that says nothing but a thought of another provider's."""
    if not _signed_by_us(part):
        return part
    rest = {name: value for name, value in part.items() if name not in _SIGNATURES}
    if "functionCall" in rest or "function_call" in rest:
        return rest | ({"thoughtSignature": UNSIGNED} if wants_signatures(model) else {})
    return rest if rest.get("text") and not rest.get("thought") else None


_SPARED: Mapping[str, Callable[[Tree, str], dict[str, Any] | None]] = {
    "anthropic_messages": _messages,
    "openai_responses": _responses,
    "openai_chat": _chat,
    "gemini": _gemini,
}
