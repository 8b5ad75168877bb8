"""Every operation that gproxy serves, found by its path; and in whose shape a path without one is answered.

Authentication, methods and the provider in front of the path are the server's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from gproxy.errors import GatewayError
from gproxy.protocols import anthropic_messages, envelopes, gemini, models, passthrough
from gproxy.protocols.base import Protocol
from gproxy.protocols.models import ModelEntry
from gproxy.protocols.openai_chat import CHAT, COMPLETIONS
from gproxy.protocols.openai_embeddings import EMBEDDINGS
from gproxy.protocols.openai_responses import RESPONSES

PROTOCOLS: tuple[Protocol, ...] = (
    CHAT,
    COMPLETIONS,
    RESPONSES,
    EMBEDDINGS,
    passthrough.IMAGES,
    passthrough.MODERATIONS,
    passthrough.SPEECH,
    passthrough.RERANK,
    anthropic_messages.MESSAGES,
    anthropic_messages.COUNT_TOKENS,
    gemini.GENERATE,
    gemini.STREAM,
    gemini.COUNT_TOKENS,
    gemini.EMBED,
    gemini.BATCH_EMBED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How one dialect writes what belongs to no operation: errors, lists of models and single models.

    error_body   (error, request id) -> answer body
    """

    error_body: Callable[[GatewayError, str], bytes]
    model_list: Callable[[Sequence[ModelEntry]], bytes]
    model: Callable[[ModelEntry], bytes]


OPENAI = Shape(error_body=envelopes.openai_body, model_list=models.openai_list, model=models.openai_model)
ANTHROPIC = Shape(
    error_body=envelopes.anthropic_body, model_list=models.anthropic_list, model=models.anthropic_model
)
GEMINI = Shape(error_body=envelopes.gemini_body, model_list=models.gemini_list, model=models.gemini_model)

_FIXED = {path: p for p in PROTOCOLS for path in p.paths if "{model}" not in path}
_BY_ACTION = {tuple(path.split("{model}:")): p for p in PROTOCOLS for path in p.paths if "{model}" in path}
_MODEL_PREFIXES = sorted({prefix for prefix, _action in _BY_ACTION})
_BY_PREFIX = (
    ("/v1beta/", GEMINI),
    ("/v1/messages/", ANTHROPIC),
)


def match(path: str) -> tuple[Protocol, str | None] | None:
    """The operation at a path that was POSTed to, and the model in the path, percent-decoded once.

    `path` is raw, below `/` or `/{provider}`, without the query. None: there is no such operation.
    """
    found = _FIXED.get(path)
    if found is not None:
        return found, None
    for prefix in _MODEL_PREFIXES:
        if path.startswith(prefix):
            model, _, action = unquote(path[len(prefix) :]).rpartition(":")
            by_action = _BY_ACTION.get((prefix, action))
            return None if by_action is None else (by_action, model)
    return None


def shape_of(path: str, headers: Iterable[tuple[bytes, bytes]], query: str = "") -> Shape:
    """In whose shape a GET, or an error about a path, is answered.

    The path decides where it belongs to one dialect. Else a Gemini key (header, or `key` in the query, which
    is Gemini's way alone) means Gemini, `anthropic-version` Anthropic, and anything else OpenAI. Header names
    are lower case.
    """
    for prefix, shape in _BY_PREFIX:
        if f"{path}/".startswith(prefix):
            return shape
    if path in _FIXED:
        return OPENAI
    names = {name for name, _ in headers}
    if b"x-goog-api-key" in names or any(name == "key" for name, _ in parse_qsl(query)):
        return GEMINI
    return ANTHROPIC if b"anthropic-version" in names else OPENAI
