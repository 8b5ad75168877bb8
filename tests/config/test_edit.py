"""An edit is whole or nothing, loses no other edit, and keeps every byte that it is not about."""

import contextlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.config.document import Document
from gproxy.config.edit import create, edit
from gproxy.config.load import load
from gproxy.errors import ConfigError
from gproxy.providers import catalog
from tests.kit.fulldisk import full_disk
from tests.kit.gateway import ROOT

CHANNELS = {name: catalog.CHANNELS[name] for name in ("demo",)}

FILE = """\
# top
[global]
port = 8787   # the port

[[users]]
name = "alice" # first
"""


def write(folder: Path, text: str = FILE) -> Path:
    path = folder / "gproxy.toml"
    path.write_bytes(text.encode())
    path.chmod(0o600)
    return path


ADDING = """
import sys
from pathlib import Path
from gproxy.config.edit import edit
from gproxy.providers.catalog import CHANNELS
name = sys.argv[2]
edit(Path(sys.argv[1]), lambda it: it.add(("users",), {"name": name}), channels=CHANNELS, environ={})
"""
"""The same in a process of its own."""


def add_user(path: Path, name: str) -> None:
    edit(
        path, lambda document: document.add(("users",), {"name": name}), channels=CHANNELS, environ=os.environ
    )


def test_the_result_of_the_change_is_returned_and_the_file_changed(tmp_path: Path) -> None:
    path = write(tmp_path)

    def change(document: Document) -> int:
        document.set(("global",), "port", 9000)
        return 42

    assert edit(path, change, channels=CHANNELS, environ={}) == 42
    assert path.read_text() == FILE.replace("8787", "9000")


def test_an_edit_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = path.stat()
    edit(path, lambda document: None, channels=CHANNELS, environ={})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_result_with_errors_is_refused_with_all_of_them_and_the_file_left(tmp_path: Path) -> None:
    path = write(tmp_path)

    def change(document: Document) -> None:
        document.add(("permissions",), {"user_name": "bob", "model_pattern": "*"})
        document.set(("global",), "port", 70000)

    with pytest.raises(ConfigError, match="would have errors") as caught:
        edit(path, change, channels=CHANNELS, environ={})
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].startswith("error: global.port")
    assert path.read_text() == FILE


def test_a_change_that_raises_leaves_the_file_and_the_lock(tmp_path: Path) -> None:
    path = write(tmp_path)

    def change(document: Document) -> None:
        document.set(("global",), "port", 1)
        raise LookupError("no such user")

    with pytest.raises(LookupError):
        edit(path, change, channels=CHANNELS, environ={})
    assert path.read_text() == FILE
    add_user(path, "bob")


def test_a_file_that_is_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "[global]\nport = ")
    with pytest.raises(ConfigError, match="before it is mended") as caught:
        add_user(path, "bob")
    assert caught.value.problems == (
        "gproxy.toml:2: error: is not TOML: invalid value, at the end of the file",
    )
    assert path.read_text() == "[global]\nport = "


def test_an_edit_may_mend_what_was_wrong(tmp_path: Path) -> None:
    path = write(tmp_path, FILE.replace("8787", "99999"))
    edit(path, lambda document: document.set(("global",), "port", 1), channels=CHANNELS, environ={})
    assert path.read_text() == FILE.replace("8787", "1")


def test_the_result_is_held_against_the_environment_that_it_will_run_in(tmp_path: Path) -> None:
    """The half of a pair that the environment gives counts; a variable that is wrong is told by name."""
    path = write(tmp_path)

    def change(document: Document) -> None:
        document.set(("global",), "tls_certificate", "c.pem")

    with pytest.raises(ConfigError):
        edit(path, change, channels=CHANNELS, environ={})
    edit(path, change, channels=CHANNELS, environ={"GPROXY_TLS_KEY": "k.pem"})
    with pytest.raises(ConfigError) as caught:
        edit(
            path,
            lambda document: document.set(("global",), "port", 1),
            channels=CHANNELS,
            environ={"GPROXY_TLS_KEY": "k.pem", "GPROXY_PORT": "abc"},
        )
    assert caught.value.problems == ("error: GPROXY_PORT: must be a whole number",)


