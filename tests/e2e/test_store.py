"""The usage store of a running server: private, without secrets, and honest when it cannot be written."""

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.calls import BY_ID
from tests.kit.gateway import KEY, UPSTREAM_KEY, Gateway, poll
from tests.kit.settings import everything
from tests.kit.upstream import Script, Upstream

CHAT = BY_ID["chat"]


@pytest.fixture
def own(upstream: Upstream, tmp_path: Path) -> Iterator[Gateway]:
    before = os.umask(0)
    try:
        with Gateway(tmp_path, everything(upstream.url)) as gateway:
            yield gateway
    finally:
        os.umask(before)


def test_what_is_written_is_ours_alone_under_any_umask(own: Gateway, upstream: Upstream) -> None:
    own.post("/oa/v1/chat/completions", CHAT.fields(upstream.model()))
    folder = own.database.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    assert "gproxy.db" in modes
    assert set(modes.values()) == {0o600}, modes


def test_no_secret_is_left_behind(own: Gateway, upstream: Upstream) -> None:
    echo = f'{{"error": {{"message": "bad {UPSTREAM_KEY} from {KEY}"}}}}'.encode()
    for script in (
        Script(),
        Script(status=400, body=echo),
        Script(status=500, body=echo),
        Script(then="cut", stop_after=1),
    ):
        for id in ("chat", "chat-stream"):
            answer = own.post("/oa/v1/chat/completions", BY_ID[id].fields(upstream.model(script)))
            assert UPSTREAM_KEY not in answer.text
    own.post(
        f"/ge/v1beta/models/{upstream.model()}:generateContent?key={KEY}", BY_ID["generate"].body, key=None
    )
    own.post("/oa/v1/chat/completions", b"{", key="sk-a-stranger-s-secret")
    written = b"".join(path.read_bytes() for path in own.database.parent.rglob("*") if path.is_file())
    for secret in (UPSTREAM_KEY, KEY, "sk-a-stranger-s-secret"):
        assert secret not in own.stderr
        assert secret.encode() not in written


def test_a_store_that_is_locked_holds_answers_back_or_refuses_and_recovers(
    own: Gateway, upstream: Upstream
) -> None:
    """Nobody is answered in full without a row; when the lock is gone, all is as before."""
    assert own.post("/oa/v1/chat/completions", CHAT.fields(upstream.model())).status_code == 200
    lock = sqlite3.connect(own.database, isolation_level=None)
    models = [upstream.model() for _ in range(5)]
    statuses: dict[str, int] = {}

    def ask(model: str) -> None:
        statuses[model] = own.post("/oa/v1/chat/completions", CHAT.fields(model)).status_code

    threads = [threading.Thread(target=ask, args=(model,)) for model in models]
    lock.execute("BEGIN EXCLUSIVE")
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(1)
        assert 200 not in statuses.values()
        assert own.get("/health", key=None).status_code == 200
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    for thread in threads:
        thread.join()
    for model, status in statuses.items():
        assert status in (200, 503)
        assert len(own.rows(model=model)) == 1 or status == 503
    poll(lambda: own.get("/ready", key=None).status_code == 200, "ready again")
    assert own.post("/oa/v1/chat/completions", CHAT.fields(upstream.model())).status_code == 200
