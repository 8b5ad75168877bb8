"""How the signature of one provider's reasoning is carried by a client that speaks another dialect.

The client keeps it without knowing what it is, and it is good for the dialect that made it alone.
"""

from gproxy.translate.model import Signature

_MARK = "gproxy."
OF_NOBODY = "gproxy.none."
"""What stands for the signature of reasoning that nobody signed, at clients of which the own provider refuses
reasoning without one: by this it is known when it is sent there."""

_MARK_OF_CALL = "gproxy-call."


def worn(signature: Signature | None, dialect: str) -> str:
    """The text that stands for it at a client of `dialect`: itself, if that is its own; "" for None."""
    if signature is None:
        return ""
    if signature.dialect == dialect:
        return signature.value
    return f"{_MARK}{signature.dialect}.{signature.value}"


def from_client(text: str, dialect: str) -> Signature | None:
    """The signature in a text that a client of `dialect` sent; None if it is empty."""
    if text.startswith(_MARK):
        made_by, dot, value = text.removeprefix(_MARK).partition(".")
        if dot:
            return Signature(value, made_by) if value else None
    return Signature(text, dialect) if text else None


def valid_for(signature: Signature | None, dialect: str) -> str:
    """The text to send to a target of `dialect`: "" if the signature is another's."""
    return signature.value if signature is not None and signature.dialect == dialect else ""


def worn_by_call(signature: Signature) -> str:
    """The same for the signature of a tool call, at a client whose reasoning has signatures and whose calls have
    none: it is kept as that of a thought without text in front of the call."""
    return f"{_MARK_OF_CALL}{signature.dialect}.{signature.value}"


def of_call(text: str) -> Signature | None:
    """The signature of a tool call that a client kept so; None if the text is none of those."""
    if not text.startswith(_MARK_OF_CALL):
        return None
    made_by, _, value = text.removeprefix(_MARK_OF_CALL).partition(".")
    return Signature(value, made_by) if value else None
