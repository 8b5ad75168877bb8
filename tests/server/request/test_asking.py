"""What one attempt sends: where, by which key, and which of the client's headers go along."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as property_of
from hypothesis import strategies as st
from msgspec import structs

from gproxy.protocols import anthropic_messages, gemini, openai_responses
from gproxy.server.request import asking
from gproxy.server.request.asking import Ways, carrier, proxy
from gproxy.server.request.crossing import cross
from gproxy.server.request.edge import Call, Fields
from gproxy.server.request.tokens import Access
from gproxy.server.request.upstream import Attempt
from gproxy.values import Target
from tests.server.parts import ALICE, KEY, Headers, call, provider, serving, snapshot

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


def under(given: Call, fields: Fields) -> Call:
    """The same call by another head."""
    return structs.replace(given, passed=structs.replace(given.passed, fields=fields))


def sent(attempt: Attempt) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in (*attempt.way.headers, *attempt.way.further)}


def test_the_clients_own_request_goes_up_with_its_own_headers() -> None:
    given = asked("anthropic_messages")
    it = Ways("me").attempt(given, UP, Access("sk-up"), True, None)
    assert (carrier(given, UP), it.way.url) == ("anthropic_messages", "http://x/v1/messages")
    assert it.body == BODY.replace(b'"alias"', b'"target"')
    headers = sent(it)
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-up", "2024-01-01")
    assert (headers["anthropic-beta"], headers["x-stainless-os"]) == ("x", "y")
    assert headers["x-gproxy-via"] == "another, me"


async def test_a_translated_request_goes_to_the_targets_path_without_the_clients_dialect() -> None:
    given = asked("openai_chat")
    assert carrier(given, UP) == ""
    it = Ways("me").attempt(given, UP, Access("sk-up"), True, await cross(given, UP, True))
    assert it.way.url == "http://x/v1/chat/completions"
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
    it = Ways("me").attempt(responses, UP, Access("sk-up"), True, None)
    assert (it.way.url, json.loads(it.body)["model"]) == (
        "https://r.openai.azure.com/openai/v1/responses",
        "X",
    )
    messages = call(here, BODY, anthropic_messages.MESSAGES)
    crossed = await cross(messages, UP, True)
    assert json.loads(crossed.body)["model"] == "X"


def test_a_providers_own_headers_and_proxy_are_used() -> None:
    given = asked("anthropic_messages", more='headers = { X-Team = "t" }, proxy = "http://p:1"')
    up = given.snapshot.providers["up"]
    assert proxy(given, up) == "http://p:1"
    it = Ways("me").attempt(given, UP, Access("sk-up"), True, None)
    assert (it.way.proxy, sent(it)["x-team"]) == ("http://p:1", "t")


def test_thinking_that_another_provider_signed_is_kept_from_anthropic() -> None:
    here = snapshot(provider("http://x", protocols=("anthropic_messages",)) + ALICE)
    said: list[dict[str, str]] = [
        {"type": "thinking", "thinking": "a", "signature": "gproxy.gemini.x"},
        {"type": "text", "text": "b"},
    ]
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": said}]
    tree = {"model": "alias", "max_tokens": 9, "messages": messages}
    given = call(here, json.dumps(tree).encode(), anthropic_messages.MESSAGES)
    it = Ways("me").attempt(given, UP, Access("sk-up"), True, None)
    assert json.loads(it.body)["messages"][1]["content"] == said[1:]
    assert json.loads(it.body)["model"] == "target"


def test_reasoning_that_another_provider_signed_is_kept_from_openai_and_gemini() -> None:
    here = snapshot(provider("http://x", protocols=("openai_responses", "gemini")) + ALICE)
    item = {"type": "reasoning", "summary": [], "encrypted_content": "gproxy.anthropic_messages.x"}
    said = {"role": "user", "content": "a"}
    body = json.dumps({"model": "alias", "input": [said, item], "n": 10**30}).encode()
    it = Ways("me").attempt(
        call(here, body, openai_responses.RESPONSES), UP, Access("sk-up"), True, None, None
    )
    assert json.loads(it.body) == {"model": "target", "input": [said], "n": 10**30}
    worn = b64encode(b"gproxy.anthropic_messages.x").decode()
    parts = [{"text": "a", "thought": True, "thoughtSignature": worn}, {"text": "b"}]
    body = json.dumps({"contents": [{"role": "model", "parts": parts}]}).encode()
    it = Ways("me").attempt(
        call(here, body, gemini.GENERATE, model="alias"), UP, Access("sk-up"), True, None, None
    )
    assert json.loads(it.body) == {"contents": [{"role": "model", "parts": parts[1:]}]}


def test_what_is_kept_of_one_request_is_not_the_next_clients() -> None:
    ways = Ways("me")
    first = asked("anthropic_messages")
    one = ways.attempt(first, UP, Access("sk-up"), True, None)
    other = call(first.snapshot, BODY, anthropic_messages.MESSAGES, headers=[(b"user-agent", b"other")])
    two = ways.attempt(other, UP, Access("sk-up"), True, None)
    assert len(ways._known) == 1
    assert sent(two) == {
        "x-api-key": "sk-up",
        "content-type": "application/json",
        "user-agent": "other",
        "accept-encoding": "identity",
        "anthropic-version": "2023-06-01",
        "x-gproxy-via": "me",
    }
    assert ways.attempt(first, UP, Access("sk-2"), True, None).way is not one.way
    assert ways.attempt(first, Target("up", "b"), Access("sk-up"), True, None).way is not one.way


def test_requests_with_one_head_are_sent_one_way() -> None:
    ways, first = Ways("me"), asked("anthropic_messages")
    other = BODY.replace(b"Hi", b"Ho")
    second = structs.replace(first, facts=call(first.snapshot, other, anthropic_messages.MESSAGES).facts)
    one = ways.attempt(first, UP, Access("sk-up"), True, None)
    two = ways.attempt(second, UP, Access("sk-up"), True, None)
    assert two.way is one.way
    assert two.body == other.replace(b'"alias"', b'"target"')


@property_of(
    asks=st.lists(
        st.tuples(
            st.sampled_from(
                [SENT, SENT[:1], [*SENT, (b"x-api-key", b"k")], [(b"connection", b"user-agent"), *SENT]]
            ),
            st.sampled_from([UP, Target("up", "b"), Target("up", "c/d")]),
            st.sampled_from([Access("sk-1"), Access("sk-2"), Access("sk-1", "project", "account")]),
        ),
        max_size=8,
    )
)
def test_what_is_kept_with_a_head_is_what_would_be_made_for_it(asks: list[Any]) -> None:
    first = asked("anthropic_messages", more='headers = { "x-team" = "t" }')
    ways, heads = Ways("me"), [Fields(tuple(headers)) for headers, *_ in asks]
    for headers, target, access in asks:
        fields = next(kept for kept in heads if kept.raw == tuple(headers))
        it = ways.attempt(under(first, fields), target, access, True, None)
        anew = under(first, Fields(tuple(headers)))
        fresh = Ways("me").attempt(anew, target, access, True, None)
        assert (it.way.url, sent(it), it.body) == (fresh.way.url, sent(fresh), fresh.body)
        assert it.way.form() == fresh.way.form()


async def test_one_head_leads_to_each_operation_of_another_dialect() -> None:
    """That an answer is to come as a stream stands in the body here, and in the path there."""
    ways, urls = Ways("me"), []
    first = asked("gemini")
    streamed = call(
        first.snapshot, BODY[:-1] + b', "stream": true}', anthropic_messages.MESSAGES, headers=SENT
    )
    for given in (first, streamed, first):
        given = under(given, first.passed.fields)
        it = ways.attempt(given, UP, Access("sk-up"), True, await cross(given, UP, True))
        urls.append(it.way.url.rpartition(":")[2])
    assert urls == ["generateContent", "streamGenerateContent?alt=sse", "generateContent"]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_MOST_KEPT", 2)
    monkeypatch.setattr(asking, "_MOST_OF_A_HEAD", 2)
    ways, given = Ways("me"), asked("anthropic_messages")
    for model in "abc":
        ways.attempt(given, Target("up", model), Access("sk-up"), True, None)
    assert len(ways._known) == len(given.passed.fields.derived["asked"]) == 1


def test_nothing_that_is_handed_on_shows_a_secret_where_it_is_printed() -> None:
    here = snapshot(
        f'[global]\nproxy = "http://me:canary-proxy@127.0.0.1:9"\n{ALICE}'
        '[[providers]]\nname = "up"\nchannel = "openai"\n'
        'settings = { base_url = "http://127.0.0.1:9", headers = { "x-team" = "canary-header" } }\n'
        'credentials = [{ api_key = "canary-provider" }]\n'
    )
    it = call(here, BODY, headers=[(b"authorization", f"Bearer {KEY}".encode())])
    ways = Ways("id")
    attempt = ways.attempt(it, UP, Access("canary-provider"), False, None)
    for each in (
        here,
        here.config,
        here.providers["up"],
        it,
        attempt,
        attempt.way,
        list(ways._known.values()),
    ):
        assert "canary" not in repr(each)
    assert KEY not in repr(it)


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": False}}])
async def test_a_stream_of_the_demo_reports_its_usage_to_the_ledger_and_not_to_who_did_not_ask(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    said = [{"role": "user", "content": "Hi"}]
    async with serving('[[providers]]\nname = "demo"\nchannel = "demo"\n' + ALICE, tmp_path) as front:
        answer = await front.chat("demo/echo-1", messages=said, stream=True, **options)
        (row,) = await front.rows()
    assert (answer.status, row["usage_source"]) == (200, "upstream")
    assert row["output_tokens"] > 0
    assert b'"usage":{' not in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n")
