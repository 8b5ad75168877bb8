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

__all__ = ["MODELS", "DemoAnswer", "respond"]

MODELS = ("echo-1", "echo-1-mini", "embed-1")
"""The models it lists. It answers to any name, and each of them on every route."""

_OPERATIONS: Mapping[str, Callable[[Ask], DemoAnswer]] = {
    "chat_completions": demo_openai.chat_completions,
    "completions": demo_openai.completions,
    "responses": demo_responses.responses,
    "embeddings": demo_media.embeddings,
    "images_generations": demo_media.images_generations,
    "moderations": demo_media.moderations,
    "audio_speech": demo_media.audio_speech,
    "rerank": demo_media.rerank,
    "messages": demo_anthropic.messages,
    "count_tokens": demo_anthropic.count_tokens,
    "generate_content": demo_gemini.generate_content,
    "stream_generate_content": demo_gemini.stream_generate_content,
    "count_tokens_gemini": demo_gemini.count_tokens,
    "embed_content": demo_gemini.embed_content,
    "batch_embed_contents": demo_gemini.batch_embed_contents,
}
_ANTHROPIC = frozenset({"messages", "count_tokens"})
_GEMINI = frozenset(
    {
        "generate_content",
        "stream_generate_content",
        "count_tokens_gemini",
        "embed_content",
        "batch_embed_contents",
    }
)


def respond(operation: str, model: str, tree: Mapping[str, Any], *, stream: bool, sse: bool) -> DemoAnswer:
    """The answer to one request; a request that makes no sense is answered 400, in its dialect.

    `operation` is a `Protocol.operation`, `model` the upstream's id, `tree` the parsed body. `stream` and
    `sse` are as in `Facts`. Raises KeyError for an operation that no dialect has.
    """
    parts = [operation, model, tree, stream, sse]
    ask = Ask(operation, model, tree, stream, sse, hashlib.sha256(encode(parts)).hexdigest())
    try:
        return _OPERATIONS[operation](ask)
    except BadRequest as error:
        return json_answer(_error(operation, error.message), status=error.status, delay=0.0)


def _error(operation: str, message: str) -> dict[str, Any]:
    if operation in _ANTHROPIC:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    if operation in _GEMINI:
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
