"""OpenAI's images, moderations and speech, and rerank as its compatibles have it: little of them is read.

Their bodies are JSON with a `model`; uploads (multipart) are not served.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import structs

from gproxy.protocols.answers import (
    as_received,
    mapping,
    merged,
    never,
    reader,
    reported_cost,
    tokens,
    unreported,
)
from gproxy.protocols.base import Body, Event, Facts, Protocol
from gproxy.protocols.openai_chat import CHAT, is_done
from gproxy.protocols.requests import read_plain, with_model
from gproxy.values import Usage

_CARRIED_BY = frozenset({"openai_chat", "openai_responses", "openai_embeddings"})


class _Answer(msgspec.Struct):
    type: Any = None
    usage: Any = None


_answer = reader(_Answer)


def usage_of(fields: object) -> Usage | None:
    """A `usage` object in either of OpenAI's spellings, or with a total alone, which then is input."""
    if not isinstance(fields, dict):
        return None
    read_tokens = tokens(fields.get("input_tokens", fields.get("prompt_tokens")))
    written = tokens(fields.get("output_tokens", fields.get("completion_tokens")))
    if read_tokens is None and written is None:
        read_tokens = tokens(fields.get("total_tokens"))
    details = mapping(fields.get("input_tokens_details"))
    return Usage(
        input_tokens=read_tokens,
        output_tokens=written,
        cache_read_tokens=tokens(details.get("cached_tokens")),
        input_image_tokens=tokens(details.get("image_tokens")),
        output_image_tokens=tokens(mapping(fields.get("output_tokens_details")).get("image_tokens")),
        cost_nano=reported_cost(fields),
    )


def usage_in_body(answer: bytes) -> Usage | None:
    found = _answer(answer)
    return None if found is None else usage_of(found.usage)


def usage_of_images(answer: bytes) -> Usage | None:
    """Whose output is images, unless the answer says how much of it is."""
    usage = usage_in_body(answer)
    if usage is None or usage.output_image_tokens is not None:
        return usage
    return structs.replace(usage, output_image_tokens=usage.output_tokens)


def usage_of_speech(answer: bytes) -> Usage | None:
    """Whose output is audio."""
    usage = usage_in_body(answer)
    return None if usage is None else structs.replace(usage, output_audio_tokens=usage.output_tokens)


def _in_event(usage_in: Callable[[bytes], Usage | None]) -> Callable[[Event, Usage | None], Usage | None]:
    def usage_in_event(event: Event, before: Usage | None) -> Usage | None:
        return before if event.data is None else merged(before, usage_in(event.data))

    return usage_in_event


def is_complete(event: Event) -> bool:
    return _kind(event).endswith(".completed")


def is_last_of_speech(event: Event) -> bool:
    """Speech has its own end and, from OpenAI, no `[DONE]` after it."""
    return _kind(event) == "speech.audio.done" or is_done(event)


def _kind(event: Event) -> str:
    found = _answer(event.data)
    return found.type if found is not None and isinstance(found.type, str) else ""


def read_speech(body: Body, path_model: str | None, query: str) -> Facts:
    """Speech streams when it is asked for in its own way."""
    return structs.replace(
        read_plain(body, path_model, query), stream=body.tree.get("stream_format") == "sse"
    )


def _operation(name: str, operation: str, path: str) -> Protocol:
    return replace(
        CHAT,
        name=name,
        operation=operation,
        paths=(path,),
        carried_by=_CARRIED_BY,
        read=read_plain,
        with_model=with_model,
        upstream_path=lambda _model, _query: path,
        usage_in_body=usage_in_body,
        usage_in_event=_in_event(usage_in_body),
        is_usage_only=never,
        is_complete=is_complete,
        output_text=lambda _event: 0,
        varying=None,
        estimable=False,
    )


IMAGES = replace(
    _operation("openai_images", "images_generations", "/v1/images/generations"),
    usage_in_body=usage_of_images,
    usage_in_event=_in_event(usage_of_images),
)
MODERATIONS = replace(_operation("openai_moderations", "moderations", "/v1/moderations"), metered=False)
RERANK = replace(_operation("openai_rerank", "rerank", "/v1/rerank"), estimable=True, generates=False)
SPEECH = replace(
    _operation("openai_speech", "audio_speech", "/v1/audio/speech"),
    binary=True,
    read=read_speech,
    usage_in_body=unreported,
    usage_in_event=_in_event(usage_of_speech),
    restore_body=as_received,
    is_terminal=is_last_of_speech,
    is_complete=is_last_of_speech,
)