def test_a_missing_file_is_refused_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be edited: No such file"):
        add_user(tmp_path / "gproxy.toml", "bob")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_the_file_its_lock_and_nothing_else_are_left_private_under_any_umask(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.chmod(0o644)
    before = os.umask(0)
    try:
        add_user(path, "bob")
    finally:
        os.umask(before)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()}
    assert modes == {"gproxy.toml": 0o600, "gproxy.toml.lock": 0o600}


def test_what_a_killed_edit_left_behind_is_removed_by_the_next_and_nothing_else_is(tmp_path: Path) -> None:
    path = write(tmp_path)
    kill = "os.replace = lambda *_: os._exit(9)"
    program = f"import os, sys; from gproxy.cli.main import main; {kill}; main(sys.argv[1:])"
    command = (sys.executable, "-c", program, "users", "add", "carol", "--config", str(path))
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 9
    assert [name for name in os.listdir(tmp_path) if name.endswith(".gproxy-half")]
    (tmp_path / ".gproxy.toml.swp").touch()  # an editor's
    add_user(path, "bob")
    assert sorted(os.listdir(tmp_path)) == [".gproxy.toml.swp", "gproxy.toml", "gproxy.toml.lock"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_of_a_link_the_target_is_edited(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = write(tmp_path / "real")
    link = tmp_path / "gproxy.toml"
    link.symlink_to(target)
    add_user(link, "bob")
    assert link.is_symlink()
    assert 'name = "bob"' in target.read_text()


def test_a_lock_that_cannot_be_made_is_refused_with_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "gproxy.toml.lock").mkdir()
    with pytest.raises(ConfigError, match="cannot be edited"):
        add_user(path, "bob")
    assert path.read_text() == FILE


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give files away")
def test_an_edit_by_root_leaves_file_and_lock_to_their_owner(tmp_path: Path) -> None:
    path = write(tmp_path)
    os.chown(path, 1234, 1234)
    add_user(path, "bob")
    assert {entry.stat().st_uid for entry in tmp_path.iterdir()} == {1234}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give files away")
def test_an_edit_by_root_gives_away_no_file_that_the_owner_has_put_in_the_place_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, others = tmp_path / "home", tmp_path / "others"
    folder.mkdir()
    others.write_text("root's")
    path = write(folder)
    os.chown(path, 1234, 1234)
    written = os.fsync

    def swapped(descriptor: int) -> None:
        written(descriptor)
        for half in folder.glob(".*-half"):
            half.unlink()
            half.symlink_to(others)

    monkeypatch.setattr(os, "fsync", swapped)
    add_user(path, "bob")
    assert path.is_symlink()
    assert others.stat().st_uid == 0


def test_edits_of_parallel_threads_lose_nothing(tmp_path: Path) -> None:
    path = write(tmp_path)
    names = [f"t{n}" for n in range(24)]
    threads = [threading.Thread(target=add_user, args=(path, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert users(path) == {"alice", *names}


def test_edits_of_parallel_processes_lose_nothing(tmp_path: Path) -> None:
    path = write(tmp_path)
    names = [f"p{n}" for n in range(8)]
    processes = [
        subprocess.Popen([sys.executable, "-c", ADDING, path, name], env=os.environ | {"PYTHONPATH": ROOT})
        for name in names
    ]
    assert [process.wait() for process in processes] == [0] * 8
    assert users(path) == {"alice", *names}


def test_a_reader_never_sees_a_part_of_an_edit(tmp_path: Path) -> None:
    path = write(tmp_path)
    done = threading.Event()
    seen: list[bool] = []

    def watch() -> None:
        while not done.is_set():
            config, _ = load(path.read_bytes(), channels=CHANNELS)
            seen.append(config is not None and bool(config.users))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for n in range(30):
        add_user(path, f"u{n}")
    done.set()
    watcher.join()
    assert all(seen)


def users(path: Path) -> set[str]:
    config, problems = load(path.read_bytes(), channels=CHANNELS)
    assert config is not None, problems
    return {user.name for user in config.users}


REMARKS = st.sampled_from(["", "  # a remark", "# [[users]]", '\t# name = "x"', "   "])
BLOCKS = {
    "[global]": [
        "port = 8787 # p",
        "host='127.0.0.1'",
        'allowed_hosts = [ # hosts\n  "a",\n  "b", # last\n]',
    ],
    "[[providers]]": ['name = "p{n}"', "channel = 'demo' # d", "settings.max_attempts=3"],
    "[[users]]": ['"name" = "u{n}"', "is_admin   =   true # !"],
}


@st.composite
def files(draw: st.DrawFn) -> str:
    """A valid file in untidy shape: tables of one array apart, remarks anywhere, any line end, or none at last."""
    heads = draw(st.lists(st.sampled_from(["[[providers]]", "[[users]]"]), max_size=5))
    heads.insert(draw(st.integers(0, len(heads))), "[global]")
    lines = [draw(REMARKS)]
    for n, head in enumerate(heads):
        lines += [draw(st.sampled_from(["", "  "])) + head + draw(st.sampled_from(["", " # head"]))]
        for line in draw(st.permutations(BLOCKS[head])):
            lines += [line.replace("{n}", str(n)), draw(REMARKS)]
    end = draw(st.sampled_from(["\n", ""]))
    return ("\n".join(lines) + end).replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


# Each example flushes to the disk twice: how long that takes is the machine's affair.
@settings(deadline=None)
@given(files())
def test_adding_and_removing_a_table_keeps_every_other_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = write(tmp_path_factory.mktemp("edit"), text)
    add_user(path, "new")
    grown = path.read_bytes().decode()
    assert "new" in users(path)
    ending = "\r\n" if "\r\n" in text else "\n"
    assert grown.count("\r\n") == (grown.count("\n") if ending == "\r\n" else 0)
    assert grown.endswith("\n") == text.endswith("\n")
    rest = iter(grown.split(ending))
    assert all(line in rest for line in text.split(ending)), "every line is still there, in the same order"

    def remove(document: Document) -> None:
        names = [user["name"] for user in document.tables("users")]
        document.remove(("users", names.index("new")))

    edit(path, remove, channels=CHANNELS, environ={})
    shrunk = path.read_bytes().decode()
    assert [line for line in shrunk.split(ending) if line.strip()] == [
        line for line in text.split(ending) if line.strip()
    ]


def test_a_new_file_is_written_private_in_a_folder_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "config" / "gproxy.toml"
    create(path, "# ünï\n", channels=CHANNELS, environ={})
    assert path.read_bytes() == "# ünï\n".encode()
    assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_existing_file_or_link_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(ConfigError, match="exists"):
        create(path, "# new", channels=CHANNELS, environ={})
    assert path.read_text() == FILE
    link = tmp_path / "link.toml"
    link.symlink_to(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="exists"):
        create(link, "# new", channels=CHANNELS, environ={})
    assert not (tmp_path / "nowhere.toml").exists()


def test_a_new_file_with_errors_is_not_written_and_nothing_happens_beside_it(tmp_path: Path) -> None:
    path, happened = tmp_path / "gproxy.toml", Beside()
    text = '[[users]]\n[[providers]]\nname = "v1"\nchannel = "demo"\n'
    with pytest.raises(ConfigError, match="was not written") as caught:
        create(path, text, channels=CHANNELS, environ={}, beside=happened)
    assert caught.value.problems == (
        "error: users[0]: `name` is missing",
        'error: providers[0].name: "v1" is a path of gproxy itself; choose another name',
    )
    assert list(tmp_path.iterdir()) == []
    assert happened.told == []


def test_what_is_beside_a_new_file_is_undone_when_that_exists(tmp_path: Path) -> None:
    happened = Beside()
    with pytest.raises(ConfigError, match="exists"):
        create(write(tmp_path), "# new", channels=CHANNELS, environ={}, beside=happened)
    assert happened.told == ["done", "undone"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_of_a_new_file_that_the_disk_has_no_room_for_nothing_stays(tmp_path: Path) -> None:
    """A part would be taken for the file, which is left as it is."""
    path, happened = tmp_path / "gproxy.toml", Beside()
    for room in (0, 5):
        with full_disk(room), pytest.raises(ConfigError, match="cannot be written: File too large"):
            create(path, "# a new file\n", channels=CHANNELS, environ={}, beside=happened)
        assert list(tmp_path.iterdir()) == []
    assert happened.told == ["done", "undone"] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_an_edit_that_the_disk_has_no_room_for_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path)
    for room in (0, len(FILE)):
        with full_disk(room), pytest.raises(ConfigError, match="cannot be written: File too large"):
            edit(
                path, lambda document: document.set(("global",), "port", 18787), channels=CHANNELS, environ={}
            )
        assert path.read_text() == FILE
        assert [each.name for each in tmp_path.iterdir() if each.name.endswith("half")] == []


def test_errors_of_a_refused_edit_have_the_lines_of_the_file_that_is_there(tmp_path: Path) -> None:
    path = write(tmp_path, f"{FILE}\n[[permissions]]\nuser_name = 1\n")
    line = path.read_text().splitlines().index("user_name = 1") + 1

    def change(document: Document) -> None:
        document.set(("global",), "cors_origins", ["https://a.example"])
        document.set(("global",), "port", 70000)

    with pytest.raises(ConfigError) as caught:
        edit(path, change, channels=CHANNELS, environ={})
    placed = [problem for problem in caught.value.problems if problem.startswith("gproxy.toml:")]
    assert [problem.split(" ")[0] for problem in placed if "user_name" in problem] == [f"gproxy.toml:{line}:"]
    assert "error: global.port" in "".join(p for p in caught.value.problems if p not in placed)


def test_what_is_beside_an_edit_is_done_when_the_result_is_good_and_the_file_replaced_by_even_the_same(
    tmp_path: Path,
) -> None:
    path, happened = write(tmp_path), Beside()
    before = path.stat()
    edit(path, lambda document: None, channels=CHANNELS, environ={}, beside=happened)
    assert happened.told == ["done"]
    assert path.read_text() == FILE
    assert (path.stat().st_ino, path.stat().st_mtime_ns) != (before.st_ino, before.st_mtime_ns)


def test_what_is_beside_an_edit_with_errors_is_never_done(tmp_path: Path) -> None:
    path, happened = write(tmp_path, FILE.replace("8787", "99999")), Beside()
    with pytest.raises(ConfigError, match="would have errors"):
        edit(path, lambda document: None, channels=CHANNELS, environ={}, beside=happened)
    assert happened.told == []


def test_what_is_beside_an_edit_is_undone_when_the_file_cannot_be_replaced(tmp_path: Path) -> None:
    path, happened = write(tmp_path), Beside(path_gone=tmp_path / "gproxy.toml")
    with pytest.raises(ConfigError, match="cannot be"):
        edit(path, lambda document: None, channels=CHANNELS, environ={}, beside=happened)
    assert happened.told == ["done", "undone"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["gproxy.toml.lock"]


def test_what_an_editor_saves_while_a_change_is_made_is_kept_and_the_change_made_anew(tmp_path: Path) -> None:
    path, happened, seen = write(tmp_path), Beside(), []

    def change(document: Document) -> None:
        seen.append(document.text)
        if len(seen) == 1:
            path.write_text(FILE + "# theirs\n")
        document.add(("users",), {"name": "bob"})

    edit(path, change, channels=CHANNELS, environ={}, beside=happened)
    assert seen == [FILE, FILE + "# theirs\n"]
    assert happened.told == ["done", "undone", "done"]
    assert "# theirs" in path.read_text()
    assert users(path) == {"alice", "bob"}


def test_a_file_that_is_never_the_same_is_left_to_who_changes_it(tmp_path: Path) -> None:
    path = write(tmp_path)

    def change(document: Document) -> None:
        path.write_text(document.text + "#")
        document.add(("users",), {"name": "bob"})

    with pytest.raises(ConfigError, match="changed by someone else meanwhile"):
        edit(path, change, channels=CHANNELS, environ={})
    assert path.read_text().startswith(FILE + "##")
    assert {entry.name for entry in tmp_path.iterdir()} == {"gproxy.toml", "gproxy.toml.lock"}


class Beside:
    """Something that is changed outside the file, and takes a file away if it is to."""

    def __init__(self, path_gone: Path | None = None) -> None:
        self.told: list[str] = []
        self._path_gone = path_gone

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        self.told.append("done")
        if self._path_gone:
            self._path_gone.unlink()
        try:
            yield
        except ConfigError:
            self.told.append("undone")
            raise
