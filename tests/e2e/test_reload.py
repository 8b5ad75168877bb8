"""Edits of a running server: in force within two seconds, with no request lost; a bad edit changes nothing."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import httpx
import pytest

from tests.kit.calls import BY_ID
from tests.kit.gateway import KEY, Gateway, poll
from tests.kit.settings import everything, model, provider
from tests.kit.upstream import Script, Upstream

CHAT = BY_ID["chat"]


class Load:
    """Fifty requests a second from ten clients; `failures` is what went wrong, `done` how many were answered."""

    def __init__(self, gateway: Gateway) -> None:
        self.failures: list[str] = []
        self.done = 0
        self._gateway = gateway
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(10)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        with self._gateway.client() as client:
            while not self._over.wait(0.2):
                try:
                    answer = client.post("/v1/chat/completions", json=CHAT.fields("chat-default"))
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    continue
                self.done += 1
                if answer.status_code != 200 or "inner" in answer.text:
                    self.failures.append(answer.text)


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("reload"), everything(upstream.url)) as gateway:
        yield gateway


def in_force(look: Callable[[], bool], what: str) -> float:
    """Waits for an edit that is just over; seconds until it held, at most 2."""
    began = time.monotonic()
    poll(look, what, within=2.0)
    return time.monotonic() - began


def status(gateway: Gateway, name: str, key: str = KEY) -> int:
    return gateway.post("/v1/chat/completions", CHAT.fields(name), key=key).status_code


def test_keys_aliases_and_providers_come_to_life_under_load(running: Gateway, upstream: Upstream) -> None:
    with Load(running) as load:
        fresh = running.cli("keys", "create", "--user", "alice", "--label", "fresh").strip()
        in_force(lambda: status(running, "chat-default", fresh) == 200, "the new key")

        running.cli("alias", "set", "brand-new", "oa/some-model")
        in_force(lambda: status(running, "brand-new") == 200, "the alias")

        running.edit(lambda text: text + provider("added", "openai", upstream.url))
        in_force(lambda: status(running, "added/m") == 200, "the provider")

        running.cli("keys", "revoke", "alice/fresh")
        in_force(lambda: status(running, "chat-default", fresh) == 401, "the revoked key")
        assert load.done > 20
    assert load.failures == []
    assert "# Served by the end-to-end tests." in running.path.read_text()


BROKEN = {
    "syntax": "\n[[providers]\nname = 3\n",
    "unknown-key": '\n[[model_aliases]]\nalias = "z"\nprovider_nam = "oa"\nmodel_id = "m"\n',
    "dangling": '\n[[model_aliases]]\nalias = "z"\nprovider_name = "nobody"\nmodel_id = "m"\n',
}


@pytest.mark.parametrize("id", BROKEN)
def test_a_broken_file_changes_nothing_and_says_so(running: Gateway, id: str) -> None:
    good = running.path.read_text()
    line = good.count("\n") + 2
    seen = len(running.lines)
    with Load(running) as load, restored(running):
        running.edit(lambda text: text + BROKEN[id])
        ready = poll(lambda: not_ready(running), "/ready says no", within=2.0)
        assert status(running, "chat-default") == 200
        named = running.wait_line(r"gproxy\.toml:(\d+): error", since=seen)
        assert line - 1 <= int(named.group(1)) <= line + 5
        assert ready.headers["content-type"].startswith("application/json")
        assert f"error at gproxy.toml:{named.group(1)}" in ready.text
        assert "nobody" not in ready.text, "names are told to valid keys alone"
        assert "did you mean" not in ready.text
    assert load.failures == []


@contextmanager
def restored(gateway: Gateway) -> Iterator[None]:
    """Mends the file at the end, come what may, and waits until the server is content with it."""
    good = gateway.path.read_text()
    try:
        yield
    finally:
        gateway.edit(lambda _: good)
    in_force(lambda: gateway.get("/ready", key=None).status_code == 200, "the mended file")


def not_ready(gateway: Gateway) -> httpx.Response | None:
    answer = gateway.get("/ready", key=None)
    return answer if answer.status_code == 503 else None


def test_a_file_that_is_gone_or_empty_for_a_moment_changes_nothing(running: Gateway) -> None:
    good = running.path.read_text()
    with Load(running) as load:
        running.path.rename(running.path.with_suffix(".away"))
        time.sleep(1.2)  # longer than the server looks away
        assert status(running, "chat-default") == 200
        running.path.with_suffix(".away").rename(running.path)
        running.edit(lambda _: good + "\n")
        in_force(lambda: running.get("/ready", key=None).status_code == 200, "the file is back")
    assert load.failures == []


def test_an_edit_in_place_is_noticed_too(running: Gateway) -> None:
    with running.path.open("a") as file:
        file.write('\n[[model_aliases]]\nalias = "in-place"\nprovider_name = "oa"\nmodel_id = "m"\n')
    in_force(lambda: status(running, "in-place") == 200, "the alias")


def test_many_edits_at_once_all_arrive(running: Gateway) -> None:
    threads = [
        threading.Thread(target=running.cli, args=("alias", "set", f"many-{n}", f"oa/m-{n}"))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(6):
        in_force(lambda n=n: status(running, f"many-{n}") == 200, f"alias {n}")  # type: ignore[misc]  # bound now


PRICE = "price_tiers = [{ price_input_tokens = 2.0, price_output_tokens = 8.0 }]\n"
CHANGES = {
    "revoked": ("keys revoke NAME/k", 401),
    "disabled": ("keys disable NAME/k", 401),
    "rotated": ("keys rotate NAME/k", 401),
    "user-disabled": ("users disable NAME", 401),
    "user-removed": ("users remove NAME", 401),
    "not-permitted": ("permissions remove NAME *", 403),
    "quota-lowered": ("quota set NAME 0.00000001 --key k", 402),
    "quota-removed": ("quota set NAME none --key k", 200),
}


@pytest.fixture(scope="module")
def changing(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server with a user and a model of theirs for each change; in the end its books are in order."""
    text = "[global]\n" + provider("oa", "openai", upstream.url)
    for change in CHANGES:
        text += model("oa", change, PRICE) + f'[[users]]\nname = "{change}"\n'
        text += f'[[users.keys]]\nlabel = "k"\napi_key = "sk-{change}"\nquota = 5.0\n'
        text += f'[[permissions]]\nuser_name = "{change}"\nmodel_pattern = "*"\n'
    with Gateway(tmp_path_factory.mktemp("changing"), text) as gateway:
        yield gateway
        gateway.cli("usage", "verify")


