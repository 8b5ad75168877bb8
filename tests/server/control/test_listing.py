"""One upstream is asked for its list, by each channel's own way, and every refusal has its status."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from gproxy.config.schema import Settings
from gproxy.config.snapshot import Credential, Provider
from gproxy.errors import AnswerRefused, ConnectFailed
from gproxy.protocols.models import ModelEntry
from gproxy.providers.catalog import CHANNELS
from gproxy.server.control.listing import StatusRefused, address_of, credentials_of, fetch, fetch_first
from gproxy.server.request.tokens import Tokens
from gproxy.server.request.upstream import Upstream
from gproxy.server.tasks import Tasks
from tests.kit.settings import closed_port
from tests.server.parts import always, by_key, http, peer

ONE, TWO = Credential(name="a", secret="sk-one"), Credential(name="b", secret="sk-two")
LIST = http(json.dumps({"data": [{"id": "z"}, {"id": "a", "display_name": "A"}]}).encode())
ENTRIES = (ModelEntry("z"), ModelEntry("a", "A"))


class Asking:
    def __init__(self) -> None:
        self.upstream = Upstream()
        self.tokens = Tokens(self.upstream, Tasks())

    async def first(self, it: Provider) -> tuple[ModelEntry, ...]:
        until = asyncio.get_running_loop().time() + 5
        return await fetch_first(self.upstream, self.tokens, it, "", until)

    async def by(self, it: Provider, credential: Credential) -> tuple[ModelEntry, ...]:
        until = asyncio.get_running_loop().time() + 5
        return await fetch(self.upstream, self.tokens, it, credential, "", until)


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    it = Asking()
    yield it
    await it.upstream.close()


def provider(channel: str, url: str, *credentials: Credential, **settings: object) -> Provider:
    return Provider(
        name="up",
        channel=channel,
        enabled=True,
        settings=Settings(base_url=url, **settings),  # type: ignore[arg-type]  # of several types
        credentials=credentials,
    )


@pytest.mark.parametrize(
    ("channel", "target", "header", "value"),
    [
        ("openai", "/v1/models", "authorization", "Bearer sk-one"),
        ("openrouter", "/api/v1/models", "authorization", "Bearer sk-one"),
        ("groq", "/openai/v1/models", "authorization", "Bearer sk-one"),
        ("deepseek", "/models", "authorization", "Bearer sk-one"),
        ("fireworks", "/inference/v1/models", "authorization", "Bearer sk-one"),
        ("anthropic", "/v1/models?limit=1000", "x-api-key", "sk-one"),
        ("gemini", "/v1beta/models?pageSize=1000", "x-goog-api-key", "sk-one"),
    ],
)
async def test_each_channel_is_asked_in_its_own_way(
    asking: Asking, channel: str, target: str, header: str, value: str
) -> None:
    async with peer(always(LIST)) as up:
        it = provider(channel, up.url, ONE, headers={"X-Team": "r"})
        assert await asking.by(it, ONE) == ENTRIES
        (seen,) = up.seen
        assert (seen.method, seen.target, seen.headers[header]) == ("GET", target, value)
        assert seen.headers["x-team"] == "r"
        assert ("anthropic-version" in seen.headers) == (channel == "anthropic")
        assert address_of(it) == up.url + target.partition("?")[0]


async def test_the_next_credential_is_asked_where_one_is_refused_and_the_last_refusal_is_told(
    asking: Asking,
) -> None:
    async with peer(by_key({"sk-one": http(b"no", 401), "sk-two": LIST})) as up:
        assert await asking.first(provider("openai", up.url, ONE, TWO)) == ENTRIES
    async with peer(by_key({"sk-one": http(b"no", 401), "sk-two": http(b"why", 403)})) as up:
        with pytest.raises(StatusRefused) as caught:
            await asking.first(provider("openai", up.url, ONE, TWO))
        assert (caught.value.status, caught.value.body, caught.value.reason) == (403, b"why", "status 403")


async def test_no_connection_and_no_list_are_not_tried_with_another_key(asking: Asking) -> None:
    with pytest.raises(ConnectFailed):
        await asking.first(provider("openai", f"http://127.0.0.1:{closed_port()}", ONE, TWO))
    async with peer(always(http(b'{"data": 7}'))) as up:
        with pytest.raises(AnswerRefused, match="not a list"):
            await asking.first(provider("openai", up.url, ONE, TWO))
        assert len(up.seen) == 1


async def test_without_a_usable_credential_only_those_are_asked_that_need_none(asking: Asking) -> None:
    async with peer(always(LIST)) as up:
        assert await asking.first(provider("ollama", up.url)) == ENTRIES
        assert "authorization" not in up.seen[0].headers
        with pytest.raises(AnswerRefused, match="no usable credential"):
            await asking.first(provider("openai", up.url))
        assert len(up.seen) == 1
    assert [c.name for c in credentials_of(provider("ollama", "http://h"))] == ["no key"]
    assert credentials_of(provider("openai", "http://h", ONE)) == (ONE,)


@pytest.mark.parametrize("channel", ["azure-openai", "vertexexpress", "vertex", "demo"])
async def test_a_channel_without_a_list_is_not_asked(asking: Asking, channel: str) -> None:
    async with peer(always(LIST)) as up:
        it = provider(channel, up.url, ONE)
        assert await asking.by(it, ONE) == ()
        assert address_of(it) == ""
        assert up.seen == []


@pytest.mark.parametrize("count", [10_001, 300_000], ids=["many", "not even looked at"])
async def test_a_list_without_end_is_none(asking: Asking, count: int) -> None:
    entries = b",".join(b'{"id":"m%d"}' % number for number in range(count))
    async with peer(always(http(b'{"data":[%b]}' % entries))) as up:
        began = time.thread_time()
        with pytest.raises(AnswerRefused, match="more than 10000 models"):
            await asking.first(provider("openai", up.url, ONE))
    assert time.thread_time() - began < 0.25


def test_an_address_is_told_without_its_query() -> None:
    assert address_of(provider("custom", "http://h/v1?key=sk-canary")) == "http://h/v1/models"


def test_every_channel_either_has_a_list_or_says_that_it_has_none() -> None:
    listing = {name for name, row in CHANNELS.items() if address_of(provider(name, "http://h"))}
    assert listing == {name for name, row in CHANNELS.items() if row.lists_models}
