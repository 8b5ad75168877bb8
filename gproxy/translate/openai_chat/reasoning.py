"""Reasoning in messages and deltas of chat completions, which OpenAI's own dialect does not have.

`reasoning_content` is DeepSeek's (and vLLM's, Moonshot's, …), `reasoning` OpenRouter's; both are plain text.
`reasoning_details` is OpenRouter's: objects with text and signature, or encrypted data.
https://openrouter.ai/docs/guides/best-practices/reasoning-tokens
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.translate import signatures
from gproxy.translate.model import Reasoning

DIALECT = "openai_chat"


def read_reasoning(message: Mapping[str, Any]) -> Iterator[Reasoning]:
    """The reasoning in a whole message: the details, or where there are none the text."""
    details = message.get("reasoning_details")
    found = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    parts = [part for detail in found if (part := _of_detail(detail)) is not None]
    if parts:
        yield from parts
    elif text := plain_text(message):
        yield Reasoning(text)


def plain_text(message: Mapping[str, Any]) -> str:
    """The plain text of reasoning in a message or delta, "" if there is none."""
    for name in ("reasoning_content", "reasoning"):
        value = message.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def _of_detail(detail: Mapping[str, Any]) -> Reasoning | None:
    kind = detail.get("type")
    if kind == "reasoning.encrypted":
        signature = signatures.from_client(_string(detail, "data"), DIALECT)
        return Reasoning("", signature, redacted=True) if signature is not None else None
    text = _string(detail, "summary" if kind == "reasoning.summary" else "text")
    signature = signatures.from_client(_string(detail, "signature"), DIALECT)
    return Reasoning(text, signature) if text or signature is not None else None


def _string(detail: Mapping[str, Any], name: str) -> str:
    value = detail.get(name)
    return value if isinstance(value, str) else ""


def detail_of(part: Reasoning) -> dict[str, Any] | None:
    """A part that has a signature as an element of `reasoning_details`; None for one without."""
    if part.signature is None:
        return None
    worn = signatures.worn(part.signature, DIALECT)
    if part.redacted:
        return {"type": "reasoning.encrypted", "data": worn}
    return {"type": "reasoning.text", "text": part.text, "signature": worn}
