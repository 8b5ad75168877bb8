"""The thoughts before a call as the call's own signature, for clients that send no thoughts back.

The Gemini CLI keeps calls with their signatures, and leaves out parts with `thought`; but Anthropic, OpenAI's
Responses and DeepSeek want the thought that led to a call again beside its result. Signatures of other parts are
`thoughts.py`'s, and what Gemini is sent in the place of ours `foreign.py`'s.
"""

from base64 import b64encode
from collections.abc import Sequence

import msgspec

from gproxy.translate import signatures
from gproxy.translate.gemini import thoughts
from gproxy.translate.model import AnswerPart, Part, Reasoning, Signature, Text, ToolCall

MOST_CHARS = 256 * 1024
"""A longer one is not made, and not read: the thought is then lost, as it is without."""

_MARK = "gproxy-thoughts."
_OF_NOBODY = b64encode(signatures.OF_NOBODY.encode()).decode()


class _Kept(msgspec.Struct, array_like=True):
    """A thought. `early`: it stands in front of the text before the call, not behind it."""

    text: str
    signature: str
    dialect: str
    redacted: bool
    early: bool


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Kept]).decode


def carried_by_call(before: Sequence[AnswerPart]) -> str:
    """The signature for a call that has none of its own: it holds the thoughts in `before`, which is what was said
    since the call before it. Without any it says that nobody signed it, which is known when it goes to Gemini."""
    texts = [at for at, part in enumerate(before) if isinstance(part, Text) and part.text]
    kept = [
        _kept(part, early=bool(texts) and at < texts[-1])
        for at, part in enumerate(before)
        if isinstance(part, Reasoning) and not _is_of_gemini(part)
    ]
    made = b64encode(_MARK.encode() + _encode(kept)).decode()
    return made if kept and len(made) <= MOST_CHARS else _OF_NOBODY


def _is_of_gemini(part: Reasoning) -> bool:
    """Whether it is for a model that signs its calls as well."""
    return part.signature is not None and part.signature.dialect == thoughts.DIALECT


def _kept(part: Reasoning, *, early: bool) -> _Kept:
    signed = part.signature or Signature("", "")
    return _Kept(part.text, signed.value, signed.dialect, part.redacted, early)


def put_back(said: list[Part], signature: str) -> None:
    """Adds to what a client says the model `said` the thoughts that the `signature` of the call behind it holds.

    Those that it sends back by itself are not told twice. One that is none, or was tampered with, holds none.
    """
    kept = _read(signature)
    if not kept:
        return
    start = next((at for at in range(len(said), 0, -1) if isinstance(said[at - 1], ToolCall)), 0)
    known = {part.signature for part in said[start:] if isinstance(part, Reasoning)}
    early = len(said)
    while early > start and isinstance(said[early - 1], Text):
        early -= 1
    for one in kept:
        signed = Signature(one.signature, one.dialect) if one.signature else None
        if signed in known or (signed is None and (one.redacted or not one.text)):
            continue
        said.insert(early if one.early else len(said), Reasoning(one.text, signed, one.redacted))
        early += 1


def _read(signature: str) -> list[_Kept]:
    if len(signature) > MOST_CHARS:
        return []
    found = thoughts.ours(signature)
    if not found.startswith(_MARK):
        return []
    try:
        return _decode(found.removeprefix(_MARK))
    except (ValueError, RecursionError):
        return []
