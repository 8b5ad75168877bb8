"""Lists of models and single models in the three dialects, written for clients and read from upstreams.

Which models a client may see is decided in `routing/`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from gproxy.errors import AnswerRefused
from gproxy.protocols.answers import reader

_PREFIX = "models/"
_UNKNOWN_TIME = "1970-01-01T00:00:00Z"
_GEMINI_ACTIONS = (
    "generateContent",
    "streamGenerateContent",
    "countTokens",
    "embedContent",
    "batchEmbedContents",
)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model as clients see it: `id` is what they send. An empty `display_name` shows the id."""

    id: str
    display_name: str = ""
    owned_by: str = ""


class _Page(msgspec.Struct):
    next_page_token: Any = msgspec.field(name="nextPageToken", default=None)
    has_more: Any = None
    last_id: Any = None


_page = reader(_Page)


def openai_list(entries: Sequence[ModelEntry]) -> bytes:
    return _dump({"object": "list", "data": [_openai(entry) for entry in entries]})


def openai_model(entry: ModelEntry) -> bytes:
    return _dump(_openai(entry))


def anthropic_list(entries: Sequence[ModelEntry]) -> bytes:
    return _dump(
        {
            "data": [_anthropic(entry) for entry in entries],
            "has_more": False,
            "first_id": entries[0].id if entries else None,
            "last_id": entries[-1].id if entries else None,
        }
    )


def anthropic_model(entry: ModelEntry) -> bytes:
    return _dump(_anthropic(entry))


def gemini_list(entries: Sequence[ModelEntry]) -> bytes:
    return _dump({"models": [_gemini(entry) for entry in entries]})


def gemini_model(entry: ModelEntry) -> bytes:
    return _dump(_gemini(entry))


def parse_model_list(raw: bytes) -> list[ModelEntry]:
    """The models in an upstream's list, whichever dialect it is in, in its order, each id once.

    Entries without a usable id are skipped. Raises AnswerRefused if `raw` is no list of models.
    """
    try:
        answer = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        raise AnswerRefused("the list of models is not JSON") from None
    if isinstance(answer, dict):
        answer = answer.get("data", answer.get("models"))
    # Some OpenAI compatibles answer with a bare array.
    if not isinstance(answer, list):
        raise AnswerRefused("the answer is not a list of models")
    found = (_entry(item) for item in answer if isinstance(item, dict))
    return list({entry.id: entry for entry in found if entry is not None}.values())


def next_page(raw: bytes, protocol_name: str) -> str:
    """The query parameter that asks for the page after `raw`; "" after the last, and in dialects without pages."""
    page = _page(raw)
    if page is None:
        return ""
    name, mark = {
        "gemini": ("pageToken", page.next_page_token),
        "anthropic_messages": ("after_id", page.last_id if page.has_more is True else None),
    }.get(protocol_name, ("", None))
    return urlencode({name: mark}) if isinstance(mark, str) and mark else ""


def _entry(item: Mapping[str, Any]) -> ModelEntry | None:
    name = item.get("id", item.get("name"))
    if not isinstance(name, str) or not name.isprintable():
        return None
    name = name.removeprefix(_PREFIX)
    if not name:
        return None
    return ModelEntry(
        name, _text(item.get("display_name", item.get("displayName"))), _text(item.get("owned_by"))
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _openai(entry: ModelEntry) -> dict[str, Any]:
    return {"id": entry.id, "object": "model", "created": 0, "owned_by": entry.owned_by}


def _anthropic(entry: ModelEntry) -> dict[str, Any]:
    return {
        "type": "model",
        "id": entry.id,
        "display_name": entry.display_name or entry.id,
        "created_at": _UNKNOWN_TIME,
    }


def _gemini(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": _PREFIX + entry.id,
        "baseModelId": entry.id,
        "version": "",
        "displayName": entry.display_name or entry.id,
        "supportedGenerationMethods": _GEMINI_ACTIONS,
    }


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
