"""An upstream's own error as a client gets it: in the caller's dialect, and with none of our secrets in it.

Which errors are passed on at all is decided in `routing/failover.py`.
"""

import json
import re
from typing import Any

from gproxy.config.scrub import Headers, Scrubber, known, secret_words
from gproxy.config.snapshot import Snapshot
from gproxy.errors import (
    BadRequest,
    BodyTooLarge,
    ContextTooLong,
    GatewayError,
    NotFound,
    RateLimited,
    Unavailable,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from gproxy.protocols.answers import json_of, mapping
from gproxy.protocols.complaint import complaint_of
from gproxy.server.request.edge import Call

_KINDS: dict[int, type[GatewayError]] = {
    400: BadRequest,
    404: NotFound,
    413: BodyTooLarge,
    422: BadRequest,
    429: RateLimited,
    503: Unavailable,
    504: UpstreamTimeout,
    529: UpstreamOverloaded,
}
_MAX_TOLD = 2000
_TOO_LONG = re.compile(
    "maximum context length|prompt is too long|exceeds the maximum number of tokens"
    "|exceeds? (?:the |its )?(?:model's )?context (?:window|length|limit|size)|longer than the model's context",
    re.IGNORECASE,
)
"""As OpenAI (and vLLM), Anthropic, OpenAI's Responses (and llama.cpp), SGLang and Gemini say it."""

_OURS_ALONE = frozenset({401, 403})


def scrubber(snapshot: Snapshot, sent: Headers) -> Scrubber:
    """What takes our secrets out of an upstream's answer: those of the configuration, and what was `sent` to it.

    That may be a token which was made for a service account.
    """
    return Scrubber(known(snapshot)).also(frozenset(secret_words(sent)))


def error_of(status: int, body: bytes, scrubber: Scrubber) -> GatewayError:
    """The upstream's error as one of ours. What it says of our own key (401, 403) is not repeated."""
    told = "" if status in _OURS_ALONE else scrubber.text(_message(body))[:_MAX_TOLD]
    kind = _KINDS.get(status, UpstreamFailed)
    codes = complaint_of(lambda _name: "", body, 0).codes
    if kind is BadRequest and ("context_length_exceeded" in codes or _TOO_LONG.search(told)):
        kind = ContextTooLong
    error = kind(told or f"The upstream reported an error ({status}).")
    if kind is not UpstreamFailed:
        error.status = status
    return error


def body_of(call: Call, status: int, body: bytes, request_id: str, scrubber: Scrubber) -> bytes:
    """The body to answer a refusal with: the upstream's if it has the dialect's shape, else its text in it."""
    error = error_of(status, body, scrubber)
    ours = call.protocol.error_body(error, request_id)
    tree = _tree(body)
    if not _same_shape(tree, json.loads(ours)):
        return ours
    scrubbed = _scrubbed(tree, scrubber)
    # A name that is given twice has a value in the bytes that is not in the tree.
    clean = scrubbed == json_of(body) and scrubber.data(body) == body
    return body if clean else json.dumps(scrubbed, ensure_ascii=False).encode()


def _tree(body: bytes) -> Any:
    tree = json_of(body)
    # Gemini's answer to a stream without `alt=sse` is an array, also when it is an error.
    return tree[0] if isinstance(tree, list) and len(tree) == 1 else tree


def _same_shape(theirs: Any, ours: dict[str, Any]) -> bool:
    """Whether an error is written in the dialect of ours: what tells them apart is where `type` and `status` are."""
    error = theirs.get("error") if isinstance(theirs, dict) else None
    return (
        isinstance(error, dict)
        and isinstance(error.get("message"), str)
        and "output" not in theirs  # else it is a whole response that has failed
        and ("type" in theirs) == ("type" in ours)
        and ("status" in error) == ("status" in ours["error"])
    )


def _message(body: bytes) -> str:
    tree = _tree(body)
    if tree is None:
        # A page of HTML, or bytes of another kind, are no message.
        return "" if b"<" in body[:200] else body.decode("utf-8", "ignore").strip()
    found = tree
    if isinstance(tree, dict):
        # An event of the Responses API has it one level down.
        found = tree.get("error") or mapping(tree.get("response")).get("error") or tree
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail") or found.get("msg")
    return found if isinstance(found, str) else json.dumps(tree, ensure_ascii=False)


def _scrubbed(value: Any, scrubber: Scrubber) -> Any:
    """A JSON value with the secrets taken out of its texts."""
    if isinstance(value, str):
        return scrubber.text(value)
    if isinstance(value, dict):
        return {scrubber.text(name): _scrubbed(member, scrubber) for name, member in value.items()}
    return [_scrubbed(member, scrubber) for member in value] if isinstance(value, list) else value
