"""A store that is taken away, filled, locked or damaged: what a server says of it, and that no spend is forgotten.

Alice may spend a hundred dollars, a dime a call, so that what the store remembers is what she is told.
"""

import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.kit.calls import BY_ID
from tests.kit.gateway import ROOT, Gateway, poll
from tests.kit.settings import model, provider, quota, user
from tests.kit.upstream import Upstream

CHAT = BY_ID["chat"]
DIME = 100_000_000
"""In nano-dollars."""


def config(url: str) -> str:
    return (
        provider("oa", "openai", url)
        + model("oa", "dime", "price_each_call = 0.1\n")
        + user("alice", "sk-client-alice", "*", is_admin=True)
        + quota("alice", 100.0)
    )


@pytest.fixture(scope="module", params=["1", "2"], ids=["one worker", "two workers"])
def shared(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A server for the faults that pass. On a full disk Python would leave half of a module's bytecode behind."""
    folder = tmp_path_factory.mktemp("faults")
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    with Gateway(folder, config(upstream.url), "--workers", request.param, env=env) as gateway:
        yield gateway


@pytest.fixture
def running(shared: Gateway) -> Gateway:
    """The same with a dime spent."""
    shared.change("UPDATE spend SET spent_nano = 0")
    assert ask(shared) == 200
    return shared


@pytest.fixture
def own(upstream: Upstream, tmp_path: Path) -> Iterator[Gateway]:
    """A server for a fault that lasts."""
    with Gateway(tmp_path, config(upstream.url)) as gateway:
        assert ask(gateway) == 200
        yield gateway


@pytest.fixture(scope="module")
def folders(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What servers leave that spent a dime: `ended` well, and `killed`, with all that they wrote still in the log."""
    folder = tmp_path_factory.mktemp("left")
    for name in ("ended", "killed"):
        (folder / name).mkdir()
        with Gateway(folder / name, config(upstream.url)) as gateway:
            assert ask(gateway) == 200
            if name == "killed":
                gateway.kill()
    return folder


@pytest.fixture
def ended(folders: Path, tmp_path: Path) -> Gateway:
    return copied(folders / "ended", tmp_path / "it")


@pytest.fixture
def killed(folders: Path, tmp_path: Path) -> Gateway:
    return copied(folders / "killed", tmp_path / "it")


def copied(folder: Path, to: Path) -> Gateway:
    shutil.copytree(folder, to)
    return Gateway(to, (to / "gproxy.toml").read_text())


def ask(gateway: Gateway) -> int:
    return gateway.post("/oa/v1/chat/completions", CHAT.fields("dime")).status_code


def spent(gateway: Gateway) -> int:
    """In nano-dollars, as the store has it."""
    with closing(sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True)) as db:
        query = "SELECT spent_nano FROM spend WHERE scope = 'user/alice' AND period = 'total'"
        return int((db.execute(query).fetchone() or (0,))[0])


ASKED = 20
"""So many connections that each of two workers has one: which one it is goes by chance."""


def refused(gateway: Gateway, why: str) -> None:
    """Every worker says no, in JSON, and why; the reason is on stderr as well."""

    def all_refuse() -> bool:
        return {ask(gateway) for _ in range(ASKED)} == {503}

    poll(all_refuse, "requests are refused")
    told = poll(lambda: not_ready(gateway), "/ready says so")
    assert why in told
    gateway.wait_line(re.escape(why))
    assert gateway.get("/health", key=None).status_code == 200
    gateway.lines.clear()


def not_ready(gateway: Gateway) -> str | None:
    answer = gateway.get("/ready", key=None)
    return answer.text if answer.status_code == 503 else None


def ready(gateway: Gateway) -> None:
    poll(lambda: {gateway.get("/ready", key=None).status_code for _ in range(ASKED)} == {200}, "ready")
    assert ask(gateway) == 200


def ends_with_loss(gateway: Gateway) -> None:
    """Ends a server whose store does not come back: it says that rows are lost."""
    gateway.process.terminate()
    assert gateway.process.wait(20) == 1
    gateway.wait_line("usage rows could not be written")
    with suppress(ProcessLookupError):  # it has ended
        gateway.kill()


def last_words(gateway: Gateway, *within: str) -> str:
    """What a server says that does not start, in one line."""
    done = subprocess.run(
        (*within, sys.executable, "-m", "gproxy", "serve", "--config", str(gateway.path), "--port", "0"),
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "warning" not in line]
    return line


@contextmanager
def restarted(gateway: Gateway) -> Iterator[Gateway]:
    """The same configuration, served again."""
    with Gateway(gateway.folder, gateway.path.read_text()) as again:
        yield again


# While it runs.


def test_a_store_that_is_removed_lets_nothing_through_until_it_is_back(running: Gateway) -> None:
    """Its quota would be forgotten: SQLite itself writes on into a file that nobody will ever see."""
    away = running.database.rename(running.database.with_name("away"))
    refused(running, "gproxy.db was removed or replaced")
    away.rename(running.database)
    ready(running)
    assert spent(running) >= 2 * DIME


def test_who_asks_what_is_left_is_told_that_the_store_is_gone_and_not_that_nothing_is_spent(
    running: Gateway,
) -> None:
    def quota() -> tuple[int, str]:
        answer = running.get("/user/quota", key="sk-client-alice")
        return answer.status_code, answer.text

    before = quota()
    assert before[0] == 200
    away = running.database.rename(running.database.with_name("away"))
    refused(running, "gproxy.db was removed or replaced")

    def told() -> str | None:
        status, text = quota()
        assert status == 503 or (status, text) == before
        return text if status == 503 else None

    assert "usage store was removed or replaced" in poll(told, "who asks is told")
    away.rename(running.database)
    ready(running)
    assert quota()[0] == 200


def test_a_folder_that_is_moved_away_is_missed_and_found_again(running: Gateway) -> None:
    folder = running.database.parent
    away = folder.rename(running.folder / "away")
    refused(running, "gproxy.db was removed or replaced")
    assert not folder.exists()
    away.rename(folder)
    ready(running)


def test_another_store_in_its_place_is_not_written(own: Gateway) -> None:
    other = own.database.with_name("other.db")
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE other (x)")
    before = other.read_bytes()
    other.replace(own.database)
    refused(own, "gproxy.db was removed or replaced")
    ends_with_loss(own)
    assert own.database.read_bytes() == before


def test_a_log_that_is_removed_is_missed_and_all_of_it_is_kept_at_the_end(own: Gateway) -> None:
    before = spent(own)
    for end in ("-wal", "-shm"):
        own.database.with_name(f"gproxy.db{end}").unlink()
    refused(own, "gproxy.db-wal was removed or replaced")
    ends_with_loss(own)
    assert spent(own) >= before


def test_who_asks_whether_it_is_ready_is_told_of_a_store_that_is_gone_though_no_request_came(
    running: Gateway,
) -> None:
    def missed() -> bool:
        answers = [running.get("/ready", key=None) for _ in range(ASKED)]
        return all(
            answer.status_code == 503 and "gproxy.db was removed or replaced" in answer.text
            for answer in answers
        )

    away = running.database.rename(running.database.with_name("away"))
    try:
        poll(missed, "every worker misses it")
    finally:
        away.rename(running.database)
    ready(running)


TAKEN: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "removed": ("gproxy.db", lambda store, older: store.unlink()),
    "replaced by an older one": ("gproxy.db", lambda store, older: older.replace(store)),
    "its log removed": ("gproxy.db-wal", lambda store, older: store.with_name("gproxy.db-wal").unlink()),
}


@pytest.mark.parametrize("how", TAKEN)
def test_a_worker_that_is_replaced_begins_no_new_store(upstream: Upstream, ended: Gateway, how: str) -> None:
    """Else it would count from nothing, or from what the log has not told yet, while the other refuses."""
    file, take = TAKEN[how]
    with Gateway(ended.folder, config(upstream.url), "--workers", "2") as gateway:
        older = shutil.copy(gateway.database, gateway.folder / "older")
        assert ask(gateway) == 200
        take(gateway.database, Path(older))
        found = gateway.database.exists() and gateway.database.stat()
        listed = subprocess.run(("ps", "-A", "-o", "pid=,ppid="), capture_output=True, text=True, check=True)
        pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
        os.kill(next(pid for pid, parent in pairs if parent == gateway.process.pid), 9)
        gateway.wait_line(f"{file} was removed or replaced while the server runs")
        assert (gateway.database.exists() and gateway.database.stat()) == found

        def all_refuse() -> bool:
            with suppress(httpx.TransportError):  # who waited already is reset
                return {ask(gateway) for _ in range(8)} == {503}
            return False

        poll(all_refuse, "no client waits for what may never begin")
        gateway.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
def test_a_full_disk_refuses_and_is_forgotten_once_there_is_room(running: Gateway) -> None:
    """By a limit on the size of files, which every process of the server gets."""
    pids = [running.process.pid]
    for pid in pids:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        pids += map(int, children.read_text().split())
    before = spent(running)
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    refused(running, "The usage store cannot be written (disk I/O error)")
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ready(running)
    assert before < spent(running) <= 1000 * DIME


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    mount = ("mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "none", str(folder))
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount")
    yield folder
    subprocess.run(("umount", "-l", str(folder)), check=True)


def test_a_disk_that_is_really_full_is_said_to_be_full(
    upstream: Upstream, tmp_path: Path, small_disk: Path
) -> None:
    with Gateway(tmp_path, config(upstream.url)) as gateway:
        assert ask(gateway) == 200
        filler = small_disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        poll(lambda: ask(gateway) == 503, "the log does not grow any more")
        assert "database or disk is full): free some room" in gateway.get("/ready", key=None).text
        filler.unlink()
        ready(gateway)


def test_a_start_on_a_full_disk_says_so_and_leaves_nothing_that_keeps_the_next_from_starting(
    upstream: Upstream, tmp_path: Path, small_disk: Path
) -> None:
    """Whatever room there is: for the file, for its log, or for half of its tables."""
    gateway = Gateway(tmp_path, config(upstream.url))
    filler = small_disk / "filler"
    for room in (0, 4096, 40_000):
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        os.truncate(filler, filler.stat().st_size - room)
        assert re.search(r"\((database or disk is full|disk I/O error)\): .*room", last_words(gateway))
        filler.unlink()
    with gateway:
        assert ask(gateway) == 200


@pytest.mark.skipif(sys.platform == "win32", reason="who is root")
def test_a_lock_is_waited_for_once_and_then_refusals_come_at_once(own: Gateway) -> None:
    with closing(sqlite3.connect(own.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            refused(own, "The usage store cannot be written (database is locked): close the program")
            assert {own.post("/oa/v1/chat/completions", b"{").status_code for _ in range(3)} == {400}
        finally:
            other.execute("ROLLBACK")
    ready(own)


def test_a_lock_that_stays_keeps_no_worker_from_saying_what_it_has_lost(
    upstream: Upstream, tmp_path: Path
) -> None:
    """One that waits for it too long is killed, and says nothing."""
    with Gateway(tmp_path, config(upstream.url), "--workers", "2") as gateway:
        with closing(sqlite3.connect(gateway.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert ask(gateway) == 503
            gateway.process.terminate()
            ends_with_loss(gateway)
        assert "is killed" not in gateway.stderr


def test_a_page_that_is_damaged_is_told_of_when_it_is_needed(ended: Gateway) -> None:
    """Whose schema is whole, so that a server starts on it."""
    with closing(sqlite3.connect(ended.database)) as db:
        (root,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_usage_1'"
        ).fetchone()
    with ended.database.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    with restarted(ended) as again:
        assert ask(again) == 503
        assert "database disk image is malformed): the file is damaged" in again.get("/ready", key=None).text
        ends_with_loss(again)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_a_request_cost_is_spent_though_the_store_refuses_its_row(
    upstream: Upstream, tmp_path: Path, workers: str
) -> None:
    """No client is told of an answer that no row tells of, and no quota is passed by it."""
    with Gateway(tmp_path, config(upstream.url), "--workers", workers) as gateway:
        execute(
            gateway.database,
            "CREATE TRIGGER never BEFORE INSERT ON usage BEGIN SELECT RAISE(ABORT, 'not here'); END",
        )
        assert [ask(gateway) for _ in range(3)] == [503] * 3
        assert (spent(gateway), gateway.rows()) == (3 * DIME, [])
        gateway.wait_line("refused the row of req_.*not here.*: what it cost is spent")
        counted = "\ngproxy_usage_rows_refused_total 3.0\n"
        poll(
            lambda: counted in gateway.get("/metrics", key="sk-client-alice").text,
            "every worker's are counted",
        )
        execute(gateway.database, "DROP TRIGGER never")
        assert ask(gateway) == 200
        gateway.cli("usage", "verify")


# At the start.

DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (
        lambda path: path.write_bytes(os.urandom(8192)),
        "is not a usable SQLite database: move it away",
    ),
    "cut short": (lambda path: os.truncate(path, 8192), "is not a usable SQLite database: move it away"),
    "flipped bytes": (
        lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096)),
        "is not a usable SQLite database: move it away",
    ),
    "of a newer version": (
        lambda path: execute(path, "INSERT INTO _sqlite_migrations VALUES (99, 'gproxy', 'm099', '')"),
        "was written by a newer gproxy (it has 'm099'): update gproxy, or choose another data_dir",
    ),
    "of somebody else": (
        lambda path: (
            path.unlink(),
            execute(path, "CREATE TABLE mine (x)"),
            execute(path, "PRAGMA user_version=7"),
        ),
        "is no usage store of gproxy's: move it away, or choose another data_dir",
    ),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "(Is a directory)"),
    "a file for a folder": (
        lambda path: (shutil.rmtree(path.parent), path.parent.write_bytes(b"")),
        "cannot be made: File exists",
    ),
}


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement)


@pytest.mark.parametrize("id", DAMAGE)
def test_a_store_that_is_damaged_is_left_alone_and_serves_nothing(ended: Gateway, id: str) -> None:
    do, why = DAMAGE[id]
    do(ended.database)
    before = ended.database.read_bytes() if ended.database.is_file() else None
    assert why in last_words(ended)
    if before is not None:
        assert ended.database.read_bytes() == before


@pytest.mark.parametrize("emptied", [True, False])
def test_a_log_without_its_store_is_not_thrown_away(killed: Gateway, emptied: bool) -> None:
    whole = killed.database.read_bytes()
    os.truncate(killed.database, 0) if emptied else killed.database.unlink()
    log = killed.database.with_name("gproxy.db-wal").read_bytes()
    assert "is missing or empty, but its write-ahead log is there" in last_words(killed)
    assert killed.database.with_name("gproxy.db-wal").read_bytes() == log
    killed.database.write_bytes(whole)
    with restarted(killed) as again:
        assert spent(again) == DIME


def test_a_log_that_is_gone_after_a_kill_is_missed(killed: Gateway) -> None:
    killed.database.with_name("gproxy.db-wal").unlink()
    with restarted(killed) as again:
        again.wait_line("server before was killed, and .*gproxy.db-wal has been removed since")
        assert ask(again) == 200


def test_an_index_or_a_foreign_log_that_is_left_over_does_no_harm(killed: Gateway) -> None:
    killed.database.with_name("gproxy.db-shm").unlink()
    with restarted(killed) as again:
        assert spent(again) == DIME
    for end in ("-wal", "-shm"):
        again.database.with_name(f"gproxy.db{end}").write_bytes(os.urandom(40_000))
    with restarted(killed) as again:
        assert spent(again) == DIME


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_store_that_begins_anew_is_told_of(ended: Gateway, how: str) -> None:
    shutil.rmtree(ended.database.parent) if how == "removed" else os.truncate(ended.database, 0)
    with restarted(ended) as again:
        again.wait_line("made a new usage store, .*: what is spent counts from now on")
        assert ask(again) == 200


@pytest.mark.skipif(sys.platform != "linux", reason="rights of root")
def test_a_store_that_may_not_be_written_serves_nothing(ended: Gateway) -> None:
    within: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everything")
        within = ("setpriv", "--bounding-set=-dac_override")
    ended.database.chmod(0o400)
    assert "(Permission denied): make it writable, or choose another data_dir" in last_words(ended, *within)
