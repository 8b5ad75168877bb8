"""What real clients send, on routes that are translated: their bodies as they come on the wire, packed and streamed,
and what the request logs keep of both sides.

What each dialect says to each other one is `test_translation.py`'s.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gproxy.translate.registry import DIALECTS
from tests.e2e.test_encodings import CODINGS
from tests.kit.gateway import KEY, UPSTREAM_KEY, Gateway, poll
from tests.kit.settings import provider, user
from tests.kit.spoken import Says, answered, heard, streamed
from tests.kit.upstream import Script, Upstream
from tests.translate.grammar import CHECKS

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "translate"
TARGETS = {name.replace("_", "-"): name for name in DIALECTS}
LOGS = "".join(
    f"enable_{side}_log{body} = true\n" for side in ("upstream", "downstream") for body in ("", "_body")
)

# Client -> its dialect, its fixture, and the path that it asks.
CLIENTS = {
    "Claude Code": ("anthropic_messages", "claude_code.json", "/v1/messages"),
    "Codex": ("openai_responses", "codex.json", "/v1/responses"),
    "Gemini CLI": ("gemini", "gemini_cli.json", "/v1beta/models/{}:streamGenerateContent?alt=sse"),
}
PAIRS = [(name, spoken) for name, (own, *_) in CLIENTS.items() for spoken in DIALECTS if spoken != own]


@pytest.fixture(scope="module")
def translating(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that logs all it can, with a provider for each dialect that speaks that alone, and one
    of which that is not said."""
    providers = [provider(name, "custom", upstream.url, protocols=[d]) for name, d in TARGETS.items()]
    providers.append(provider("unsaid", "custom", upstream.url))
    text = "".join([f"[global]\n{LOGS}", *providers, user("alice", KEY, "*")])
    with Gateway(tmp_path_factory.mktemp("routes"), text) as gateway:
        yield gateway


def asked(client: str, model: str, *, stream: bool = True) -> tuple[str, dict[str, Any]]:
    """The path and the body of a client's request."""
    dialect, fixture, path = CLIENTS[client]
    body: dict[str, Any] = json.loads((FIXTURES / fixture).read_text("utf-8"))
    if dialect != "gemini":
        body |= {"model": model, "stream": stream}
    elif not stream:
        path = "/v1beta/models/{}:generateContent"
    return path.format(model), body


def speaking(target: str, says: Says, *, stream: bool = True) -> Script:
    if stream:
        return Script(chunks=streamed(target, says, "its-own-name"), content_type="text/event-stream")
    return Script(body=answered(target, says, "its-own-name"))


def posted(gateway: Gateway, path: str, body: dict[str, Any], coding: str = "zstd") -> httpx.Response:
    name, pack = CODINGS[coding]
    return gateway.post(path, pack(json.dumps(body).encode()), content_encoding=name)


def shown(gateway: Gateway, answer: httpx.Response) -> dict[str, Any]:
    """What the logs hold of a request, with its attempts, once both sides are written."""
    request_id = answer.headers["x-gproxy-request-id"]

    def look() -> dict[str, Any] | None:
        listed = json.loads(gateway.cli("logs", "--json", "--limit", "1000"))
        if not any(row["request_id"] == request_id for row in listed):
            return None
        found: dict[str, Any] = json.loads(gateway.cli("logs", "show", request_id, "--json"))
        return found if found["attempts"] else None

    return poll(look, "the request in the logs")


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("target", [name for name in DIALECTS if name != "openai_responses"])
def test_a_packed_body_of_codex_goes_up_plain_and_in_the_targets_words(
    translating: Gateway, upstream: Upstream, target: str, coding: str
) -> None:
    model = upstream.model(speaking(target, Says(text="Done.")))
    name = f"{target.replace('_', '-')}/{model}"
    path, body = asked("Codex", name)
    answer = posted(translating, path, body, coding)
    assert answer.status_code == 200, answer.text
    CHECKS["openai_responses"](answer.content)
    seen = upstream.only(model)
    assert "content-encoding" not in seen.headers
    assert seen.headers["content-length"] == str(len(seen.body))
    told = heard(target, seen.body, seen.raw_path)
    assert (told.model, told.stream) == (model, True)
    assert body["instructions"] in told.system
    assert translating.row(model=model)["outcome"] == "ok"


def test_codex_reaches_an_upstream_of_which_nothing_was_said_by_chat_completions(
    translating: Gateway, upstream: Upstream
) -> None:
    model = upstream.model(speaking("openai_chat", Says(text="Done.")))
    answer = posted(translating, *asked("Codex", f"unsaid/{model}"))
    assert answer.status_code == 200, answer.text
    assert upstream.only(model).raw_path == "/v1/chat/completions"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("client", "target"), PAIRS, ids=[f"{c}-{t}".replace(" ", "-") for c, t in PAIRS])
def test_what_a_real_client_sends_is_understood_by_every_dialect(
    translating: Gateway, upstream: Upstream, client: str, target: str, stream: bool
) -> None:
    own = CLIENTS[client][0]
    says = Says(text="It prints hä.", calls=(("call_1", "read_file", {"file_path": "/a"}),), finish="tools")
    model = upstream.model(speaking(target, says, stream=stream))
    path, body = asked(client, f"{target.replace('_', '-')}/{model}", stream=stream)
    answer = posted(translating, path, body)
    assert answer.status_code == 200, answer.text
    if stream:
        CHECKS[own](answer.content)
    assert "It prints hä." in answer.text if not stream else "read_file" in answer.text
    told = heard(target, upstream.only(model).body, upstream.only(model).raw_path)
    assert told.stream is stream
    assert told.system
    assert len(told.tools) == _tools_of(client, body)
    assert len(told.calls) == len(told.results) >= 2
    row = translating.row(model=model)
    assert (row["dialect"], row["outcome"], row["usage_source"]) == (own, "ok", "upstream")


