"""Every operation that the gateway serves, as data: how to ask for it and where its answer names the model.

Sending a call is the test's; what the upstream answers is `answers.py`'s.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MESSAGES = [{"role": "user", "content": 'Which "model": "are you"?'}]
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One operation of one dialect family (`openai`, `anthropic`, `gemini`) in one form, stream or not.

    `provider` and `alias` are those of `settings.everything` that speak it; `column` is the row's `dialect`,
    "" where the contract leaves it open. `names`: its answer names the model.
    """

    id: str
    family: str
    path: str
    body: Mapping[str, Any] = field(default_factory=dict)
    column: str = ""
    query: str = ""
    stream: bool = False
    names: bool = True

    @property
    def provider(self) -> str:
        return {"openai": "oa", "anthropic": "an", "gemini": "ge"}[self.family]

    @property
    def alias(self) -> str:
        return {"openai": "chat-default", "anthropic": "claude-default", "gemini": "gemini-default"}[
            self.family
        ]

    def url(self, name: str, scope: str = "") -> str:
        """Path and query for the client's model name, below `/{scope}` if one is given."""
        path = self.path.replace("{model}", name)
        return (f"/{scope}" if scope else "") + path + (f"?{self.query}" if self.query else "")

    def fields(self, name: str) -> dict[str, Any]:
        """The request body for the client's model name."""
        if self.family == "gemini":
            return dict(self.body)
        return {"model": name, **self.body}

    def names_in(self, answer: bytes) -> set[str]:
        """The models that an answer names at the positions where its dialect does so."""
        if not self.names:
            return set()
        found: set[str] = set()
        for tree in documents(answer, self.stream):
            inner = [tree, tree.get("response"), tree.get("message")]
            key = "modelVersion" if self.family == "gemini" else "model"
            found |= {part[key] for part in inner if isinstance(part, dict) and key in part}
        return found


def documents(answer: bytes, stream: bool) -> list[dict[str, Any]]:
    """The JSON objects of an answer: one body, the events of a stream, or the elements of an array."""
    text = answer.decode()
    if not stream:
        return [json.loads(text)]
    if text.startswith("["):
        elements: list[dict[str, Any]] = json.loads(text)
        return elements
    lines = re.findall(r"^data: ?(.*)$", text.replace("\r\n", "\n"), re.MULTILINE)
    return [json.loads(line) for line in lines if line.startswith("{")]


def _chat(id: str, **more: Any) -> Call:
    body = {"messages": MESSAGES, **more}
    stream = more.get("stream") is True
    return Call(
        id=id,
        family="openai",
        path="/v1/chat/completions",
        body=body,
        column="openai_chat",
        stream=stream,
    )


def _openai(id: str, path: str, body: Mapping[str, Any], **more: Any) -> Call:
    return Call(id=id, family="openai", path=path, body=body, **more)


def _anthropic(id: str, body: Mapping[str, Any], path: str = "/v1/messages", **more: Any) -> Call:
    return Call(id=id, family="anthropic", path=path, body=body, column="anthropic_messages", **more)


def _gemini(
    id: str, action: str, body: Mapping[str, Any] = CONTENTS, base: str = "/v1beta", **more: Any
) -> Call:
    path = f"{base}/models/{{model}}:{action}"
    return Call(id=id, family="gemini", path=path, body=body, column="gemini", **more)


TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"model": {"type": "string"}}}}
_EMBED = {"content": {"parts": [{"text": "Hello"}]}}
_ASK = {"max_tokens": 64, "messages": MESSAGES}

CALLS = [
    _chat("chat"),
    _chat("chat-tools", tools=[{"type": "function", "function": TOOL}]),
    _chat("chat-stream", stream=True),
    _chat("chat-stream-usage", stream=True, stream_options={"include_usage": True}),
    _chat("chat-stream-usage-false", stream=True, stream_options={"include_usage": False}),
    _openai("completions", "/v1/completions", {"prompt": "Once"}),
    _openai("completions-stream", "/v1/completions", {"prompt": "Once", "stream": True}, stream=True),
    _openai("responses", "/v1/responses", {"input": "Hello"}, column="openai_responses"),
    _openai(
        "responses-stream",
        "/v1/responses",
        {"input": "Hello", "stream": True},
        column="openai_responses",
        stream=True,
    ),
    _openai("embeddings", "/v1/embeddings", {"input": ["a", "b"]}, column="openai_embeddings"),
    _openai("images", "/v1/images/generations", {"prompt": "a cat"}, names=False),
    _openai("moderations", "/v1/moderations", {"input": "hi"}),
    _openai("speech", "/v1/audio/speech", {"input": "hi", "voice": "alloy"}, names=False),
    _openai("rerank", "/v1/rerank", {"query": "q", "documents": ["a", "b"]}),
    _anthropic("messages", _ASK),
    _anthropic("messages-beta", _ASK, query="beta=true"),
    _anthropic("messages-stream", _ASK | {"stream": True}, stream=True),
    _anthropic(
        "messages-stream-tools",
        _ASK | {"stream": True, "tools": [{"name": "weather", "input_schema": TOOL["parameters"]}]},
        stream=True,
    ),
    _anthropic("count_tokens", {"messages": MESSAGES}, "/v1/messages/count_tokens", names=False),
    _anthropic("count-tokens", {"messages": MESSAGES}, "/v1/messages/count-tokens", names=False),
    _gemini("generate", "generateContent"),
    _gemini("generate-v1", "generateContent", base="/v1"),
    _gemini("stream-sse", "streamGenerateContent", query="alt=sse", stream=True),
    _gemini("stream-array", "streamGenerateContent", stream=True),
    _gemini("gemini-count", "countTokens", names=False),
    _gemini("embed", "embedContent", _EMBED, names=False),
    _gemini("batch-embed", "batchEmbedContents", {"requests": [_EMBED]}, names=False),
]
"""One of each, to parametrise over."""

BY_ID = {call.id: call for call in CALLS}
