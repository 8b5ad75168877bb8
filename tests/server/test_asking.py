"""What one attempt sends: where, by which key, and which of the client's headers go along."""

import json
from base64 import b64encode

from gproxy.protocols import anthropic_messages, gemini, openai_responses
from gproxy.server.asking import attempt, carrier, proxy
from gproxy.server.crossing import cross
from gproxy.server.edge import Call
from gproxy.server.tokens import Access
from gproxy.server.upstream import Attempt
from gproxy.values import Target
from tests.server.parts import ALICE, Headers, call, provider, snapshot

UP = Target("up", "target")
SENT: Headers = [
    (b"user-agent", b"a client"),
    (b"anthropic-beta", b"x"),
    (b"anthropic-version", b"2024-01-01"),
    (b"x-stainless-os", b"y"),
    (b"x-gproxy-via", b"another"),
]
BODY = b'{"model": "alias",  "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}'


def asked(*protocols: str, more: str = "") -> Call:
    here = snapshot(provider("http://x", more=more, protocols=protocols) + ALICE)
    return call(here, BODY, anthropic_messages.MESSAGES, headers=SENT)


def sent(attempt: Attempt) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in attempt.headers}


def test_the_clients_own_request_goes_up_with_its_own_headers() -> None:
    given = asked("anthropic_messages")
    it = attempt(given, UP, Access("sk-up"), True, None, None, "me")
    assert (carrier(given, UP), it.url) == ("anthropic_messages", "http://x/v1/messages")
    assert it.body == BODY.replace(b'"alias"', b'"target"')
    headers = sent(it)
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-up", "2024-01-01")
    assert (headers["anthropic-beta"], headers["x-stainless-os"]) == ("x", "y")
    assert headers["x-gproxy-via"] == "another, me"


async def test_a_translated_request_goes_to_the_targets_path_without_the_clients_dialect() -> None:
    given = asked("openai_chat")
    assert carrier(given, UP) == ""
    it = attempt(given, UP, Access("sk-up"), True, await cross(given, UP, True), None, "me")
    assert it.url == "http://x/v1/chat/completions"
    assert json.loads(it.body)["model"] == "target"
    assert sent(it) == {
        "user-agent": "a client",
        "accept-encoding": "identity",
        "authorization": "Bearer sk-up",
        "content-type": "application/json",
        "x-gproxy-via": "another, me",
    }


AZURE = (
    '[[providers]]\nname = "up"\nchannel = "azure-openai"\ncredentials = [{ api_key = "sk-azure-secret" }]\n'
    'settings = { base_url = "https://r.openai.azure.com/openai/deployments/X" }\n'
)


async def test_a_deployment_in_the_address_is_named_in_the_body_where_no_path_does() -> None:
    here = snapshot(AZURE + ALICE)
    responses = call(here, b'{"model": "alias", "input": "Hi"}', openai_responses.RESPONSES)
    it = attempt(responses, UP, Access("sk-up"), True, None, None, "me")
    assert (it.url, json.loads(it.body)["model"]) == ("https://r.openai.azure.com/openai/v1/responses", "X")
    messages = call(here, BODY, anthropic_messages.MESSAGES)
    crossed = await cross(messages, UP, True)
    assert json.loads(crossed.body)["model"] == "X"


def test_a_providers_own_headers_and_proxy_are_used() -> None:
    given = asked("anthropic_messages", more='headers = { X-Team = "t" }, proxy = "http://p:1"')
    up = given.snapshot.providers["up"]
    assert proxy(given, up) == "http://p:1"
    it = attempt(given, UP, Access("sk-up"), True, None, None, "me")
    assert (it.proxy, sent(it)["x-team"]) == ("http://p:1", "t")


def test_thinking_that_another_provider_signed_is_kept_from_anthropic() -> None:
    here = snapshot(provider("http://x", protocols=("anthropic_messages",)) + ALICE)
    said: list[dict[str, str]] = [
        {"type": "thinking", "thinking": "a", "signature": "gproxy.gemini.x"},
        {"type": "text", "text": "b"},
    ]
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": said}]
    tree = {"model": "alias", "max_tokens": 9, "messages": messages}
    given = call(here, json.dumps(tree).encode(), anthropic_messages.MESSAGES)
    it = attempt(given, UP, Access("sk-up"), True, None, None, "me")
    assert json.loads(it.body)["messages"][1]["content"] == said[1:]
    assert json.loads(it.body)["model"] == "target"


def test_reasoning_that_another_provider_signed_is_kept_from_openai_and_gemini() -> None:
    here = snapshot(provider("http://x", protocols=("openai_responses", "gemini")) + ALICE)
    item = {"type": "reasoning", "summary": [], "encrypted_content": "gproxy.anthropic_messages.x"}
    said = {"role": "user", "content": "a"}
    body = json.dumps({"model": "alias", "input": [said, item], "n": 10**30}).encode()
    it = attempt(call(here, body, openai_responses.RESPONSES), UP, Access("sk-up"), True, None, None, "me")
    assert json.loads(it.body) == {"model": "target", "input": [said], "n": 10**30}
    worn = b64encode(b"gproxy.anthropic_messages.x").decode()
    parts = [{"text": "a", "thought": True, "thoughtSignature": worn}, {"text": "b"}]
    body = json.dumps({"contents": [{"role": "model", "parts": parts}]}).encode()
    it = attempt(
        call(here, body, gemini.GENERATE, model="alias"), UP, Access("sk-up"), True, None, None, "me"
    )
    assert json.loads(it.body) == {"contents": [{"role": "model", "parts": parts[1:]}]}
