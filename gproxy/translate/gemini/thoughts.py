"""Signatures of thoughts as a Gemini client keeps them: base64, since they are a field of bytes.

The official SDK for Python decodes such a field and writes it again in the other alphabet of base64.
"""

from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from gproxy.translate import signatures
from gproxy.translate.model import Part, Reasoning, Signature, Text

DIALECT = "gemini"

UNSIGNED = "skip_thought_signature_validator"
"""What stands for the signature of a call that another model made; without one, Gemini 3 refuses the request.

https://ai.google.dev/gemini-api/docs/thought-signatures
"""

_OURS = "gproxy"
_MARK = b64encode(_OURS.encode()).decode()
_STANDARD = str.maketrans("-_", "+/")


def worn(signature: Signature) -> str:
    """The text that stands for it at a client."""
    if signature.dialect == DIALECT:
        return signature.value
    return b64encode(signatures.worn(signature, DIALECT).encode()).decode()


def from_client(text: str) -> Signature | None:
    """The signature in a text that a client sent; None if it is none."""
    if not text or text == UNSIGNED:
        return None
    told = ours(text)
    if not told:
        return Signature(text, DIALECT)
    return signatures.from_client(told, DIALECT) if told.startswith(f"{_OURS}.") else None


def ours(text: str) -> str:
    """What a signature that we made says; "" for one of Google's."""
    if text.startswith(_MARK):
        with suppress(ValueError):  # it only begins like one of ours
            told = urlsafe_b64decode(_padded(text)).decode()
            if told.startswith((f"{_OURS}.", f"{_OURS}-")):
                return told
    return ""


def standard(data: str) -> str:
    """Base64 in the alphabet that all other dialects have."""
    return _padded(data).translate(_STANDARD)


def _padded(data: str) -> str:
    return data + "=" * (-len(data) % 4)


def joined(parts: Iterable[Part]) -> Sequence[Part]:
    """The parts of one side with pieces of one text or thought made one: a client keeps them as they were streamed.

    A thought ends with its signature.
    """
    whole: list[Part] = []
    for part in parts:
        before = whole[-1] if whole else None
        if isinstance(part, Text) and isinstance(before, Text):
            whole[-1] = Text(before.text + part.text)
        elif (
            isinstance(part, Reasoning)
            and not part.redacted
            and isinstance(before, Reasoning)
            and before.signature is None
        ):
            whole[-1] = replace(part, text=before.text + part.text)
        else:
            whole.append(part)
    return whole
