"""What the interpreter of a process that serves is set to, in a process of its own."""

import subprocess
import sys

from gproxy.server.process.tuning import SWITCH_S, YOUNG_OBJECTS

_TOLD = """
import gc, sys
from gproxy.server.process.tuning import tune
gc.disable()
tune()
print(gc.isenabled(), gc.get_freeze_count() > 1000, gc.get_threshold()[0], sys.getswitchinterval())
"""


def test_garbage_is_looked_for_among_many_new_objects_and_no_old_ones() -> None:
    told = subprocess.run([sys.executable, "-c", _TOLD], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["True", "True", str(YOUNG_OBJECTS), str(SWITCH_S)]
