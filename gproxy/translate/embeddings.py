"""Embeddings of OpenAI's clients by Gemini, and of Gemini's clients by OpenAI.

Conversations are translated elsewhere: these have neither a model in common with them nor streams.
"""

import struct
from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gproxy.errors import AnswerBroken, BadRequest
from gproxy.protocols.answers import mapping, objects, tokens
from gproxy.translate import fields
from gproxy.translate.base import Tree
from gproxy.translate.gemini.spelling import camel, one, several

_OTHER = {"openai_embeddings": "gemini", "gemini": "openai_embeddings"}
_KNOWN_OF_OPENAI = frozenset({"model", "input", "dimensions", "encoding_format"})
_KNOWN_OF_GEMINI = frozenset({"model", "content", "outputDimensionality", "embedContentConfig"})
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for the target, and what must be known of it to write its answer for the client.

    `texts` is how many are embedded. `base64`: an OpenAI client wants its vectors so. `alone`: a Gemini client asked
    for one, and is answered with one. `lost` names what the target cannot be told.
    """

    tree: dict[str, Any]
    texts: int
    base64: bool = False
    alone: bool = False
    lost: frozenset[str] = frozenset()


def carrier(client: str, spoken: Collection[str]) -> str:
    """The dialect, of those that are `spoken`, in which a client's embeddings are asked for; "" if there is none."""
    other = _OTHER.get(client, "")
    return other if other in spoken else ""


def for_gemini(tree: Tree, model: str) -> Asked:
    """An OpenAI client's request as one to `batchEmbedContents` of `model`. Raises BadRequest."""
    texts = tree.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts:
        raise fields.wrong("input", "", "a text, or an array of texts that is not empty")
    if not all(isinstance(text, str) for text in texts):
        raise BadRequest("`input` of tokens cannot be translated for this model's provider: send texts.")
    wanted = fields.text(tree, "encoding_format") or "float"
    if wanted not in ("float", "base64"):
        raise fields.wrong("encoding_format", "", "float or base64")
    dimensions = fields.whole(tree, "dimensions")
    shape = {} if dimensions is None else {"outputDimensionality": dimensions}
    name = f"models/{model.removeprefix('models/')}"
    requests = [{"model": name, "content": {"parts": [{"text": text}]}, **shape} for text in texts]
    lost = frozenset(fields.unknown(tree, _KNOWN_OF_OPENAI))
    return Asked({"requests": requests}, len(texts), base64=wanted == "base64", lost=lost)


def from_gemini(tree: Tree, asked: Asked, client_model: str, estimated: int) -> dict[str, Any]:
    """Gemini's answer for an OpenAI client; `estimated` tokens where it reports none. Raises AnswerBroken."""
    vectors = [_values(item) for item in objects(tree.get("embeddings"))]
    _check(vectors, asked)
    counted = tokens(mapping(tree.get("usageMetadata")).get("promptTokenCount"))
    read = estimated if counted is None else counted
    data = [
        {"object": "embedding", "index": at, "embedding": _packed(vector) if asked.base64 else vector}
        for at, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": read, "total_tokens": read}
    return {"object": "list", "data": data, "model": client_model, "usage": usage}


def for_openai(tree: Tree, model: str) -> Asked:
    """A Gemini client's request, for one text or several, as one to OpenAI's `model`. Raises BadRequest."""
    tree = camel(tree)
    alone = "requests" not in tree
    requests = [tree] if alone else several(tree, "requests")
    if not requests:
        raise fields.wrong("requests", "", "an array that is not empty")
    texts: list[str] = []
    sizes: set[int | None] = set()
    lost: set[str] = set()
    for at, request in enumerate(requests):
        where = "" if alone else f"requests[{at}]"
        texts.append(_text(one(request, "content", where), fields.place("content", where)))
        config = one(request, "embedContentConfig", where)
        size = fields.whole(request, "outputDimensionality", where)
        sizes.add(fields.whole(config, "outputDimensionality", where) if size is None else size)
        lost |= fields.unknown(request, _KNOWN_OF_GEMINI)
        lost |= fields.unknown(config, frozenset({"outputDimensionality"}))
    if len(sizes) > 1:
        raise BadRequest("`outputDimensionality` must be the same in all requests for this model's provider.")
    written: dict[str, Any] = {"model": model, "input": texts, "encoding_format": "float"}
    if (size := sizes.pop()) is not None:
        written["dimensions"] = size
    return Asked(written, len(texts), alone=alone, lost=frozenset(lost))


def from_openai(tree: Tree, asked: Asked) -> dict[str, Any]:
    """OpenAI's answer for a Gemini client. Raises AnswerBroken."""
    vectors = [_unpacked(item.get("embedding")) for item in sorted(objects(tree.get("data")), key=_index)]
    _check(vectors, asked)
    found = [{"values": vector} for vector in vectors]
    answer: dict[str, Any] = {"embedding": found[0]} if asked.alone else {"embeddings": found}
    counted = tokens(mapping(tree.get("usage")).get("prompt_tokens"))
    return answer if counted is None else answer | {"usageMetadata": {"promptTokenCount": counted}}


def _text(content: Mapping[str, Any], where: str) -> str:
    parts = several(content, "parts", where)
    if not parts or any(not isinstance(part.get("text"), str) for part in parts):
        raise BadRequest(f"`{where}` must be of text, for this model's provider.")
    return "".join(part["text"] for part in parts)


def _index(item: Mapping[str, Any]) -> int:
    index = item.get("index")
    return index if isinstance(index, int) else 0


def _values(item: Mapping[str, Any]) -> list[float]:
    values = item.get("values")
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise AnswerBroken("a vector of the answer is not made of numbers")
    return values


def _packed(vector: list[float]) -> str:
    """Base64 of little-endian numbers of 32 bits, as OpenAI's SDKs ask for them."""
    try:
        return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (OverflowError, struct.error):
        raise AnswerBroken("a vector of the answer has a number beyond 32 bits") from None


def _unpacked(embedding: object) -> list[float]:
    """A vector in either form: some servers answer in base64 unasked."""
    if not isinstance(embedding, str):
        return _values({"values": embedding})
    try:
        data = b64decode(embedding, validate=True)
        return list(struct.unpack(f"<{len(data) // _FLOAT_BYTES}f", data))
    except (ValueError, struct.error):
        raise AnswerBroken("a vector of the answer is not base64 of numbers") from None


def _check(vectors: list[list[float]], asked: Asked) -> None:
    if len(vectors) != asked.texts:
        raise AnswerBroken(f"the answer holds {len(vectors)} vectors for {asked.texts} texts")
