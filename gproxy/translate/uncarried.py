"""What a target of another dialect cannot be told, for any request: found by writing one that asks for each thing.

What was lost of a request that was made is `exchange.py`'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate.base import Dialect, TargetFacts
from gproxy.translate.model import (
    Audio,
    Conversation,
    File,
    Format,
    Image,
    Part,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from gproxy.translate.registry import DIALECTS

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {},
    "required": [],
    "additionalProperties": False,
}
_TOOL = Tool("tool", "What it does.", _SCHEMA)


def _asking(*parts: Part, **fields: Any) -> Conversation:
    return Conversation(turns=(Turn("user", parts or (Text("Hello"),)),), **fields)


def _failed_call() -> Conversation:
    call, result = ToolCall("call_1", "tool", "{}"), ToolResult("call_1", (Text("no"),), is_error=True)
    turns = (Turn("user", (Text("Hello"),)), Turn("assistant", (call,)), Turn("tool", (result,)))
    return Conversation(turns=turns, tools=(_TOOL,))


_PROBES: Mapping[str, Conversation] = MappingProxyType(
    {
        "sound": _asking(Audio("UklGRg==", "wav")),
        "image_url": _asking(Image(url="https://a.example/b.png")),
        "detail": _asking(Image(data="aaaa", media_type="image/png", detail="low")),
        "file": _asking(File("aaaa", "application/pdf", name="a.pdf")),
        "file_url": _asking(File(url="https://a.example/b.pdf")),
        "json_object": _asking(format=Format()),
        "json_schema": _asking(format=Format(_SCHEMA, "answer", strict=True)),
        "json_schema beside tools": _asking(format=Format(_SCHEMA, "answer", strict=True), tools=(_TOOL,)),
        "tools.strict": _asking(tools=(Tool("tool", "", _SCHEMA, strict=True),)),
        "tool_result.is_error": _failed_call(),
        "parallel_tool_calls": _asking(tools=(_TOOL,), parallel_tools=False),
        "temperature": _asking(temperature=0.5),
        "top_p": _asking(top_p=0.5),
        "top_k": _asking(top_k=5),
        "stop": _asking(stop=("END",)),
        "seed": _asking(seed=7),
        "presence_penalty": _asking(presence_penalty=0.5),
        "frequency_penalty": _asking(frequency_penalty=0.5),
        "thinking": _asking(thinking=Thinking("high"), max_output=8000),
        "verbosity": _asking(verbosity="low"),
        "cache_control": _asking(Text("Hello", cache="5m")),
        "prompt_cache_key": _asking(cache_key="k"),
        "metadata": _asking(metadata={"a": "b"}),
        "user": _asking(user="u"),
    }
)
_MODELS = ("gpt-4.1", "gpt-5", "m", "claude-3-7-sonnet-latest", "gemini-2.0-flash", "gemini-3-pro")
"""Of each dialect some; what one of them can be told, a client of the dialect can say."""


@dataclass(frozen=True, slots=True)
class Uncarried:
    """By the words of `x-gproxy-untranslated`, in order: what is left out, and what is refused with 400."""

    lost: tuple[str, ...]
    refused: tuple[str, ...]


NOTHING = Uncarried((), ())
_OF_EMBEDDINGS = Uncarried(("user",), ("tokens in the place of texts",))


def uncarried(client: str, target: str, facts: TargetFacts) -> Uncarried:
    """What clients of the dialect `client` can say, and a target of the dialect `target` not be told.

    A client of `openai_embeddings`: what `embeddings.py` cannot carry.
    """
    if client not in DIALECTS:
        return _OF_EMBEDDINGS
    lost: set[str] = set()
    refused: list[str] = []
    for name in _sayable(client):
        found = _lost(DIALECTS[target], _PROBES[name], facts)
        if found is None:
            refused.append(name)
        elif name in found:
            lost.add(name)
    return Uncarried(tuple(sorted(lost)), tuple(sorted(refused)))


@lru_cache(maxsize=8)
def _sayable(dialect: str) -> Iterable[str]:
    """The names of the probes that a client of the dialect can say."""
    return tuple(name for name in _PROBES if any(_carries(dialect, name, model) for model in _MODELS))


def _carries(dialect: str, name: str, model: str) -> bool:
    """Whether the dialect has words for it, which it understands itself."""
    try:
        written = DIALECTS[dialect].write_request(_PROBES[name], TargetFacts(model=model))
    except BadRequest:
        return False
    return name not in written.lost and not DIALECTS[dialect].read_request(written.tree).lost


def _lost(dialect: Dialect, probe: Conversation, facts: TargetFacts) -> frozenset[str] | None:
    """What is left out of a request in the dialect; None if it is refused."""
    try:
        return dialect.write_request(probe, facts).lost
    except BadRequest:
        return None
