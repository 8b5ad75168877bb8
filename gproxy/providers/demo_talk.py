"""What the offline model has understood and what it says to it, in one form for every dialect.

How a dialect asks and answers is in `demo_openai.py`, `demo_responses.py`, `demo_anthropic.py` and
`demo_gemini.py`. There is no chance and no clock here: the same prompt has the same reply.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gproxy.errors import BadRequest

_PIECE = re.compile(r"\s*\S{1,5}|\s+")
_WORD = re.compile(r"[^\W_]+")
_QUOTED_CHARS = 240
_SCHEMA_DEPTH = 8
_SCHEMA_VALUES = 200
_NO_TEXT = frozenset(
    {"type", "role", "id", "call_id", "tool_call_id", "tool_use_id", "status", "signature"}
    | {"data", "url", "image_url", "file_data", "inlineData", "inline_data"}
)
_FIRST_PIECE_S = 0.06


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the request offers; `schema` is the JSON Schema of its arguments."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A request, whatever its dialect.

    `question` is the text of the last user's turn, `result` that of a tool if the conversation ends with one.
    `forced`: a tool must be called: "*" any, else that one. `shape`: the JSON Schema that the text must have.
    `tokens` is the input counted, `limit` the output tokens allowed.
    """

    question: str
    tokens: int
    tools: Sequence[Tool] = ()
    result: str | None = None
    forced: str | None = None
    shape: Mapping[str, Any] | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is said: `text`, or a call of `tool` with `arguments` (JSON text). `cut`: the limit was met."""

    text: str = ""
    tool: str | None = None
    arguments: str = ""
    cut: bool = False
    input_tokens: int
    output_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def reply_to(prompt: Prompt, model: str) -> Reply:
    """The model's answer: a tool call if one is asked for, JSON if a shape is, else a friendly sentence."""
    tool = _tool_wanted(prompt)
    if tool is not None:
        values = as_map(example(tool.schema, _last_word(prompt.question)))
        arguments = json.dumps(values, ensure_ascii=False)
        count = tokens(tool.name) + tokens(arguments)
        return Reply(tool=tool.name, arguments=arguments, input_tokens=prompt.tokens, output_tokens=count)
    text = _sentence(prompt, model)
    room = len(text) if prompt.limit is None else 4 * prompt.limit
    said = text[:room]
    return Reply(
        text=said, cut=room < len(text), input_tokens=prompt.tokens, output_tokens=max(1, tokens(said))
    )


def _tool_wanted(prompt: Prompt) -> Tool | None:
    if prompt.result is not None or not prompt.tools or prompt.forced == "":
        return None
    if prompt.forced is not None:
        return next((t for t in prompt.tools if t.name == prompt.forced), prompt.tools[0])
    said = {word.lower() for word in _WORD.findall(prompt.question)}
    for tool in prompt.tools:
        if said & {word.lower() for word in _WORD.findall(tool.name) if len(word) > 3}:
            return tool
    return prompt.tools[0] if said & {"tool", "tools"} else None


def _sentence(prompt: Prompt, model: str) -> str:
    if prompt.shape is not None:
        return json.dumps(example(prompt.shape, _last_word(prompt.question)), ensure_ascii=False)
    if prompt.result is not None:
        return f'The tool says "{_clip(prompt.result)}" and {model}, the offline demo, has nothing to add.'
    if not prompt.question:
        return f"Hello, this is {model}, the offline demo of gproxy. Ask me something."
    return (
        f'You asked "{_clip(prompt.question)}" and {model}, the offline demo of gproxy, heard you. '
        "Add a provider of your own for an answer that knows more."
    )


def _clip(text: str) -> str:
    line = " ".join(text[: 2 * _QUOTED_CHARS].split())
    return line if len(line) <= _QUOTED_CHARS else line[: _QUOTED_CHARS - 1] + "…"


def _last_word(text: str) -> str:
    words = _WORD.findall(text)
    return words[-1] if words else "demo"


def example(schema: Any, word: str) -> Any:
    """A value that fits a JSON Schema of common make; strings without a rule of their own are `word`."""
    return _Examples(as_map(schema), word).of(schema, _SCHEMA_DEPTH)


