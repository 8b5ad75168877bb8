"""Every way we know to ask for a model under a name that is not its own: none reaches it without permission."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.calls import BY_ID, CALLS, MESSAGES, Call
from tests.kit.errors import message_of
from tests.kit.gateway import Gateway
from tests.kit.settings import alias, model, provider, user
from tests.kit.upstream import Script, Upstream

KEY = "sk-narrow"
LISTED_KEY = "sk-listed"
BROAD_KEY = "sk-broad"
SECRET = "secret-model"
"""The model that nobody here may use. At each provider it would be served."""

CHAT = BY_ID["chat"]
FAMILIES = [BY_ID["chat"], BY_ID["messages"], BY_ID["generate"]]


def config(url: str) -> str:
    return "".join(
        [
            "# Who may not.\n",
            provider("oa", "openai", url),
            provider("an", "anthropic", url),
            provider("ge", "gemini", url),
            provider("twin", "openai", url),
            provider("listing", "openai", url),
            model("listing", SECRET),
            model("listing", "open-model"),
            alias("backdoor", "oa", SECRET),
            alias("chain", "oa", "open-model")
            + f'targets = [{{ provider_name = "twin", model_id = "{SECRET}" }}]\n',
            # Whatever its name says, what it leads to is not permitted under any pattern that is not its own.
            alias("oa/open-alias", "twin", SECRET),
            user("narrow", KEY, "oa|open-*", "an|open-*", "ge|open-*", "listing|open-*"),
            user("listed", LISTED_KEY, "*", more='models = ["open-*", "*/open-*"]\n'),
            user("broad", BROAD_KEY, "*"),
        ]
    )


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("forbidden"), config(upstream.url)) as gateway:
        yield gateway


KEYS = pytest.mark.parametrize("key", [KEY, LISTED_KEY], ids=["permission", "key's list"])


@pytest.fixture
def kept_out(upstream: Upstream) -> Iterator[None]:
    """Nothing that names the secret model goes up while the test runs, in any place that could be read."""
    before = len(upstream.ledger)
    yield
    for exchange in upstream.ledger[before:]:
        assert exchange.model.startswith("open-"), exchange
        assert SECRET not in exchange.raw_path
        assert SECRET not in exchange.query


NAMES = [
    SECRET,
    f"oa/{SECRET}",
    f"an/{SECRET}",
    f"ge/{SECRET}",
    f"twin/{SECRET}",
    f"listing/{SECRET}",
    f"oa/oa/{SECRET}",
    f"twin/oa/{SECRET}",
    f"/oa/{SECRET}",
    f"oa//{SECRET}",
    f"oa/./{SECRET}",
    f"oa/../{SECRET}",
    f"models/{SECRET}",
    f"oa/models/{SECRET}",
    f"models/oa/{SECRET}",
    f"ge/models/{SECRET}",
    f"models/models/ge/{SECRET}",
    f"OA/{SECRET}",
    f"oa/{SECRET.upper()}",
    f"oa/{SECRET.title()}",
    f"oa/{SECRET} ",
    f" oa/{SECRET}",
    f"oa/{SECRET}\t",
    f"oa/{SECRET}\u200b",
    f"oa/\ufeff{SECRET}",
    "oa/\u0455ecret-model",
    "oa/secret\u2010model",
    "oa/" + "".join(chr(ord(c) + 0xFEE0) for c in SECRET),
    f"oa\uff0f{SECRET}",
    f"oa\u2044{SECRET}",
    "oa/secret%2Dmodel",
    f"oa%2F{SECRET}",
    f"oa%2f{SECRET}",
    "oa/%73ecret-model",
    f"oa\\{SECRET}",
    f"oa:{SECRET}",
    f"oa/{SECRET}?x=open-x",
    f"oa/{SECRET}#open-x",
    f"oa/{SECRET}:generateContent",
    f"oa/{SECRET}@latest",
    f"{SECRET},open-x",
    "backdoor",
    "oa/backdoor",
    "Backdoor",
    "twin/backdoor",
    "twin/open-x",
    "twin/chain",
    "oa/open-alias",
    "*",
    "oa/*",
    "oa/secret*",
    "oa/?ecret-model",
    "default",
]


def asked(call: Call, name: str, key: str) -> list[str]:
    """The urls to try for one name, less those that are allowed."""
    if key == LISTED_KEY and "/open-" in name:
        return []  # its list is for every provider, and for aliases
    if call.family == "gemini" and any(not "!" <= c <= "~" or c in "?#" for c in name):
        return []  # no such target can stand in a request line
    scopes = {"openai": ["", "oa", "twin"], "anthropic": ["", "an"], "gemini": ["", "ge"]}[call.family]
    # Below its provider `oa/open-alias` is the id `open-alias`.
    return [call.url(name, scope) for scope in scopes if (name, scope) != ("oa/open-alias", "oa")]


@pytest.mark.parametrize("name", ["Model", "MODEL", "modeL"])
@pytest.mark.usefixtures("kept_out")
def test_no_second_name_that_an_upstream_may_read_instead_leads_there(running: Gateway, name: str) -> None:
    for call in FAMILIES[:2]:
        scope = {"openai": "oa", "anthropic": "an"}[call.family]
        answer = running.post(call.url("open-x", scope), call.fields("open-x") | {name: SECRET}, KEY)
        assert answer.status_code == 400, answer.text


@KEYS
@pytest.mark.parametrize("field", ["models", "fallbacks"])
@pytest.mark.usefixtures("kept_out")
def test_no_model_that_an_upstream_may_fall_back_to_is_one(running: Gateway, field: str, key: str) -> None:
    for call in FAMILIES[:2]:
        scope = {"openai": "oa", "anthropic": "an"}[call.family]
        fields = call.fields("open-x")
        for others in (["open-y", SECRET], SECRET, [{"model": SECRET}]):
            answer = running.post(call.url("open-x", scope), fields | {field: others}, key)
            assert answer.status_code == 403, answer.text
        assert running.post(call.url("open-x", scope), fields | {field: ["open-y"]}, key).status_code == 200


BESIDE: dict[str, dict[str, Any]] = {
    "advisor": {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": SECRET}]},
    "image": {"tools": [{"type": "image_generation", "model": SECRET}]},
    "hosted": {"tools": [{"type": "openrouter:subagent", "parameters": {"model": SECRET}}]},
    "of its own choice": {"tools": [{"type": "openrouter:fusion"}]},
    "plugin": {"plugins": [{"id": "fusion", "analysis_models": [f"open-{SECRET}", SECRET]}]},
    "plugin of its own choice": {"plugins": [{"id": "fusion"}]},
    "preset": {"preset": SECRET},
    "compound": {"compound_custom": {"models": {"answering_model": SECRET}}},
}


@KEYS
@pytest.mark.parametrize("where", BESIDE)
@pytest.mark.usefixtures("kept_out")
def test_no_model_that_is_asked_beside_the_permitted_one_is_one(
    running: Gateway, where: str, key: str
) -> None:
    for call in (*FAMILIES[:2], BY_ID["responses"]):
        scope = {"openai": "oa", "anthropic": "an"}[call.family]
        answer = running.post(call.url("open-x", scope), call.fields("open-x") | BESIDE[where], key)
        message_of(answer, call.family, 403)
        answer = running.post(call.url("open-x", scope), call.fields("open-x") | BESIDE[where], BROAD_KEY)
        assert answer.status_code == 200, answer.text


@KEYS
@pytest.mark.usefixtures("kept_out")
def test_no_preset_behind_a_permitted_name_chooses_another(running: Gateway, key: str) -> None:
    for call in FAMILIES[:2]:
        scope = {"openai": "oa", "anthropic": "an"}[call.family]
        answer = running.post(call.url("open-x@preset/y", scope), call.fields("open-x@preset/y"), key)
        message_of(answer, call.family, 403)


@KEYS
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("kept_out")
def test_no_spelling_of_the_name_leads_there(running: Gateway, name: str, key: str) -> None:
    for call in FAMILIES:
        for url in asked(call, name, key):
            answer = running.post(url, call.fields(name), key=key)
            assert answer.status_code in (400, 403, 404), (url, answer.text)


def test_a_permitted_name_that_holds_the_other_goes_up_as_it_is(running: Gateway, upstream: Upstream) -> None:
    """Nobody normalises names: to the upstream, too, this is another model."""
    name = f"open-x/../{SECRET}"
    assert running.post("/v1/chat/completions", CHAT.fields(f"oa/{name}"), key=KEY).status_code == 200
    assert upstream.ledger[-1].model == name
    path = f"/ge/v1beta/models/open-x:{SECRET}:generateContent"
    assert running.post(path, BY_ID["generate"].body, key=KEY).status_code == 200
    assert upstream.ledger[-1].model == f"open-x:{SECRET}"


@KEYS
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
@pytest.mark.usefixtures("kept_out")
def test_every_operation_is_closed_whether_the_model_exists_or_not(
    running: Gateway, call: Call, key: str
) -> None:
    messages = set()
    for name in (SECRET, "not-there"):
        for scope in ("", call.provider):
            asked = name if scope else f"{call.provider}/{name}"
            answer = running.post(call.url(asked, scope), call.fields(asked), key=key)
            messages.add(message_of(answer, call.family, 403).replace(name, "…"))
    assert len(messages) == 2, "one with the prefix, one without, whatever the model"


@KEYS
@pytest.mark.usefixtures("kept_out")
def test_what_is_listed_tells_nothing_by_its_status(running: Gateway, key: str) -> None:
    answers = [
        running.post("/v1/chat/completions", CHAT.fields(name), key=key)
        for name in (f"listing/{SECRET}", "listing/not-there")
    ]
    assert [answer.status_code for answer in answers] == [403, 403]


def test_an_alias_is_tried_only_at_its_permitted_targets(running: Gateway, upstream: Upstream) -> None:
    """The target that fails is not followed by one that is forbidden."""
    upstream.model(Script(status=500), "open-model")
    try:
        before = len(upstream.ledger)
        answer = running.post("/v1/chat/completions", CHAT.fields("chain"), key=KEY)
        assert answer.status_code == 502
        assert [exchange.model for exchange in upstream.ledger[before:]] == ["open-model"]
        answer = running.post("/v1/chat/completions", CHAT.fields("chain"), key=BROAD_KEY)
        assert answer.status_code == 200
        assert upstream.ledger[-1].model == SECRET
    finally:
        upstream.model(Script(), "open-model")


BODIES: dict[str, str] = {
    "twice": f'{{"model": "oa/open-x", "model": "oa/{SECRET}", "messages": []}}',
    "twice, the other way round": f'{{"model": "oa/{SECRET}", "model": "oa/open-x", "messages": []}}',
    "twice, once escaped": f'{{"model": "oa/open-x", "\\u006dodel": "oa/{SECRET}", "messages": []}}',
    "escaped": '{"model": "oa/\\u0073ecret-model", "messages": []}',
    "escaped slash": f'{{"model": "oa\\/{SECRET}", "messages": []}}',
    "other case": f'{{"model": "oa/open-x", "Model": "{SECRET}", "messages": []}}',
    "null byte": f'{{"model": "oa/{SECRET}\\u0000", "messages": []}}',
    "array": f'{{"model": ["oa/open-x", "oa/{SECRET}"], "messages": []}}',
    "object": f'{{"model": {{"id": "{SECRET}"}}, "messages": []}}',
    "two bodies": f'{{"model": "oa/open-x", "messages": []}}{{"model": "{SECRET}"}}',
}


@KEYS
@pytest.mark.parametrize("id", BODIES)
def test_no_body_says_one_model_here_and_another_there(
    running: Gateway, upstream: Upstream, id: str, key: str
) -> None:
    before = len(upstream.ledger)
    for path in ("/v1/chat/completions", "/oa/v1/chat/completions"):
        answer = running.post(path, BODIES[id].encode(), key=key)
        assert answer.status_code in (400, 403) or id == "other case"
    for exchange in upstream.ledger[before:]:
        # Names are told apart by case: this is a field that nobody reads, and the model is the permitted one.
        assert exchange.model.endswith("open-x")


@KEYS
@pytest.mark.usefixtures("kept_out")
def test_neither_query_nor_header_names_the_model(running: Gateway, key: str) -> None:
    body = CHAT.fields("oa/open-x")
    for query in (
        f"model={SECRET}",
        f"model=oa/{SECRET}",
        f"provider=twin&model={SECRET}",
        f"deployment={SECRET}",
    ):
        answer = running.post(f"/v1/chat/completions?{query}", {"messages": MESSAGES}, key=key)
        assert answer.status_code == 400
    for name in ("x_model", "model", "x_goog_user_project", "openai_model", "x_gproxy_model"):
        assert running.post("/v1/chat/completions", body, key=key, **{name: SECRET}).status_code == 200


PATHS = [
    f"/v1beta/models/ge/{SECRET}:generateContent",
    f"/v1beta/models/ge%2F{SECRET}:generateContent",
    f"/v1beta/models/ge%2f{SECRET}%3AgenerateContent",
    f"/v1beta/models/ge%252F{SECRET}:generateContent",
    f"/v1beta/models/models/ge/{SECRET}:generateContent",
    f"/v1beta/models/models%2Fge%2F{SECRET}:generateContent",
    f"/v1beta/models/ge/open-x/../{SECRET}:generateContent",
    f"/v1beta/models/ge/open-x%2F..%2F{SECRET}:generateContent",
    f"/v1beta/models/ge/open-x:generateContent/../{SECRET}:generateContent",
    f"/v1beta/models/ge/{SECRET}:streamGenerateContent?alt=sse",
    f"/v1/models/ge/{SECRET}:countTokens",
    f"/ge/v1beta/models/{SECRET}:generateContent",
    "/ge/v1beta/models/%73ecret-model:generateContent",
    f"/ge/v1beta/models/models/{SECRET}:generateContent",
    f"/ge/v1beta/models/ge/{SECRET}:generateContent",
    f"/ge/v1beta/models/open-x%2F..%2F{SECRET}:generateContent",
    f"/ge/v1beta/models/open-x/../{SECRET}:generateContent",
    f"/ge/v1beta/models/open-x:generateContent/../../models/{SECRET}:generateContent",
    f"/GE/v1beta/models/{SECRET}:generateContent",
    f"/oa/../ge/v1beta/models/{SECRET}:generateContent",
    f"//ge/v1beta/models/{SECRET}:generateContent",
    f"/ge/v1beta/tunedModels/{SECRET}:generateContent",
    f"/ge/v1beta/cachedContents?model=models/{SECRET}",
]


@KEYS
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("kept_out")
def test_no_path_of_gemini_s_leads_there(running: Gateway, path: str, key: str) -> None:
    answer = running.post(path, BY_ID["generate"].body, key=key)
    assert answer.status_code in (400, 403, 404), answer.text


CONTENTS = BY_ID["generate"].body
GEMINI_BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "own model": ("generateContent", {"model": f"models/{SECRET}", **CONTENTS}),
    "count": ("countTokens", {"generateContentRequest": {"model": f"models/{SECRET}", **CONTENTS}}),
    "count, the other case": (
        "countTokens",
        {"generate_content_request": {"model": f"models/{SECRET}", **CONTENTS}},
    ),
    "embed": ("embedContent", {"model": f"models/{SECRET}", "content": {"parts": []}}),
    "batch": (
        "batchEmbedContents",
        {"requests": [{"model": "models/open-x"}, {"model": f"models/{SECRET}"}]},
    ),
}


@pytest.mark.parametrize("id", GEMINI_BODIES)
def test_a_model_in_gemini_s_body_becomes_that_of_the_path(
    running: Gateway, upstream: Upstream, id: str
) -> None:
    action, body = GEMINI_BODIES[id]
    for path in (f"/v1beta/models/ge/open-x:{action}", f"/ge/v1beta/models/open-x:{action}"):
        before = len(upstream.ledger)
        assert running.post(path, body, key=KEY).status_code == 200
        (exchange,) = upstream.ledger[before:]
        assert exchange.model == "open-x"
        assert SECRET not in json.dumps(exchange.json())


@KEYS
def test_what_may_not_be_used_is_not_shown(running: Gateway, key: str) -> None:
    heads: list[dict[str, str]] = [{}, {"anthropic_version": "2023-06-01"}]
    for path in ("/v1/models", "/v1beta/models", "/listing/v1/models", "/oa/v1/models", "/twin/v1/models"):
        for headers in heads:
            listed = running.get(path, key=key, **headers)
            assert listed.status_code == 200
            assert SECRET not in listed.text
            assert "backdoor" not in listed.text
    for name in (f"listing/{SECRET}", "listing/not-there", f"oa/{SECRET}", "backdoor"):
        for path in ("/v1/models", "/v1beta/models"):
            assert running.get(f"{path}/{name}", key=key).status_code == 403
    assert running.get(f"/v1/models/listing/{SECRET}", key=BROAD_KEY).status_code == 200
