"""The contents of a client's generateContent request as turns.

What else stands in the request is read in `read.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import fields, ids, media
from gproxy.translate.arguments import text_of
from gproxy.translate.gemini import carriers, thoughts
from gproxy.translate.gemini.spelling import one, several
from gproxy.translate.model import Audio, File, Image, Part, Reasoning, Text, ToolCall, ToolResult, Turn

_USERS = frozenset({"user", "function", "tool"})
_OF_OWN_TOOLS = frozenset({"executableCode", "codeExecutionResult", "toolCall", "toolResponse"})
_BESIDE = frozenset({"videoMetadata", "mediaResolution", "partMetadata", "audioTranscription"})
_SOUNDS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}
_OF_GOOGLE = ("gs://", "https://generativelanguage.googleapis.com/")
_VIDEOS = ("youtube.com/", "youtu.be/")


def read_contents(contents: list[Mapping[str, Any]], lost: set[str]) -> tuple[Turn, ...]:
    """The contents as turns. Raises BadRequest."""
    found = _Contents(lost)
    for at, content in enumerate(contents):
        found.add(content, f"contents[{at}]")
    return tuple(found.turns)


def read_system(content: Mapping[str, Any], where: str) -> tuple[Text, ...]:
    """The instructions, which are text alone. Raises BadRequest."""
    texts: list[Text] = []
    for at, part in enumerate(several(content, "parts", where)):
        place = f"{where}.parts[{at}]"
        if part.get("text") is None:
            raise BadRequest(f"`{place}` must be a text.")
        texts.append(Text(fields.text(part, "text", place)))
    return tuple(texts)


class _Contents:
    """Reads one content after another: calls may have no ids, and are answered by name and in order."""

    def __init__(self, lost: set[str]) -> None:
        self.turns: list[Turn] = []
        self._lost = lost
        self._calls = 0
        self._asked: list[ToolCall] = []  # calls that have no result yet

    def add(self, content: Mapping[str, Any], where: str) -> None:
        role = fields.text(content, "role", where) or "user"
        parts = several(content, "parts", where)
        if role == "model":
            said: list[Part] = []
            if self.turns and self.turns[-1].role == "assistant":
                said += self.turns.pop().parts
            for at, part in enumerate(parts):
                found = list(self._said(part, f"{where}.parts[{at}]"))
                if any(isinstance(each, ToolCall) for each in found):
                    carriers.put_back(said, part.get("thoughtSignature") or "")
                said += found
            self.turns.append(Turn("assistant", tuple(thoughts.joined(said))))
        elif role in _USERS:
            given = [self._given(part, f"{where}.parts[{at}]") for at, part in enumerate(parts)]
            results = tuple(part for part in given if isinstance(part, ToolResult))
            others = tuple(part for part in given if not isinstance(part, ToolResult))
            if results:
                self.turns.append(Turn("tool", results))
            if others or not results:
                self.turns.append(Turn("user", others))
        else:
            raise fields.wrong("role", where, "user or model")

    def _said(self, part: Mapping[str, Any], where: str) -> Iterator[Part]:
        """What a part of the model's says."""
        kind = self._kind(part, where)
        signature = thoughts.from_client(fields.text(part, "thoughtSignature", where))
        if kind == "functionCall":
            call = one(part, kind, where)
            place = f"{where}.{kind}"
            self._calls += 1
            call_id = ids.original(fields.text(call, "id", place)) or f"call_{self._calls}"
            arguments = text_of(fields.an_object(call, "args", place))
            asked = ToolCall(call_id, fields.required(call, "name", place), arguments, signature)
            self._asked.append(asked)
            yield asked
        elif kind == "text":
            text = fields.text(part, "text", where)
            if fields.flag(part, "thought", where):
                yield Reasoning(text, signature)
                return
            if text:
                yield Text(text)
            if signature is not None:
                yield Reasoning("", signature, redacted=True)
        elif kind in _OF_OWN_TOOLS or kind in ("inlineData", "fileData"):
            self._lost.add(f"contents[].parts[].{kind}")
        else:
            raise BadRequest(f"`{where}` cannot be said by the model.")

    def _given(self, part: Mapping[str, Any], where: str) -> Part:
        """What a part of the user's says."""
        kind = self._kind(part, where)
        if kind == "text":
            return Text(fields.text(part, "text", where))
        if kind == "functionResponse":
            return self._result(one(part, kind, where), f"{where}.{kind}")
        if kind in ("inlineData", "fileData"):
            return _medium(part, where)
        raise BadRequest(f"`{where}` cannot be said by the user.")

    def _kind(self, part: Mapping[str, Any], where: str) -> str:
        names = {name for name, value in part.items() if value is not None}
        self._lost.update(f"contents[].parts[].{name}" for name in names & _BESIDE)
        kinds = names - _BESIDE - {"thought", "thoughtSignature"}
        if len(kinds) > 1 or (not kinds and not names):
            raise BadRequest(f"`{where}` must hold one kind of data.")
        return kinds.pop() if kinds else "text"

    def _result(self, found: Mapping[str, Any], where: str) -> ToolResult:
        name = fields.required(found, "name", where)
        call_id = ids.original(fields.text(found, "id", where))
        call = next((call for call in self._asked if call_id and call.id == call_id), None) or next(
            (call for call in self._asked if call.name == name), None
        )
        if call is None:
            raise BadRequest(f"`{where}` is the response of a function that was not called.")
        self._asked.remove(call)
        response = fields.an_object(found, "response", where)
        parts: list[Text | Image | File] = []
        told = next(iter(response.values())) if len(response) == 1 else None
        known = isinstance(told, str) and response.keys() <= {"output", "error"}
        text = str(told) if known else text_of(response)
        if response and text:
            parts.append(Text(text))
        for at, part in enumerate(several(found, "parts", where)):
            medium = _medium(part, f"{where}.parts[{at}]")
            if isinstance(medium, Audio):
                raise BadRequest(f"`{where}.parts[{at}]` cannot stand in the response of a function.")
            parts.append(medium)
        return ToolResult(call.id, tuple(parts), "error" in response and len(response) == 1)


def _medium(part: Mapping[str, Any], where: str) -> Image | File | Audio:
    if part.get("fileData") is not None:
        return _by_address(one(part, "fileData", where), f"{where}.fileData")
    blob = one(part, "inlineData", where)
    within = f"{where}.inlineData"
    data = thoughts.standard(fields.required(blob, "data", within))
    media_type = fields.required(blob, "mimeType", within).partition(";")[0].strip().lower()
    kind, _, detail = media_type.partition("/")
    if kind == "image":
        return Image(data, media_type)
    if kind == "audio":
        return Audio(data, _SOUNDS.get(detail, detail))
    if kind == "video":
        raise BadRequest(f"`{within}` is a video, which cannot be translated for this model's provider.")
    return File(data, media_type, name=fields.text(blob, "displayName", within))


def _by_address(given: Mapping[str, Any], where: str) -> Image | File:
    url = fields.required(given, "fileUri", where)
    media_type = fields.text(given, "mimeType", where).lower() or media.type_of(url)
    if url.startswith(_OF_GOOGLE) or not url.startswith(("https://", "http://")):
        raise media.of_another_account(f"{where}.fileUri")
    if media_type.startswith("image/"):
        return Image(url=url)
    if media_type.startswith(("video/", "audio/")) or any(site in url for site in _VIDEOS):
        raise BadRequest(f"`{where}` is a video or sound at an address, which cannot be translated.")
    return File(url=url, name=fields.text(given, "displayName", where))