class _Examples:
    """Examples after one schema. A schema that refers to itself ends at a depth and at a number of values."""

    def __init__(self, root: Mapping[str, Any], word: str) -> None:
        self._root = root
        self._word = word
        self._left = _SCHEMA_VALUES

    def of(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, Mapping) or depth == 0 or self._left < 0:
            return None
        if isinstance(ref := schema.get("$ref"), str):
            return self.of(self._resolve(ref), depth - 1)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("enum", "examples"):
            if items := as_list(schema.get(key)):
                return items[0]
        for key in ("anyOf", "oneOf", "allOf"):
            if items := as_list(schema.get(key)):
                return self.of(items[0], depth - 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kinds = [k.lower() for k in as_list(schema.get("type")) or [schema.get("type")] if isinstance(k, str)]
        kind = next((k for k in kinds if k != "null"), "object" if "properties" in schema else "string")
        if kind == "object":
            fields = as_map(schema.get("properties"))
            return {name: self.of(fields[name], depth - 1) for name in fields}
        if kind == "array":
            return [self.of(schema.get("items", {"type": "string"}), depth - 1)]
        if kind in ("integer", "number"):
            low = schema.get("minimum")
            return low if isinstance(low, int | float) else 1
        return True if kind == "boolean" else self._word

    def _resolve(self, ref: str) -> Any:
        node: Any = self._root
        for step in ref.removeprefix("#").strip("/").split("/"):
            node = as_map(node).get(step)
        return node


def tokens(text: str) -> int:
    """Four characters to a token, rounded up."""
    return -(-len(text) // 4)


def count(*nodes: Any) -> int:
    """Input tokens of parts of a request, at least one: all their text, but no ids, pictures or files."""
    return max(1, -(-sum(len(text) for text in _texts(list(nodes))) // 4))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _texts(item)
    elif isinstance(node, Mapping):
        for name, value in node.items():
            if name not in _NO_TEXT:
                yield from _texts(value)


def text_of(content: Any) -> str:
    """The plain text of a message's content, of its parts, or of what a tool gave back."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(text for text in map(text_of, content) if text)
    if isinstance(content, Mapping):
        return next((text_of(content[k]) for k in ("text", "content", "parts", "output") if k in content), "")
    return ""


def pieces(text: str) -> list[str]:
    """`text` as a model would stream it: bits of up to five letters, each with the space before it."""
    return _PIECE.findall(text)


def paced(bits: Iterable[str]) -> Iterator[tuple[float, str]]:
    """Each bit with the seconds to wait before it: 60 ms for the first, then 20 to 30 ms."""
    for number, bit in enumerate(bits):
        yield (_FIRST_PIECE_S if number == 0 else 0.02 + len(bit) % 3 * 0.005), bit


def as_list(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_map(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def objects(tree: Mapping[str, Any], name: str, *, required: bool = False) -> list[Mapping[str, Any]]:
    """The list of objects `tree[name]`; absent or null is empty, unless `required`. Raises BadRequest."""
    value = tree.get(name)
    if value is None and not required:
        return []
    if not isinstance(value, list) or (required and not value):
        raise BadRequest(f"'{name}' must be {'a non-empty list' if required else 'a list'} of objects")
    if not all(isinstance(item, Mapping) for item in value):
        raise BadRequest(f"'{name}' must hold objects only")
    return value


def latest(
    items: Sequence[Mapping[str, Any]], fits: Callable[[Mapping[str, Any]], bool]
) -> Mapping[str, Any]:
    """The last of `items` that fits, an empty one if none does."""
    return next((item for item in reversed(items) if fits(item)), {})


def whole(tree: Mapping[str, Any], name: str, low: int = 1, high: int | None = None) -> int | None:
    """The whole number `tree[name]`, None if it is absent or null. Raises BadRequest for any other value."""
    value = tree.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high and value > high):
        span = f"from {low} to {high}" if high else f"of at least {low}"
        raise BadRequest(f"'{name}' must be a whole number {span}")
    return value