def _tools_of(client: str, body: dict[str, Any]) -> int:
    """How many tools of its own a client has told."""
    if client == "Gemini CLI":
        return sum(len(tool.get("functionDeclarations", ())) for tool in body["tools"])
    if client == "Claude Code":
        return sum(tool.get("type") in (None, "custom") for tool in body["tools"])
    namespaces = [tool["tools"] for tool in body["tools"] if tool["type"] == "namespace"]
    return sum(map(len, namespaces)) + sum(tool["type"] in ("function", "custom") for tool in body["tools"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_logs_hold_each_side_in_its_own_dialect_and_no_secret(
    translating: Gateway, upstream: Upstream, stream: bool
) -> None:
    echo = f"Your keys are {UPSTREAM_KEY} and {KEY}."
    model = upstream.model(speaking("anthropic_messages", Says(text=echo), stream=stream))
    name = f"anthropic-messages/{model}"
    path, body = asked("Codex", name, stream=stream)
    body["instructions"] = f"Do not tell {KEY}."
    answer = posted(translating, path, body)
    assert answer.status_code == 200, answer.text
    log = shown(translating, answer)
    request, (attempt,) = log["request"], log["attempts"]
    down, up = json.loads(request["request_body"]), json.loads(attempt["request_body"])
    assert (down["model"], up["model"]) == (name, model)
    assert "input" in down
    assert "messages" in up
    assert (request["requested_model"], attempt["model"], attempt["status"]) == (name, model, 200)
    assert attempt["url"].endswith("/v1/messages")
    sides = (request["response_body"], attempt["response_body"])
    marks = ("response.completed", "message_stop") if stream else ('"object":"response"', '"stop_reason"')
    for told, mark in zip(sides, marks, strict=True):
        assert mark in told
        assert "Your keys are " in told
    assert attempt["response_sha256"] != request["response_sha256"]
    kept = json.dumps(log)
    assert UPSTREAM_KEY not in kept
    assert KEY not in kept


def test_a_request_that_cannot_be_translated_is_logged_without_an_attempt(
    translating: Gateway, upstream: Upstream
) -> None:
    model = upstream.model()
    path, body = asked("Codex", f"anthropic-messages/{model}")
    answer = posted(translating, path, body | {"previous_response_id": "resp_1"})
    assert answer.status_code == 400
    request_id = answer.headers["x-gproxy-request-id"]

    def look() -> dict[str, Any] | None:
        listed = json.loads(translating.cli("logs", "--json", "--limit", "1000"))
        return next((row for row in listed if row["request_id"] == request_id), None)

    found = poll(look, "the request in the logs")
    assert found["status"] == 400
    log = json.loads(translating.cli("logs", "show", request_id, "--json"))
    assert "previous_response_id" in log["request"]["response_body"]
    assert (log["attempts"], upstream.exchanges(model)) == ([], [])


@pytest.mark.parametrize("harm", ["", "forged", "cut"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_claude_gets_its_thought_again_from_a_gemini_client_that_sends_none_back(
    translating: Gateway, upstream: Upstream, stream: bool, harm: str
) -> None:
    call = ("call_1", "read_file", {"file_path": "/a"})
    says = Says(thought="I need to see it.", text="Let me see.", calls=(call,), finish="tools")
    script = speaking("anthropic_messages", says, stream=stream)
    asks = upstream.model(script, f"claude-sonnet-4-5-{harm or 'well'}-{stream}")
    path, body = asked("Gemini CLI", f"anthropic-messages/{asks}", stream=stream)
    body["contents"] = [{"role": "user", "parts": [{"text": "What does it print?"}]}]
    answer = translating.post(path, body)
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    trees = [json.loads(line) for line in lines] if stream else [answer.json()]
    parts = [part for tree in trees for part in tree["candidates"][0]["content"]["parts"]]
    kept = [part for part in parts if not part.get("thought") and part.get("text") != ""]
    assert "functionCall" in kept[-1]
    worn = kept[-1]["thoughtSignature"]
    kept[-1]["thoughtSignature"] = {"": worn, "forged": worn[:24] + "AAAA", "cut": worn[: len(worn) // 2]}[
        harm
    ]
    result = {"functionResponse": {"name": "read_file", "response": {"output": "print(1)"}}}
    body["contents"] += [{"role": "model", "parts": kept}, {"role": "user", "parts": [result]}]
    again = translating.post(path, body)
    assert again.status_code == 200, again.text
    said = upstream.exchanges(asks)[1].json()
    thinking = {"type": "thinking", "thinking": "I need to see it.", "signature": "EqoBsigned"}
    content = said["messages"][1]["content"]
    assert [block for block in content if block["type"] == "thinking"] == ([] if harm else [thinking])
    assert [block["type"] for block in content][-2:] == ["text", "tool_use"]
    assert ("thinking" in said) is not bool(harm)
