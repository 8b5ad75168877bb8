"""The offline channel: answers every route, streams included, as a model would, from the request alone.

No clock, no chance, no network: the same request has the same answer. Waiting between the chunks is the
server's part. How each dialect looks is in the modules named `demo_…`.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from gproxy.errors import BadRequest
from gproxy.providers import demo_anthropic, demo_gemini, demo_media, demo_openai, demo_responses
from gproxy.providers.demo_wire import Ask, DemoAnswer, encode, json_answer

__all__ = ["MODELS", "OPERATIONS", "DemoAnswer", "respond"]

MODELS = ("echo-1", "echo-1-mini", "embed-1")
"""The models it lists. It answers to any name, and each of them on every route."""

_Operations = Mapping[str, Callable[[Ask], DemoAnswer]]

_OPENAI: _Operations = {
    "chat_completions": demo_openai.chat_completions,
    "completions": demo_openai.completions,
    "responses": demo_responses.responses,
    "embeddings": demo_media.embeddings,
    "images_generations": demo_media.images_generations,
    "moderations": demo_media.moderations,
    "audio_speech": demo_media.audio_speech,
    "rerank": demo_media.rerank,
}
_ANTHROPIC: _Operations = {
    "messages": demo_anthropic.messages,
    "count_tokens": demo_anthropic.count_tokens,
}
_GEMINI: _Operations = {
    "generateContent": demo_gemini.generate_content,
    "streamGenerateContent": demo_gemini.stream_generate_content,
    "countTokens": demo_gemini.count_tokens,
    "embedContent": demo_gemini.embed_content,
    "batchEmbedContents": demo_gemini.batch_embed_contents,
}
OPERATIONS: _Operations = {**_OPENAI, **_ANTHROPIC, **_GEMINI}
"""Every `Protocol.operation` and what answers it."""


def respond(operation: str, model: str, tree: Mapping[str, Any], *, stream: bool, sse: bool) -> DemoAnswer:
    """The answer to one request; a request that makes no sense is answered 400, in its dialect.

    `operation` is a `Protocol.operation`, `model` the upstream's id, `tree` the parsed body. `stream` and
    `sse` are as in `Facts`. Raises KeyError for an operation that no dialect has.
    """
    parts = [operation, model, tree, stream, sse]
    ask = Ask(operation, model, tree, stream, sse, hashlib.sha256(encode(parts)).hexdigest())
    try:
        return OPERATIONS[operation](ask)
    except BadRequest as error:
        return json_answer(_error(operation, error.message), status=error.status, delay=0.0)


def _error(operation: str, message: str) -> dict[str, Any]:
    if operation in _ANTHROPIC:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    if operation in _GEMINI:
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
