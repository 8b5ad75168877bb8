"""A running server follows its file: each good version is put in force, a bad one is told of and changes nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gproxy.config.problems import Problem
from gproxy.config.snapshot import Snapshot
from gproxy.config.source import Loaded, load_file
from gproxy.providers.catalog import CHANNELS
from gproxy.server.process import watch


def text(name: str) -> str:
    return f'[[providers]]\nname = "{name}"\nchannel = "demo"\n'


class Watched:
    """A file under watch, and what was made of it: a snapshot's provider, or why there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.news: asyncio.Queue[str] = asyncio.Queue()
        self.failure: str | None = None
        self.threads: list[int] = []
        self.unreadable = 0

    def load(self) -> Loaded:
        self.threads.append(threading.get_ident())
        if self.unreadable:
            self.unreadable -= 1
            return Loaded(None, None, (Problem("error", 0, "", "cannot be read"),), unread=True)
        return load_file(self.path, channels=CHANNELS, environ={})

    def swap(self, snapshot: Snapshot) -> None:
        self.news.put_nowait(" ".join(snapshot.providers))

    def fail(self, reason: str | None) -> None:
        self.failure = reason
        if reason is not None:
            self.news.put_nowait(f"bad: {reason}")

    async def next(self) -> str:
        return await asyncio.wait_for(self.news.get(), 5)

    def rename_over(self, content: str) -> None:
        """Replace the file as an editor does."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(content)
        fresh.replace(self.path)


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    it = Watched(tmp_path / "gproxy.toml")
    it.path.write_text(text("first"))
    task = asyncio.create_task(watch.watch(it.path, watch.look(it.path), it.load, it.swap, it.fail))
    await asyncio.sleep(0)
    yield it
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), task.exception()


async def test_a_file_that_is_written_anew_is_put_in_force(watched: Watched) -> None:
    watched.path.write_text(text("second"))
    assert await watched.next() == "second"
    assert watched.failure is None


async def test_a_file_that_is_renamed_into_place_is_put_in_force(watched: Watched) -> None:
    for name in ("second", "third"):
        watched.rename_over(text(name))
        assert await watched.next() == name


async def test_an_edit_of_the_same_length_is_noticed(watched: Watched) -> None:
    watched.rename_over(text("fifth"))
    assert await watched.next() == "fifth"


async def test_a_bad_edit_is_told_of_and_changes_nothing(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.rename_over(text("second") + "[[models]]\nprovider_name = 'nobody'\nmodel_id = 'm'\n")
    told = await watched.next()
    assert told.startswith("bad: ")
    assert "gproxy.toml:" in told
    said = capsys.readouterr().err
    assert "gproxy.toml:" in said
    assert "the configuration before it is" in said
    assert watched.news.empty()


async def test_every_problem_of_a_bad_edit_is_printed(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.rename_over("[global]\nport = 'x'\nhots = 'y'\n")
    await watched.next()
    said = capsys.readouterr().err
    assert "global.port" in said
    assert "hots" in said


async def test_a_half_written_file_is_not_kept_and_its_end_is_put_in_force(watched: Watched) -> None:
    whole = text("second")
    watched.path.write_text(whole[:20])
    assert (await watched.next()).startswith("bad: ")
    watched.path.write_text(whole)
    assert await watched.next() == "second"
    assert watched.failure is None


async def test_what_is_wrong_is_told_where_the_server_logs_and_elsewhere_only_its_place(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    more = '[[permissions]]\nuser_name = "nobody"\nmodel_pattern = "*"\n'
    watched.path.write_text(text("second") + more)
    told = await watched.next()
    assert "error at gproxy.toml:" in told
    assert ": permissions[" in told
    assert "nobody" not in told
    assert 'there is no user "nobody"' in capsys.readouterr().err


async def test_a_file_that_is_gone_changes_nothing_until_it_is_back(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.path.unlink()
    assert "error at gproxy.toml;" in await watched.next()
    assert "no such file" in capsys.readouterr().err
    watched.path.write_text(text("back"))
    assert await watched.next() == "back"
    assert watched.failure is None


async def test_a_file_that_cannot_be_read_is_told_of_once_and_put_in_force_as_soon_as_it_can(
    watched: Watched,
) -> None:
    """For want of a descriptor, say: nothing of the file tells that there is one again."""
    watched.unreadable = 3
    watched.rename_over(text("second"))
    assert (await watched.next()).startswith("bad: ")
    assert await watched.next() == "second"
    assert watched.failure is None


async def test_a_file_that_is_emptied_is_a_bad_edit(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be good TOML, and nobody would be served any more."""
    watched.path.write_text("")
    assert "error at gproxy.toml;" in await watched.next()
    assert "error: is empty" in capsys.readouterr().err
    watched.path.write_text(text("second"))
    assert await watched.next() == "second"


async def test_a_bad_edit_that_is_taken_back_is_mended(watched: Watched) -> None:
    watched.rename_over("nonsense")
    assert (await watched.next()).startswith("bad: ")
    watched.rename_over(text("first"))
    assert await watched.next() == "first"
    assert watched.failure is None


async def test_a_file_that_does_not_change_is_not_read(watched: Watched) -> None:
    await asyncio.sleep(0.1)
    assert watched.threads == []


async def test_the_file_is_read_off_the_loop(watched: Watched) -> None:
    watched.rename_over(text("second"))
    await watched.next()
    assert threading.get_ident() not in watched.threads


async def test_no_secret_is_told(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    watched.rename_over(text("up") + 'credentials = [{ api_key = "sk-CANARY", label = 7 }]\n')
    assert "CANARY" not in await watched.next()
    assert "CANARY" not in capsys.readouterr().err


async def test_an_edit_between_the_first_reading_and_the_watch_is_put_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    it = Watched(tmp_path / "gproxy.toml")
    it.path.write_text(text("first"))
    seen = watch.look(it.path)
    it.rename_over(text("second"))
    task = asyncio.create_task(watch.watch(it.path, seen, it.load, it.swap, it.fail))
    assert await it.next() == "second"
    task.cancel()
    await asyncio.wait([task])


def test_the_last_good_version_outlives_bad_ones_and_makes_way_for_a_better(tmp_path: Path) -> None:
    it = Watched(tmp_path / "gproxy.toml")
    it.path.write_text(text("first"))

    def load(*, with_secrets: bool = True) -> Loaded:
        assert not with_secrets
        return it.load()

    good = watch.LastGood(it.load(), load, it.path)
    for content, kept in ((text("second"), "second"), ("nonsense", "second"), (text("third"), "third")):
        it.rename_over(content)
        good.look()
        assert good.loaded.snapshot is not None
        assert list(good.loaded.snapshot.providers) == [kept]
    it.path.unlink()
    good.look()
    assert good.loaded.config is not None


def test_a_version_that_could_not_be_read_is_looked_for_again(tmp_path: Path) -> None:
    it = Watched(tmp_path / "gproxy.toml")
    it.path.write_text(text("first"))
    good = watch.LastGood(it.load(), lambda with_secrets=True: it.load(), it.path)
    it.rename_over(text("second"))
    it.unreadable = 1
    for kept in ("first", "second"):
        good.look()
        assert good.loaded.snapshot is not None
        assert list(good.loaded.snapshot.providers) == [kept]


def test_the_last_good_version_is_not_read_again_while_the_file_looks_the_same(tmp_path: Path) -> None:
    it = Watched(tmp_path / "gproxy.toml")
    it.path.write_text(text("first"))
    good = watch.LastGood(it.load(), lambda with_secrets=True: it.load(), it.path)
    for _ in range(3):
        good.look()
    assert len(it.threads) == 2
