"""One holder to a folder, whatever way the one before ended."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gproxy.errors import StoreError
from gproxy.server.process.lock import FILE_NAME, held, is_held
from tests.kit.gateway import ROOT

HOLDER = """
import os, sys, time
from pathlib import Path
from gproxy.server.process.lock import held
with held(Path(sys.argv[1])):
    child = os.fork() if sys.argv[2] == "fork" else 0
    if sys.argv[2] == "fork" and child == 0:
        sys.stdin.read()
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path, how: str = "") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        (sys.executable, "-c", HOLDER, str(folder), how),
        env={"PYTHONPATH": ROOT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_holder_is_refused_with_one_sentence_and_a_third_is_not(tmp_path: Path) -> None:
    with (
        held(tmp_path),
        pytest.raises(StoreError, match=r"another gproxy serves from .*: stop it, or choose") as refused,
        held(tmp_path),
    ):
        pass
    assert str(tmp_path) in str(refused.value)
    with held(tmp_path):
        pass


def test_a_file_that_is_left_behind_is_no_obstacle_and_is_private(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("stale")
    with held(tmp_path):
        pass
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    with held(fresh):
        assert (fresh / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(StoreError), held(tmp_path):
            pass
        process.kill()
        process.wait()
        with held(tmp_path):
            pass


def test_removing_the_file_lets_nobody_in(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        (tmp_path / FILE_NAME).unlink()
        assert is_held(tmp_path)
        with pytest.raises(StoreError, match="another gproxy serves from"), held(tmp_path):
            pass
        with pytest.raises(StoreError, match="another gproxy serves from"), held(tmp_path):
            pass
        process.kill()
    with held(tmp_path):
        pass


def test_who_is_refused_is_told_which_process_holds_it(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with (
            pytest.raises(StoreError, match=rf"\(process {process.pid}\): stop it, or choose"),
            held(tmp_path),
        ):
            pass
        process.kill()


def test_a_number_that_was_left_behind_names_nobody(tmp_path: Path) -> None:
    with holder(tmp_path, "fork") as process:
        process.kill()
        process.wait()
        with pytest.raises(StoreError) as refused, held(tmp_path):
            pass
    assert "process" not in str(refused.value)


def test_a_process_forked_by_the_holder_holds_it_to_its_own_end(tmp_path: Path) -> None:
    with holder(tmp_path, "fork") as process:
        process.kill()
        process.wait()
        with pytest.raises(StoreError), held(tmp_path):
            pass
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        assert process.stdout.read() == ""  # the end of the last process that has it open
        with held(tmp_path):
            pass


def test_a_folder_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be locked"), held(tmp_path / "no"):
        pass


def test_whether_a_server_holds_it_can_be_seen_without_taking_it(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    process = holder(tmp_path)
    assert is_held(tmp_path)
    process.kill()
    process.communicate()
    assert not is_held(tmp_path)
    with held(tmp_path):
        assert is_held(tmp_path)


def test_who_only_looks_keeps_no_server_from_starting(tmp_path: Path) -> None:
    with held(tmp_path):
        pass
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.001):
            is_held(tmp_path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            with held(tmp_path):
                pass
            time.sleep(0.001)
    finally:
        stop.set()
        looking.join()
