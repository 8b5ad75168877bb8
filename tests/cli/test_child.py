import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gproxy.cli.child import Child

ASKS = """
import os, signal, sys
def told(number, frame):
    os.write(1, b"told %d\\n" % number)  # it may come inside the print below
    sys.exit(7)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, told)
print("ready", flush=True)
signal.pause()
"""
RUNS = """
import os, sys
from gproxy.cli.child import Child
with Child() as child:
    code = child.run([sys.executable, "-c", sys.argv[1]], os.environ)
    child.over()
    print("cleared up", flush=True)
sys.exit(code)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_the_commands_and_what_follows_is_done(number: signal.Signals) -> None:
    command = (sys.executable, "-c", RUNS, ASKS)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as outer:
        assert outer.stdout is not None
        assert outer.stdout.readline() == "ready\n"
        outer.send_signal(number)
        assert outer.stdout.read() == f"told {int(number)}\ncleared up\n"
        assert outer.wait(20) == 7


def test_a_command_that_a_signal_ended_has_the_exit_code_of_a_shell() -> None:
    with Child() as child:
        assert child.run(["sh", "-c", "kill -KILL $$"], os.environ) == 128 + signal.SIGKILL


def test_before_the_command_a_signal_ends_this_process_in_order() -> None:
    with pytest.raises(SystemExit) as ended, Child():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM


def test_once_it_is_over_no_signal_has_an_effect() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Child() as child:
        child.over()
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Child() as child:
        child.run([str(tmp_path / "none")], os.environ)
