"""Memories as the workers of a server see them, in one process."""

import copy
import threading

from gproxy.ledger.memory import Shared


def as_seen_by(memory: Shared, worker: int) -> Shared:
    """That memory in a worker which was forked before anything was in it."""
    seen = copy.copy(memory)
    seen.changing = threading.Lock()
    seen._places, seen._read = {}, 2
    seen.begin(worker)
    return seen
