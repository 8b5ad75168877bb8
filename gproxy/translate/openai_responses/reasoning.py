"""Items of reasoning: read out of a client's input or a target's output, and written for either.

What OpenAI shows of its reasoning is a summary; open models show it whole, as `content`. `encrypted_content` is
how it goes back to where it was made, since nothing is stored there.
https://developers.openai.com/api/docs/guides/reasoning#encrypted-reasoning-items
"""

from collections.abc import Mapping
from typing import Any

from gproxy.protocols.answers import objects
from gproxy.translate import signatures
from gproxy.translate.model import Reasoning, Signature

DIALECT = "openai_responses"
BETWEEN_SUMMARIES = "\n\n"


def reasoning_of(item: Mapping[str, Any]) -> Reasoning | None:
    """The reasoning in an item; None if there is neither text nor signature in it.

    An item without any summary is redacted: one whose summary is empty is not (Anthropic's thoughts may be so).
    """
    summaries, contents = (
        [text for part in objects(item.get(name)) if isinstance(text := part.get("text"), str)]
        for name in ("summary", "content")
    )
    text = BETWEEN_SUMMARIES.join(summaries) or "".join(contents)
    encrypted = item.get("encrypted_content")
    signature = signatures.from_client(encrypted, DIALECT) if isinstance(encrypted, str) else None
    if not text and signature is None:
        return None
    return Reasoning(text, signature, redacted=not summaries and not contents)


def signature_of_call(item: Mapping[str, Any]) -> Signature | None:
    """The signature that the item keeps for the call behind it; None for an item of reasoning."""
    encrypted = item.get("encrypted_content")
    return signatures.of_call(encrypted) if isinstance(encrypted, str) else None


def item_for_client(part: Reasoning, item_id: str) -> dict[str, Any]:
    """The item, with a signature of any dialect."""
    return {
        "id": item_id,
        "type": "reasoning",
        "summary": [] if part.redacted or not (part.text or part.signature) else [summary_of(part.text)],
        "encrypted_content": signatures.worn(part.signature, DIALECT) or signatures.OF_NOBODY,
    }


def kept_for_call(signature: Signature, item_id: str) -> dict[str, Any]:
    """The item in front of a call that keeps its signature."""
    kept = signatures.worn_by_call(signature)
    return {"id": item_id, "type": "reasoning", "summary": [], "encrypted_content": kept}


def item_for_target(part: Reasoning) -> dict[str, Any] | None:
    """The item for who made it; None if another did, or if it has no signature."""
    encrypted = signatures.valid_for(part.signature, DIALECT)
    if not encrypted:
        return None
    summary = [] if part.redacted else [summary_of(part.text)]
    return {"type": "reasoning", "summary": summary, "encrypted_content": encrypted}


def summary_of(text: str) -> dict[str, str]:
    return {"type": "summary_text", "text": text}