@pytest.mark.parametrize("change", CHANGES)
def test_a_request_under_way_ends_by_the_policy_that_it_began_with(
    upstream: Upstream, changing: Gateway, change: str
) -> None:
    """The next one meets the new one; what the first has cost is charged, and nothing stays held."""
    command, status_then = CHANGES[change]
    name = upstream.model(Script(stop_after=1, then="gate"), change)
    asked, key = CHAT.fields(f"oa/{name}"), f"sk-{change}"
    with changing.client(key) as client:
        with client.stream("POST", "/v1/chat/completions", json=asked | {"stream": True}) as answer:
            events = answer.iter_raw()
            got = next(events)
            changing.cli(*command.replace("NAME", change).split())

            def status_now() -> bool:
                return changing.post("/v1/chat/completions", asked, key=key).status_code == status_then

            upstream.model(Script(), name)
            poll(status_now, f"{status_then} for the next")
            upstream.open_gate(name)
            got += b"".join(events)
        assert got.endswith(b"data: [DONE]\n\n")
    row = changing.wait_row(model=name, stream=1)
    assert (row["user"], row["key_label"], row["status"], row["outcome"], row["usage_source"]) == (
        change,
        "k",
        200,
        "ok",
        "upstream",
    )
    assert row["cost_usd"] > 0
    with closing(sqlite3.connect(f"file:{changing.database}?mode=ro", uri=True)) as store:
        assert store.execute("SELECT count(*) FROM reservations").fetchone() == (0,)
