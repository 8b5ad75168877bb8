"""What a client may see: configured, asked of the upstream, and aliases; against peers on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gproxy.config.snapshot import Client, Snapshot
from gproxy.errors import BadRequest, Forbidden, NotFound, UpstreamFailed
from gproxy.ledger import modellists
from gproxy.ledger.writer import Writer
from gproxy.server.control import listing as asking
from gproxy.server.control import lists
from gproxy.server.control.lists import ModelLists
from gproxy.server.request.callers import authenticate
from gproxy.server.request.tokens import Tokens
from gproxy.server.request.upstream import Upstream
from gproxy.server.tasks import Tasks
from tests.kit.settings import closed_port
from tests.server.parts import ALICE, KEY, SECRET, Seen, always, by_key, http, peer, provider, snapshot

GONE = f"http://127.0.0.1:{closed_port()}"


def listing(*ids: str) -> bytes:
    return http(json.dumps({"object": "list", "data": [{"id": name} for name in ids]}).encode())


def models(provider_name: str, *ids: str) -> str:
    return "".join(
        f'[[models]]\nprovider_name = "{provider_name}"\nmodel_id = "{name}"\ndisplay_name = "Shown"\n'
        for name in ids
    )


def alias(name: str, provider_name: str, model: str, more: str = "") -> str:
    return f'[[model_aliases]]\nalias = "{name}"\nprovider_name = "{provider_name}"\nmodel_id = "{model}"\n{more}'


def may(*patterns: str) -> str:
    user = ALICE.partition("[[permissions]]")[0]
    return user + "".join(
        f'[[permissions]]\nuser_name = "alice"\nmodel_pattern = "{pattern}"\n' for pattern in patterns
    )


class Catalogue:
    def __init__(self, upstream: Upstream, writer: Writer) -> None:
        self.tasks = Tasks()
        self.writer = writer
        self.lists = ModelLists(upstream, Tokens(upstream, self.tasks), self.tasks, writer)

    async def stored(self, name: str, address: str) -> list[str]:
        """The ids that the store keeps of a provider, once it does."""
        async with asyncio.timeout(10):
            while not (found := modellists.kept(self.writer.path, {name: address})):
                await asyncio.sleep(0.005)
        return [id for id, _ in found[name].models]

    async def ids(self, text: str, scoped: str | None = None) -> list[str]:
        here, client = self.seen_by_alice(text)
        return [entry.id for entry in await self.lists.all(here, client, scoped)]

    async def single(self, text: str, name: str, scoped: str | None = None) -> tuple[str, str, str]:
        here, client = self.seen_by_alice(text)
        entry = await self.lists.single(here, client, name, scoped)
        return entry.id, entry.display_name, entry.owned_by

    @staticmethod
    def seen_by_alice(text: str) -> tuple[Snapshot, Client]:
        here = snapshot(text)
        return here, authenticate(((b"x-api-key", KEY.encode()),), "", here, 0)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Catalogue]:
    """The lists of a process whose store is at `path`."""
    upstream = Upstream()
    writer = Writer(path)
    writer.start()
    it = Catalogue(upstream, writer)
    try:
        yield it
    finally:
        await it.tasks.drain(5)
        await upstream.close()
        writer.close()


@pytest.fixture
async def catalogue(tmp_path: Path) -> AsyncIterator[Catalogue]:
    async with opened(tmp_path / "gproxy.db") as it:
        yield it


async def test_configured_models_are_listed_without_asking_anyone(catalogue: Catalogue) -> None:
    async with peer(always(listing("other"))) as up:
        text = provider(up.url) + models("up", "b", "a/c") + ALICE
        assert await catalogue.ids(text) == ["up/a/c", "up/b"]
        assert await catalogue.ids(text, "up") == ["a/c", "b"]
    assert up.seen == []


async def test_a_provider_that_lists_none_is_asked_by_its_own_key_and_headers(catalogue: Catalogue) -> None:
    async with peer(always(listing("z", "a"))) as up:
        text = provider(up.url, more='headers = { "X-Extra" = "1" }') + ALICE
        assert await catalogue.ids(text) == ["up/a", "up/z"]
    (seen,) = up.seen
    assert (seen.method, seen.target, seen.key) == ("GET", "/v1/models", SECRET)
    assert seen.headers["x-extra"] == "1"
    assert "content-type" not in seen.headers


PAGES = {
    "gemini": (
        {"models": [{"name": "models/a"}], "nextPageToken": "t1"},
        {"models": [{"name": "models/b"}]},
        "/v1beta/models?pageSize=1000",
        "&pageToken=t1",
    ),
    "anthropic": (
        {"data": [{"id": "a"}], "has_more": True, "last_id": "a"},
        {"data": [{"id": "b"}], "has_more": False, "last_id": "b"},
        "/v1/models?limit=1000",
        "&after_id=a",
    ),
}


@pytest.mark.parametrize("channel", PAGES)
async def test_a_list_in_pages_is_read_to_its_end(catalogue: Catalogue, channel: str) -> None:
    first, second, path, more = PAGES[channel]

    async def paged(seen: Seen, writer: asyncio.StreamWriter) -> None:
        page = second if seen.target == path + more else first
        await always(http(json.dumps(page).encode()))(seen, writer)

    async with peer(paged) as up:
        text = provider(up.url).replace('channel = "custom"', f'channel = "{channel}"') + ALICE
        assert f'channel = "{channel}"' in text
        assert await catalogue.ids(text) == ["up/a", "up/b"]
    assert [seen.target for seen in up.seen] == [path, path + more]


async def test_pages_without_an_end_have_one(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_MOST_PAGES", 3)
    async with peer(always(http(json.dumps(PAGES["gemini"][0]).encode()))) as up:
        text = provider(up.url).replace('channel = "custom"', 'channel = "gemini"') + ALICE
        assert await catalogue.ids(text) == ["up/a"]
    assert len(up.seen) == 3


async def test_a_list_is_asked_for_by_the_proxy_that_requests_take(catalogue: Catalogue) -> None:
    async with peer(always(listing("m"))) as proxy:
        text = f'[global]\nproxy = "{proxy.url}"\n' + provider("http://up.invalid") + ALICE
        assert await catalogue.ids(text) == ["up/m"]
    assert proxy.seen[0].target == "http://up.invalid/v1/models"


async def test_lists_are_asked_for_side_by_side_and_kept(catalogue: Catalogue) -> None:
    both = asyncio.Barrier(2)

    async def together(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await both.wait()
        await always(listing("m"))(seen, writer)

    async with peer(together) as up:
        text = provider(up.url, "one") + provider(up.url, "two") + ALICE
        for _ in range(3):
            assert await catalogue.ids(text) == ["one/m", "two/m"]
    assert len(up.seen) == 2


async def test_those_who_ask_at_once_share_one_answer_though_the_first_leaves(catalogue: Catalogue) -> None:
    go = asyncio.Event()

    async def slowly(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await always(listing("m"))(seen, writer)

    async with peer(slowly) as up:
        text = provider(up.url) + ALICE
        first, second = (asyncio.create_task(catalogue.ids(text)) for _ in range(2))
        while not up.seen:
            await asyncio.sleep(0)
        first.cancel()
        go.set()
        assert await second == ["up/m"]
    assert len(up.seen) == 1


async def test_a_list_is_asked_for_again_after_a_reload_or_a_while(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with peer(always(listing("m"))) as up:
        text = provider(up.url) + ALICE
        await catalogue.ids(text)
        catalogue.lists.forget()
        monkeypatch.setattr(lists, "KEPT_SECONDS", 0)
        await catalogue.ids(text)
        assert len(up.seen) == 2
        await catalogue.ids(text)
        assert len(up.seen) == 3


async def test_an_answer_that_was_asked_for_before_a_reload_is_not_kept_after_it(
    catalogue: Catalogue,
) -> None:
    go = asyncio.Event()

    async def slowly(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await always(listing("old"))(seen, writer)

    async with peer(slowly) as before, peer(always(listing("new"))) as after:
        asking = asyncio.create_task(catalogue.ids(provider(before.url) + ALICE))
        while not before.seen:
            await asyncio.sleep(0)
        catalogue.lists.forget()
        go.set()
        assert await asking == ["up/old"]
        assert await catalogue.ids(provider(after.url) + ALICE) == ["up/new"]


BAD = {
    "refused": None,
    "500": http(b"{}", 500),
    "401": http(b"{}", 401),
    "redirect": http(status=302, more=("location: /v1/models",)),
    "html": http(b"<html>", media="text/html"),
    "no list": http(b'{"data": 7}'),
    "cut": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_list_that_fails_is_left_out_and_alone_it_is_502(
    catalogue: Catalogue, bad: bytes | None
) -> None:
    async def badly(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await always(bad or b"")(seen, writer)
        writer.close()

    async with peer(badly) as down, peer(always(listing("m"))) as up:
        text = provider(down.url if bad else GONE, "down")
        assert await catalogue.ids(text + provider(up.url) + ALICE) == ["up/m"]
        catalogue.lists.forget()
        with pytest.raises(UpstreamFailed):
            await catalogue.ids(text + ALICE)


async def test_a_list_that_failed_is_not_asked_for_again_at_once(catalogue: Catalogue) -> None:
    async with peer(always(http(status=500))) as up:
        for _ in range(3):
            with pytest.raises(UpstreamFailed):
                await catalogue.ids(provider(up.url) + ALICE)
    assert len(up.seen) == 1


async def test_a_list_that_takes_too_long_is_left_out(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asking, "LIST_SECONDS", 0.05)
    async with peer(silent) as down, peer(always(listing("m"))) as up:
        assert await catalogue.ids(provider(down.url, "down") + provider(up.url) + ALICE) == ["up/m"]


async def test_aliases_are_listed_as_they_are(catalogue: Catalogue) -> None:
    text = provider(GONE) + models("up", "m") + provider(GONE, "other") + models("other", "n")
    text += alias("chat", "up", "m") + alias("far", "other", "n") + alias("lost", "up", "not-listed")
    text += alias("off", "up", "m", "enabled = false\n")
    assert await catalogue.ids(text + ALICE) == ["chat", "far", "other/n", "up/m"]
    assert await catalogue.ids(text + ALICE, "up") == ["chat", "m"]


async def test_a_provider_that_is_off_lists_nothing(catalogue: Catalogue) -> None:
    off = provider(GONE, "off").replace('name = "off"\n', 'name = "off"\nenabled = false\n')
    text = provider(GONE) + models("up", "m") + off + models("off", "n") + alias("a", "off", "n") + ALICE
    assert await catalogue.ids(text) == ["up/m"]
    for name in ("off", "nobody"):
        with pytest.raises(NotFound):
            await catalogue.ids(text, name)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), []),
        (("m",), ["chat", "up/m"]),
        (("up/n",), ["up/n"]),
        (("chat",), ["chat"]),
        (("*",), ["chat", "up/m", "up/n"]),
    ],
)
async def test_a_list_holds_what_the_key_may_use_and_nothing_else(
    catalogue: Catalogue, patterns: tuple[str, ...], expected: list[str]
) -> None:
    text = provider(GONE) + models("up", "m", "n") + alias("chat", "up", "m")
    assert await catalogue.ids(text + may(*patterns)) == expected


async def test_what_an_upstream_lists_is_filtered_too(catalogue: Catalogue) -> None:
    async with peer(always(listing("m", "n"))) as up:
        assert await catalogue.ids(provider(up.url) + may("n")) == ["up/n"]
        assert await catalogue.ids(provider(up.url) + may("n"), "up") == ["n"]


async def test_the_demo_lists_its_models_without_a_network(catalogue: Catalogue) -> None:
    found = await catalogue.ids('[[providers]]\nname = "demo"\nchannel = "demo"\n' + ALICE)
    assert found
    assert all(name.startswith("demo/") for name in found)


async def test_a_single_model_is_found_by_every_name_that_a_request_may_use(catalogue: Catalogue) -> None:
    async with peer(always(listing("a/b"))) as up:
        text = (
            provider(up.url) + provider(GONE, "few") + models("few", "m") + alias("chat", "few", "m") + ALICE
        )
        assert await catalogue.single(text, "few/m") == ("few/m", "Shown", "few")
        assert await catalogue.single(text, "m") == ("m", "Shown", "few")
        assert await catalogue.single(text, "m", "few") == ("m", "Shown", "few")
        assert await catalogue.single(text, "chat") == ("chat", "chat", "few")
        assert await catalogue.single(text, "up/a/b") == ("up/a/b", "a/b", "up")
        assert await catalogue.single(text, "a/b", "up") == ("a/b", "a/b", "up")


async def test_a_single_model_is_refused_as_a_request_for_it_would_be(catalogue: Catalogue) -> None:
    cases: list[tuple[str, str | None, Any, str]] = [
        ("nothing", None, BadRequest, "*"),
        ("few/m", None, Forbidden, "x"),
        ("few/absent", None, Forbidden, "x"),
        ("few/absent", None, NotFound, "*"),
        ("m", "nobody", NotFound, "*"),
    ]
    for name, scoped, kind, pattern in cases:
        with pytest.raises(kind):
            await catalogue.single(provider(GONE, "few") + models("few", "m") + may(pattern), name, scoped)


async def test_a_single_model_that_the_upstream_does_not_list_is_404_and_without_its_list_502(
    catalogue: Catalogue,
) -> None:
    async with peer(always(listing("a"))) as up:
        with pytest.raises(NotFound):
            await catalogue.single(provider(up.url) + ALICE, "up/b")
    with pytest.raises(UpstreamFailed):
        await catalogue.single(provider(GONE, "gone") + ALICE, "gone/b")


TWO = ("sk-first-secret", "sk-second-secret")


@pytest.mark.parametrize("status", [401, 403, 429, 500])
async def test_a_list_that_one_credential_is_refused_is_asked_for_by_the_next(
    catalogue: Catalogue, status: int
) -> None:
    async with peer(by_key({TWO[0]: http(b"{}", status), TWO[1]: listing("m")})) as up:
        assert await catalogue.ids(provider(up.url, secrets=TWO) + ALICE) == ["up/m"]
    assert [seen.key for seen in up.seen] == list(TWO)


async def test_a_provider_that_cannot_be_reached_is_asked_once_whatever_its_credentials(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asking, "LIST_SECONDS", 0.05)
    async with peer(silent) as up:
        with pytest.raises(UpstreamFailed):
            await catalogue.ids(provider(up.url, secrets=TWO) + ALICE)
    assert len(up.seen) == 1


async def test_a_kept_list_stands_in_for_one_that_cannot_be_fetched_after_a_restart_too(
    tmp_path: Path,
) -> None:
    failing = False

    async def now_and_then(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await always(http(status=500) if failing else listing("m", "n"))(seen, writer)

    async with peer(now_and_then) as up:
        text = provider(up.url) + ALICE
        async with opened(tmp_path / "gproxy.db") as first:
            assert await first.ids(text) == ["up/m", "up/n"]
            assert await first.stored("up", f"{up.url}/v1/models") == ["m", "n"]
            failing = True
            first.lists.forget()
            assert await first.ids(text) == ["up/m", "up/n"]
        async with opened(tmp_path / "gproxy.db") as second:
            assert await second.ids(text) == ["up/m", "up/n"]
            assert await second.single(text, "up/m") == ("up/m", "m", "up")
            with pytest.raises(NotFound):
                await second.single(text, "up/absent")


async def test_a_kept_list_of_another_address_or_of_long_ago_stands_in_for_none(catalogue: Catalogue) -> None:
    text = provider(GONE) + ALICE
    # The older one first: it would not take the place of a newer one.
    ages = {f"{GONE}/v1/models": lists.OLDEST * 1.01, "http://elsewhere/v1/models": timedelta()}
    for address, age in ages.items():
        work = modellists.keeping("up", address, datetime.now(UTC) - age, [("m", "")])
        await catalogue.writer.run(work)
        catalogue.lists.forget()
        with pytest.raises(UpstreamFailed):
            await catalogue.ids(text)


async def test_a_store_that_cannot_be_written_or_read_only_means_that_nothing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    async with peer(always(listing("m"))) as up, opened(path) as it:
        it.writer.close()
        assert await it.ids(provider(up.url) + ALICE) == ["up/m"]
        path.write_bytes(b"no database at all" * 100)
        with pytest.raises(UpstreamFailed):
            await it.ids(provider(GONE, "gone") + ALICE)


async def test_a_list_that_is_empty_is_one(catalogue: Catalogue) -> None:
    async with peer(always(listing())) as up:
        assert await catalogue.ids(provider(up.url) + ALICE) == []
