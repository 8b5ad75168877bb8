"""Everything that `benchmarks/soak.py` does to a server, for a few seconds: nothing of it is left."""

import os
import subprocess
import sys

import pytest

from tests.kit.gateway import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
@pytest.mark.parametrize("engine", ["fast", "hypercorn"])
def test_mixed_faults_leave_nothing_behind(engine: str) -> None:
    """No task, connection, request, socket, file, reservation, slot or dollar; and a row for each request."""
    command = (sys.executable, "-m", "benchmarks.soak", "--minutes", "0.1", "--engine", engine)
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": ROOT}, cwd=ROOT, capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stdout + done.stderr
