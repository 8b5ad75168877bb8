"""A server that crashes leaves no copy of its memory behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.gateway import ROOT
from tests.server.running import running, settings


def test_the_limit_is_none_whatever_it_was() -> None:
    program = (
        "import resource; from gproxy.server.process.coredumps import forbid\n"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)); forbid()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE) == (0, hard))"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), env={"PYTHONPATH": ROOT}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limit is read from /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_no_process_of_a_server_leaves_a_core_file(tmp_path: Path, workers: int) -> None:
    with running(tmp_path, settings(workers=workers)) as it:
        it.url()
        pids = [it.process.pid, *it.workers()]
        assert len(pids) == (1 if workers == 1 else 1 + workers)
        for pid in pids:
            limits = Path(f"/proc/{pid}/limits").read_text()
            (line,) = (each for each in limits.splitlines() if each.startswith("Max core file size"))
            assert line.split()[4] == "0"
