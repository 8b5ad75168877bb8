"""The offline channel where it does not talk: embeddings, images, moderations, speech, rerank.

Everything is made of a digest of the request, so that the same text has the same vector, picture and tone.
"""

import base64
import hashlib
import math
import re
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from gproxy.errors import BadRequest
from gproxy.providers.demo_openai import inputs
from gproxy.providers.demo_talk import as_list, count, text_of, whole
from gproxy.providers.demo_wire import CREATED, Ask, DemoAnswer, json_answer, sse_answer

_DIMENSIONS = 256
_MOST_DIMENSIONS = 4096
_MOST_IMAGES = 10
_IMAGE_PIXELS = 32
_IMAGE_TOKENS = 64
_SPEECH_TOKENS = 10
_SAMPLE_RATE = 8000
_WORD = re.compile(r"[^\W_]+")
_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
_FLAGGED = {"kill": "violence", "murder": "violence", "attack": "violence", "hate": "hate", "bomb": "illicit"}


def vector(text: str, size: int) -> list[float]:
    """`size` numbers of length one together, always the same for the same text."""
    digest = hashlib.shake_256(text.encode()).digest(2 * size)
    raw = [n / 32768 + 1 / 65536 for n in struct.unpack(f"<{size}h", digest)]
    length = math.sqrt(sum(n * n for n in raw))
    return [n / length for n in raw]


def embeddings(ask: Ask) -> DemoAnswer:
    """`POST /v1/embeddings`. Raises BadRequest."""
    texts = inputs(ask.tree, "input")
    size = whole(ask.tree, "dimensions", high=_MOST_DIMENSIONS) or _DIMENSIONS
    packed = ask.tree.get("encoding_format") == "base64"
    data = []
    for number, (text, _) in enumerate(texts):
        values = vector(text, size)
        coded = base64.b64encode(struct.pack(f"<{size}f", *values)).decode() if packed else values
        data.append({"object": "embedding", "index": number, "embedding": coded})
    total = sum(tokens for _, tokens in texts)
    usage = {"prompt_tokens": total, "total_tokens": total}
    return json_answer({"object": "list", "data": data, "model": ask.model, "usage": usage})


def images_generations(ask: Ask) -> DemoAnswer:
    """`POST /v1/images/generations`: squares of a colour of the prompt's. Raises BadRequest."""
    prompt = ask.tree.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise BadRequest("'prompt' must be a non-empty string")
    wanted = whole(ask.tree, "n", high=_MOST_IMAGES) or 1
    as_url = ask.tree.get("response_format") == "url"
    data = []
    for number in range(wanted):
        coded = base64.b64encode(_png(hashlib.sha256(f"{number} {prompt}".encode()).digest()[:3])).decode()
        data.append({"url": f"data:image/png;base64,{coded}"} if as_url else {"b64_json": coded})
    read, made = count(prompt), wanted * _IMAGE_TOKENS
    usage = {
        "input_tokens": read,
        "output_tokens": made,
        "total_tokens": read + made,
        "input_tokens_details": {"text_tokens": read, "image_tokens": 0},
    }
    return json_answer({"created": CREATED, "data": data, "output_format": "png", "usage": usage})


def _png(colour: bytes) -> bytes:
    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", _IMAGE_PIXELS, _IMAGE_PIXELS, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + colour * _IMAGE_PIXELS) * _IMAGE_PIXELS, 9)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", pixels) + part(b"IEND", b"")


def moderations(ask: Ask) -> DemoAnswer:
    """`POST /v1/moderations`: flags a handful of words. Raises BadRequest."""
    said = ask.tree.get("input")
    parts = [text_of(item) for item in as_list(said)] if isinstance(said, list) else [text_of(said)]
    if not isinstance(said, str | list) or not parts:
        raise BadRequest("'input' must be a non-empty string or list")
    # A list of parts is one input in several pieces; a list of strings is as many inputs.
    if any(isinstance(item, Mapping) for item in as_list(said)):
        parts = ["\n".join(parts)]
    results = [_moderation(text) for text in parts]
    return json_answer({"id": f"modr-{ask.seed[:24]}", "model": ask.model, "results": results})


def _moderation(text: str) -> dict[str, Any]:
    found = {_FLAGGED[word] for word in _WORD.findall(text.lower()) if word in _FLAGGED}
    return {
        "flagged": bool(found),
        "categories": {name: name in found for name in _CATEGORIES},
        "category_scores": {name: 0.97 if name in found else 0.001 for name in _CATEGORIES},
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }


def audio_speech(ask: Ask) -> DemoAnswer:
    """`POST /v1/audio/speech`: a short tone, always WAV, whatever format was asked; events if they are asked for.

    Raises BadRequest.
    """
    text = ask.tree.get("input")
    if not isinstance(text, str) or not text:
        raise BadRequest("'input' must be a non-empty string")
    pitch = 220 + 20 * (int(ask.seed[:2], 16) % 16)
    samples = [int(8000 * math.sin(2 * math.pi * pitch * n / _SAMPLE_RATE)) for n in range(_SAMPLE_RATE // 2)]
    sound = struct.pack(f"<{len(samples)}h", *samples)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _SAMPLE_RATE, 2 * _SAMPLE_RATE, 2, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(sound)) + sound
    wav = struct.pack("<4sI", b"RIFF", len(body)) + body
    half = len(wav) // 2
    if not ask.stream:
        return DemoAnswer(200, "audio/wav", ((0.06, wav[:half]), (0.02, wav[half:])))
    events: list[tuple[float, object]] = [
        (delay, {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
        for delay, piece in ((0.06, wav[:half]), (0.02, wav[half:]))
    ]
    read = count(text)
    usage = {"input_tokens": read, "output_tokens": _SPEECH_TOKENS, "total_tokens": read + _SPEECH_TOKENS}
    return sse_answer([*events, (0.0, {"type": "speech.audio.done", "usage": usage})])


def rerank(ask: Ask) -> DemoAnswer:
    """`POST /v1/rerank`, in the shape Cohere and Jina share: by words in common. Raises BadRequest."""
    query, documents = ask.tree.get("query"), as_list(ask.tree.get("documents"))
    if not isinstance(query, str) or not query:
        raise BadRequest("'query' must be a non-empty string")
    if not documents or not all(isinstance(d, str | Mapping) for d in documents):
        raise BadRequest("'documents' must be a non-empty list of strings or objects with a 'text'")
    texts = [text_of(d) for d in documents]
    wanted = set(_WORD.findall(query.lower()))
    scores = [_likeness(wanted, text) for text in texts]
    order = sorted(range(len(texts)), key=lambda index: -scores[index])
    results = [
        {"index": i, "relevance_score": scores[i]}
        | ({"document": {"text": texts[i]}} if ask.tree.get("return_documents") is True else {})
        for i in order[: whole(ask.tree, "top_n") or len(order)]
    ]
    total = count(query, texts)
    return json_answer(
        {
            "id": f"rerank-{ask.seed[:24]}",
            "model": ask.model,
            "results": results,
            "usage": {"prompt_tokens": total, "total_tokens": total},
            "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": total}},
        }
    )


def _likeness(wanted: set[str], text: str) -> float:
    words = set(_WORD.findall(text.lower()))
    shared = len(wanted & words)
    return round(shared / (len(wanted | words) or 1), 6)
