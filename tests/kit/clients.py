"""One thing asked by the official client of each dialect, whole or streamed, and what that client understood.

What an upstream hears and says is `spoken.py`'s.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from anthropic import Anthropic
from google import genai
from google.genai import types
from openai import OpenAI

Call = tuple[str, str, dict[str, Any]]
"""Id, name and arguments of a tool call."""


@dataclass(frozen=True, kw_only=True)
class Wants:
    """What is asked. `image` is a PNG; `tools` are names of tools that take a city; `calls` and `results` were there
    before: results are texts, in the order of the calls. `seen` is called for each event of a stream."""

    text: str = "Hello"
    system: str = ""
    image: bytes = b""
    tools: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    results: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    thinks: bool = False
    seen: Callable[[], object] = lambda: None

    def watching(self, events: Iterable[Any]) -> Iterator[Any]:
        for event in events:
            self.seen()
            yield event


@dataclass(kw_only=True)
class Got:
    """What the client understood. `inside` counts the `cached` tokens, `outside` those of reasoning."""

    model: str = ""
    text: str = ""
    thought: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str = ""
    inside: int = 0
    outside: int = 0
    cached: int = 0


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def ask(dialect: str, url: str, key: str, model: str, wants: Wants, *, stream: bool) -> Got:
    """The answer. Raises what the client raises."""
    return _ASK[dialect](url, key, model, wants, stream)


# The clients themselves: one for all that is asked at an address, since to make one takes longer than to ask.


@cache
def _openai(url: str, key: str) -> OpenAI:
    return OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0)


@cache
def _anthropic(url: str, key: str) -> Anthropic:
    return Anthropic(api_key=key, base_url=url, max_retries=0, timeout=60)


@cache
def _google(url: str, key: str) -> genai.Client:
    options = types.HttpOptions(base_url=url, retry_options=types.HttpRetryOptions(attempts=1))
    return genai.Client(api_key=key, vertexai=False, http_options=options)


# Chat completions.

_CHAT_FINISH = {"tool_calls": "tools", "content_filter": "refused"}


def _chat_messages(wants: Wants) -> list[dict[str, Any]]:
    content: Any = wants.text
    if wants.image:
        url = f"data:image/png;base64,{base64.b64encode(wants.image).decode()}"
        content = [{"type": "text", "text": wants.text}, {"type": "image_url", "image_url": {"url": url}}]
    messages: list[dict[str, Any]] = []
    if wants.system:
        messages.append({"role": "system", "content": wants.system})
    messages.append({"role": "user", "content": content})
    if wants.calls:
        calls = [
            {"id": i, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
            for i, name, given in wants.calls
        ]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        for (i, _, _), result in zip(wants.calls, wants.results, strict=True):
            messages.append({"role": "tool", "tool_call_id": i, "content": result})
    return messages


def _ask_chat(url: str, key: str, model: str, wants: Wants, stream: bool) -> Got:
    body: dict[str, Any] = {"model": model, "messages": _chat_messages(wants)}
    if wants.tools:
        body["tools"] = [
            {"type": "function", "function": {"name": name, "parameters": CITY}} for name in wants.tools
        ]
    if wants.schema is not None:
        wanted = {"name": "answer", "schema": wants.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": wanted}
    if wants.thinks:
        body |= {"reasoning_effort": "high", "max_completion_tokens": 32000}
    asking = _openai(url, key).chat.completions
    if not stream:
        return _chat_whole(asking.create(**body))
    chunks = asking.create(**body, stream=True, stream_options={"include_usage": True})
    return _chat_stream(wants.watching(chunks))


def _chat_whole(answer: Any) -> Got:
    (choice,) = answer.choices
    message = choice.message
    out = Got(model=answer.model, text=message.content or "")
    out.thought = getattr(message, "reasoning_content", None) or ""
    out.calls = [(c.id, c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or ()]
    out.finish = _CHAT_FINISH.get(choice.finish_reason, choice.finish_reason)
    _chat_usage(out, answer.usage)
    return out


def _chat_usage(out: Got, usage: Any) -> None:
    details = usage.prompt_tokens_details
    out.inside, out.outside = usage.prompt_tokens, usage.completion_tokens
    out.cached = (details.cached_tokens if details else 0) or 0


def _chat_stream(chunks: Iterable[Any]) -> Got:
    out = Got()
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        out.model = chunk.model
        if chunk.usage:
            _chat_usage(out, chunk.usage)
        for choice in chunk.choices:
            out.text += choice.delta.content or ""
            out.thought += getattr(choice.delta, "reasoning_content", None) or ""
            for piece in choice.delta.tool_calls or ():
                call = calls.setdefault(piece.index, ["", "", ""])
                call[0] += piece.id or ""
                call[1] += piece.function.name or ""
                call[2] += piece.function.arguments or ""
            if choice.finish_reason:
                out.finish = _CHAT_FINISH.get(choice.finish_reason, choice.finish_reason)
    out.calls = [(i, name, json.loads(given)) for i, name, given in calls.values()]
    return out


# Responses.


def _ask_responses(url: str, key: str, model: str, wants: Wants, stream: bool) -> Got:
    content: list[dict[str, Any]] = [{"type": "input_text", "text": wants.text}]
    if wants.image:
        data = base64.b64encode(wants.image).decode()
        content.append({"type": "input_image", "image_url": f"data:image/png;base64,{data}"})
    items: list[dict[str, Any]] = [{"role": "user", "content": content}]
    for i, name, given in wants.calls:
        items.append({"type": "function_call", "call_id": i, "name": name, "arguments": json.dumps(given)})
    for (i, _, _), result in zip(wants.calls, wants.results, strict=True):
        items.append({"type": "function_call_output", "call_id": i, "output": result})
    body: dict[str, Any] = {"model": model, "input": items}
    if wants.system:
        body["instructions"] = wants.system
    if wants.tools:
        body["tools"] = [
            {"type": "function", "name": n, "parameters": CITY, "strict": None} for n in wants.tools
        ]
    if wants.schema is not None:
        wanted = {"type": "json_schema", "name": "answer", "schema": wants.schema, "strict": True}
        body["text"] = {"format": wanted}
    if wants.thinks:
        body |= {"reasoning": {"effort": "high", "summary": "auto"}, "max_output_tokens": 32000}
    asking = _openai(url, key).responses
    if not stream:
        return _response(asking.create(**body))
    return _response_stream(wants.watching(asking.create(**body, stream=True)))


def _response(answer: Any) -> Got:
    out = Got(model=answer.model, text=answer.output_text)
    for item in answer.output:
        if item.type == "reasoning":
            out.thought += "".join(part.text for part in item.summary)
        elif item.type == "function_call":
            out.calls.append((item.call_id, item.name, json.loads(item.arguments)))
    reason = answer.incomplete_details.reason if answer.incomplete_details else None
    out.finish = {"max_output_tokens": "length", "content_filter": "refused"}.get(
        reason or "", "tools" if out.calls else "stop"
    )
    out.inside, out.outside = answer.usage.input_tokens, answer.usage.output_tokens
    out.cached = answer.usage.input_tokens_details.cached_tokens
    return out


def _response_stream(events: Iterable[Any]) -> Got:
    text, last = "", None
    for event in events:
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type in ("response.completed", "response.incomplete"):
            last = event.response
    assert last is not None, "the stream has no end"
    out = _response(last)
    assert out.text == text, "what was streamed is not what the end says"
    return out


# Messages.

_MESSAGES_FINISH = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tools", "refusal": "refused"}


def _ask_messages(url: str, key: str, model: str, wants: Wants, stream: bool) -> Got:
    content: list[dict[str, Any]] = [{"type": "text", "text": wants.text}]
    if wants.image:
        data = base64.b64encode(wants.image).decode()
        content.insert(
            0, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
        )
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if wants.calls:
        used = [{"type": "tool_use", "id": i, "name": name, "input": given} for i, name, given in wants.calls]
        results = [
            {"type": "tool_result", "tool_use_id": i, "content": result}
            for (i, _, _), result in zip(wants.calls, wants.results, strict=True)
        ]
        messages += [{"role": "assistant", "content": used}, {"role": "user", "content": results}]
    body: dict[str, Any] = {"model": model, "max_tokens": 1024, "messages": messages}
    if wants.system:
        body["system"] = wants.system
    if wants.tools:
        body["tools"] = [{"name": name, "input_schema": CITY} for name in wants.tools]
    if wants.schema is not None:
        body["extra_body"] = {"output_config": {"format": {"type": "json_schema", "schema": wants.schema}}}
    if wants.thinks:
        body |= {"max_tokens": 20000, "thinking": {"type": "enabled", "budget_tokens": 10000}}
    asking = _anthropic(url, key).messages
    if not stream:
        return _message(asking.create(**body))
    with asking.stream(**body) as events:
        for _ in wants.watching(events):
            pass
        return _message(events.get_final_message())


def _message(answer: Any) -> Got:
    out = Got(model=answer.model, finish=_MESSAGES_FINISH.get(answer.stop_reason, answer.stop_reason))
    for block in answer.content:
        if block.type == "text":
            out.text += block.text
        elif block.type == "thinking":
            out.thought += block.thinking
        elif block.type == "tool_use":
            out.calls.append((block.id, block.name, block.input))
    out.cached = answer.usage.cache_read_input_tokens or 0
    out.inside = answer.usage.input_tokens + out.cached
    out.outside = answer.usage.output_tokens
    return out


# Gemini.

_GEMINI_FINISH = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "refused"}


def _ask_gemini(url: str, key: str, model: str, wants: Wants, stream: bool) -> Got:
    parts = [types.Part(text=wants.text)]
    if wants.image:
        parts.append(types.Part.from_bytes(data=wants.image, mime_type="image/png"))
    contents = [types.Content(role="user", parts=parts)]
    if wants.calls:
        used = [types.Part.from_function_call(name=name, args=given) for _, name, given in wants.calls]
        results = [
            types.Part.from_function_response(name=name, response={"output": result})
            for (_, name, _), result in zip(wants.calls, wants.results, strict=True)
        ]
        contents += [types.Content(role="model", parts=used), types.Content(role="user", parts=results)]
    config = types.GenerateContentConfig(
        system_instruction=wants.system or None,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    if wants.tools:
        declared = [types.FunctionDeclaration(name=n, parameters_json_schema=CITY) for n in wants.tools]
        config.tools = [types.Tool(function_declarations=declared)]
    if wants.schema is not None:
        config.response_mime_type, config.response_json_schema = "application/json", wants.schema
    if wants.thinks:
        config.thinking_config = types.ThinkingConfig(thinking_budget=10000, include_thoughts=True)
        config.max_output_tokens = 32000
    asked: dict[str, Any] = {"model": f"models/{model}", "contents": contents, "config": config}
    asking = _google(url, key).models
    if not stream:
        return _gemini([asking.generate_content(**asked)])
    return _gemini(wants.watching(asking.generate_content_stream(**asked)))


def _gemini(answers: Iterable[Any]) -> Got:
    out = Got()
    for answer in answers:
        out.model = answer.model_version
        (candidate,) = answer.candidates
        for part in (candidate.content.parts if candidate.content else None) or ():
            if part.function_call:
                call = part.function_call
                out.calls.append((call.id or call.name, call.name, call.args))
            elif part.thought:
                out.thought += part.text
            else:
                out.text += part.text or ""
        if candidate.finish_reason:
            out.finish = _GEMINI_FINISH.get(candidate.finish_reason.value, candidate.finish_reason.value)
        if usage := answer.usage_metadata:
            out.inside = usage.prompt_token_count or 0
            out.outside = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
            out.cached = usage.cached_content_token_count or 0
    if out.finish == "stop" and out.calls:
        out.finish = "tools"
    return out


_ASK: dict[str, Callable[[str, str, str, Wants, bool], Got]] = {
    "openai_chat": _ask_chat,
    "openai_responses": _ask_responses,
    "anthropic_messages": _ask_messages,
    "gemini": _ask_gemini,
}
