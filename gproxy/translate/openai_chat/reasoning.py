"""Reasoning in messages and deltas of chat completions, which OpenAI's own dialect does not have.

`reasoning_content` is DeepSeek's (and vLLM's, Moonshot's, …), `reasoning` OpenRouter's; both are plain text.
`reasoning_details` is OpenRouter's: objects with text and signature, or encrypted data.
https://openrouter.ai/docs/guides/best-practices/reasoning-tokens
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gproxy.protocols.answers import mapping
from gproxy.translate import signatures
from gproxy.translate.model import Reasoning, Signature

DIALECT = "openai_chat"

_BESIDE = ("id", "format")
"""What says whose a signature is, and of which call: it must come back with it."""

_WITH_MORE = "gproxy-detail."


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
    signature = signature_of(detail)
    if kind == "reasoning.encrypted":
        return Reasoning("", signature, redacted=True) if signature is not None else None
    text = _string(detail, "summary" if kind == "reasoning.summary" else "text")
    return Reasoning(text, signature) if text or signature is not None else None


def signature_of(detail: Mapping[str, Any]) -> Signature | None:
    """The signature of an element of `reasoning_details`, or its encrypted data; with what stands beside it."""
    name = "data" if detail.get("type") == "reasoning.encrypted" else "signature"
    found = signatures.from_client(_string(detail, name), DIALECT)
    beside = {name: value for name in _BESIDE if (value := _string(detail, name))}
    if found is None or found.dialect != DIALECT or not beside:
        return found
    return Signature(_WITH_MORE + json.dumps({**beside, "signature": found.value}), DIALECT)


def _string(detail: Mapping[str, Any], name: str) -> str:
    value = detail.get(name)
    return value if isinstance(value, str) else ""


def detail_of(part: Reasoning) -> dict[str, Any] | None:
    """A part that has a signature as an element of `reasoning_details`; None for one without."""
    if part.signature is None:
        return None
    signed, beside = _parted(part.signature)
    if part.redacted:
        return {"type": "reasoning.encrypted", "data": signed, **beside}
    return {"type": "reasoning.text", "text": part.text, "signature": signed, **beside}


def _parted(signature: Signature) -> tuple[str, dict[str, str]]:
    """The text of a signature, and what stood beside it where it came from."""
    worn = signatures.worn(signature, DIALECT)
    if signature.dialect != DIALECT or not worn.startswith(_WITH_MORE):
        return worn, {}
    try:
        kept = mapping(msgspec.json.decode(worn.removeprefix(_WITH_MORE)))
    except (msgspec.DecodeError, RecursionError):
        return worn, {}
    return _string(kept, "signature"), {name: value for name in _BESIDE if (value := _string(kept, name))}
