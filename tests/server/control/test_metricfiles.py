"""The files by which processes tell each other what they have counted."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gproxy.server.control import metricfiles
from gproxy.server.control.metricfiles import Gauges


def test_what_was_counted_in_a_slot_is_there_for_its_next_process(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    assert metricfiles.counts_of(folder, 0) == {}
    counts = {("requests", "a/b", "2xx"): 3, ("dropped",): 2**62}
    metricfiles.write(folder, 0, counts, Gauges(in_flight=1))
    assert metricfiles.counts_of(folder, 0) == counts
    assert metricfiles.counts_of(folder, 1) == {}
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())]
    assert modes == [0o700, 0o600]


def test_other_slots_count_but_those_of_the_dead_say_nothing_of_the_moment(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    for slot in range(3):
        metricfiles.write(tmp_path, slot, {("requests",): slot + 1}, Gauges(in_flight=10 + slot))
    path = tmp_path / "worker-2.bin"
    _, *rest = msgspec.msgpack.decode(path.read_bytes())
    path.write_bytes(msgspec.msgpack.encode([child.pid, *rest]))
    counts, gauges = metricfiles.others(tmp_path, 0)
    assert metricfiles.summed(counts) == {("requests",): 5}
    assert [gauge.in_flight for gauge in gauges] == [11]


@pytest.mark.parametrize("content", [b"", b"\x93", b"no msgpack", msgspec.msgpack.encode([1, 2, 3])])
def test_a_file_that_cannot_be_read_counts_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "worker-1.bin").write_bytes(content)
    assert metricfiles.others(tmp_path, 0) == ([], [])
    assert metricfiles.counts_of(tmp_path, 1) == {}


def test_a_half_written_file_is_not_looked_at(tmp_path: Path) -> None:
    metricfiles.write(tmp_path, 1, {("requests",): 1}, Gauges())
    (tmp_path / "worker-1.new").write_bytes(b"\x93")
    assert metricfiles.others(tmp_path, 0)[0] == [{("requests",): 1}]


def test_a_server_begins_with_nothing(tmp_path: Path) -> None:
    store = tmp_path / "gproxy.db"
    metricfiles.begin(store)
    metricfiles.write(metricfiles.folder_of(store), 0, {("requests",): 1}, Gauges())
    metricfiles.begin(store)
    assert not metricfiles.folder_of(store).exists()


def test_a_process_of_somebody_else_lives() -> None:
    assert metricfiles._lives(os.getpid())
    assert metricfiles._lives(1)
