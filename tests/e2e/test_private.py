"""Whatever the umask, what gproxy leaves on a disk is its owner's alone, and no process shows a secret to `ps`."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.gateway import KEY, UPSTREAM_KEY, Gateway
from tests.kit.settings import provider, user

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files have no modes there")

CONFIG = (
    "[global]\nworkers = 2\nenable_downstream_log = true\nenable_downstream_log_body = true\n"
    + provider("up", "custom", "http://127.0.0.1:9/v1")
    + '\n[[providers]]\nname = "demo"\nchannel = "demo"\n'
    + user("alice", KEY, "*", is_admin=True)
)


@pytest.fixture(autouse=True, params=[0, 0o077], ids=["umask 000", "umask 077"])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> dict[str, str]:
    """Files and folders below one that somebody else could use, with their modes."""
    modes = {path.relative_to(folder): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    return {str(path): f"{mode:04o}" for path, mode in modes.items() if mode & 0o077}


def served(folder: Path) -> Gateway:
    folder.mkdir(mode=0o700)
    return Gateway(folder, CONFIG)


def test_folders_that_are_made_on_the_way_are_private_too(tmp_path: Path) -> None:
    """Who may write into one may put another in the place of what is below it."""
    gateway = served(tmp_path / "here")
    gateway.path.unlink()
    gateway.path = gateway.folder / "a" / "b" / "gproxy.toml"
    gateway.cli("init", "--demo")
    gateway.edit(lambda text: text.replace("[global]", '[global]\ndata_dir = "x/y/z"\nport = 0'))
    with gateway:
        assert (gateway.path.parent / "x" / "y" / "z" / "gproxy.db").exists()
        assert open_to_others(gateway.folder) == {}


def test_all_that_a_server_and_the_commands_beside_it_write_is_private(tmp_path: Path) -> None:
    with served(tmp_path / "here") as gateway:
        body = {"model": "demo/m", "messages": [{"role": "user", "content": "hello"}]}
        assert gateway.post("/v1/chat/completions", body).status_code == 200
        assert gateway.get("/metrics").status_code == 200
        gateway.cli("keys", "create", "--user", "alice")
        gateway.cli("usage", "export", "--format", "csv", "-o", "rows.csv")
        gateway.cli("usage", "prune", "--before", "30d", "--yes")
        gateway.cli("logs", "clear", "--yes")
        names = {path.name for path in gateway.folder.rglob("*")}
        assert {"gproxy.toml.lock", "gproxy.db", "gproxy.db-wal", "gproxy.lock", "rows.csv"} <= names
        assert open_to_others(gateway.folder) == {}
    assert open_to_others(gateway.folder) == {}


def test_a_new_configuration_is_private_where_it_is_written(tmp_path: Path) -> None:
    gateway = served(tmp_path / "here")
    gateway.path.unlink()
    gateway.cli("init", "--demo")
    assert gateway.path.exists()
    assert open_to_others(gateway.folder) == {}


def test_a_configuration_that_others_can_read_is_closed_by_its_server_and_by_edits_which_say_so(
    tmp_path: Path,
) -> None:
    gateway = served(tmp_path / "here")
    gateway.path.chmod(0o644)
    assert "others can read it (mode 0644)" in gateway.cli("check")
    assert open_to_others(gateway.folder) == {"gproxy.toml": "0644"}
    with gateway:
        assert open_to_others(gateway.folder) == {}
        assert "others could read it (mode 0644): its mode is 0600 now" in gateway.stderr
        gateway.path.chmod(0o644)
        refused = gateway.cli("serve", "--port", "0", code=1, both=True)
        assert "another gproxy serves from" in refused
        assert "0600" not in refused
        assert open_to_others(gateway.folder) == {"gproxy.toml": "0644"}
        told = gateway.cli("users", "add", "eve", both=True)
        assert "gproxy.toml: others could get at it (mode 0644): its mode is 0600 now." in told
        assert open_to_others(gateway.folder) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="arguments are read from /proc")
def test_no_argument_of_a_process_is_a_secret(tmp_path: Path) -> None:
    with served(tmp_path / "here") as gateway:
        body = {"model": "demo/gpt-4.1-mini", "messages": []}
        gateway.post("/v1/chat/completions", body)  # and so asks a child for prices
        group = [pid for pid in Path("/proc").glob("[0-9]*") if descends(pid, gateway.process.pid)]
        assert len(group) >= 3
        for pid in group:
            said = (pid / "cmdline").read_bytes()
            assert KEY.encode() not in said
            assert UPSTREAM_KEY.encode() not in said


def descends(pid: Path, ancestor: int) -> bool:
    while pid.name not in ("0", "1"):
        if int(pid.name) == ancestor:
            return True
        try:
            pid = pid.with_name((pid / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False
