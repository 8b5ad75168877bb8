"""Worker processes: forked, replaced when one dies, told to stop, waited for, and in the end killed.

What a worker does is the caller's. Nothing here has a thread, a loop or a file of the store, so that a fork copies
nothing that cannot be shared; and it sleeps in one `select` for as long as nothing happens.
"""

import gc
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from gproxy.server.console import LINES, say

logger = logging.getLogger(__name__)

STEADY_S = 10.0
"""A worker that lived for so long is replaced at once; the pause before one that did not grows."""

FIRST_PAUSE_S = 0.1
MOST_PAUSE_S = 10.0

VACANT_AFTER_S = 0.5
"""Clients wait for a worker that is to come. Where that takes longer, and others serve, they are led to those."""

HURRY_S = 15.0
"""How long workers that were told to end at once may take, before they are killed."""

MOST_TRIES = 5
"""So often in turn may a worker die before it serves while none does; then the server ends."""

REFUSED = 1
"""The exit code of a worker that could not begin, and has said why."""

CRASHED = 3
"""The exit code of a worker that a fault of ours has ended."""

_HANGUPS = () if sys.platform == "win32" else (signal.SIGHUP,)

_ENDING = (signal.SIGTERM, signal.SIGINT, *_HANGUPS)


def endings() -> tuple[signal.Signals, ...]:
    """The signals that end a server: SIGTERM, SIGINT, and SIGHUP unless that is ignored."""
    return tuple(number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN)


def ignore_endings() -> None:
    """What is left to be done ends by itself: one signal more would only break it off, and change the exit code."""
    for number in endings():
        signal.signal(number, signal.SIG_IGN)


def ignore_hangups() -> None:
    """Let SIGHUP end nothing, except where it tells that the terminal has gone.

    Elsewhere it is sent by those who want the configuration read anew, which happens by itself.
    """
    if sys.platform != "win32":
        try:
            os.close(os.open("/dev/tty", os.O_RDWR))
        except OSError:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker is given. It gets no signals: those are its parent's to hear, and a terminal sends them to all.

    `stop` and `now` are descriptors that become readable (with an end of file) when it is to finish what it does
    and end, and when it is to end at once. Both do when the parent has died.
    """

    slot: int
    stop: int
    now: int
    told: int

    def ready(self) -> None:
        """Tell the parent that this worker serves; again, that it serves by a new configuration."""
        with suppress(BrokenPipeError):  # the parent has died, which `now` tells
            os.write(self.told, bytes([self.slot]))


def _no_obstacle() -> None:
    return None


@dataclass(slots=True)
class _Slot:
    """A worker's place. `pid` is 0 while none runs; times are monotonic seconds.

    `obstacle` is what the worker that serves brings for those that begin beside it.
    """

    number: int
    pid: int = 0
    vacant: bool = False
    since: float = 0.0
    ready: bool = False
    pause_s: float = 0.0
    due: float = 0.0
    obstacle: Callable[[], str | None] = _no_obstacle


class Workers:
    """Runs `count` workers until one of `endings()`; a second of them ends all at once.

    `work` is what a worker does; what it returns is its exit code. `obstacle` is asked before one begins, for why it
    must not (None: it may), and so is what `obstacle_beside` made when another began to serve, for as long as that
    one lives. `on_ready` is called when all serve for the first time, `on_told` after any of them has told that it
    serves, `on_stop` before they are told to stop; what that returns is the seconds after which they are killed.
    `on_vacant` hears of a slot that it will be empty for a while though others serve (True), and that it no longer
    is. At most 255.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[Worker], int],
        *,
        obstacle: Callable[[], str | None],
        obstacle_beside: Callable[[], Callable[[], str | None]],
        on_ready: Callable[[], None],
        on_told: Callable[[], None],
        on_stop: Callable[[], float],
        on_vacant: Callable[[int, bool], None],
    ) -> None:
        self._slots = [_Slot(number) for number in range(count)]
        self._work = work
        self._obstacle, self._obstacle_beside = obstacle, obstacle_beside
        self._on_ready, self._on_told, self._on_stop = on_ready, on_told, on_stop
        self._on_vacant = on_vacant
        self._deadline: float | None = None  # when what is left is killed; None: nobody was told to stop
        self._served = False
        self._died_early = 0  # how often in turn, while none served
        self._code = 0

    def run(self) -> int:
        """The exit code: 0, or 1 if a worker could not start, or did not end by itself when it was told to."""
        gc.freeze()  # what is here already stays shared with the workers
        gc.enable()
        self._ready, self._told = os.pipe()
        self._stop, stop_end = os.pipe()
        self._now, now_end = os.pipe()
        self._signalled, wake = os.pipe()
        self._stop_end, self._now_end = [stop_end], [now_end]
        self._parents_own = (self._ready, self._signalled, wake, stop_end, now_end)
        for descriptor in (self._ready, self._signalled, wake):
            os.set_blocking(descriptor, False)
        with _signals_to(wake):
            while self._deadline is None or any(slot.pid for slot in self._slots):
                self._start_due()
                self._hear(self._seconds_to_wait())
                self._reap()
                self._kill_late()
        return self._code

    def _start_due(self) -> None:
        for slot in self._slots:
            if self._deadline is not None or slot.pid or slot.due > time.monotonic():
                continue
            slot.since, slot.ready = time.monotonic(), False
            if why := self._why_not():
                say(why)
                self._gone(slot, "could not begin", REFUSED)
                continue
            self._mark(slot, vacant=False)
            worker = Worker(slot.number, self._stop, self._now, self._told)
            try:
                slot.pid = fork(lambda worker=worker: self._in_worker(worker))  # type: ignore[misc]  # bound now
            except OSError as error:
                self._gone(slot, f"could not be forked ({error.strerror})", None)

    def _why_not(self) -> str | None:
        """Why none may begin now. It is asked here: a new worker would not know which of the others have died."""
        asked = (ask() for ask in (self._obstacle, *(slot.obstacle for slot in self._slots)))
        return next(filter(None, asked), None)

    def _in_worker(self, worker: Worker) -> int:
        for descriptor in self._parents_own:
            os.close(descriptor)
        return self._work(worker)

    def _seconds_to_wait(self) -> float | None:
        if self._deadline is not None:
            left = any(slot.pid for slot in self._slots)
            return max(0.0, self._deadline - time.monotonic()) if left else 0.0
        due = [slot.due for slot in self._slots if not slot.pid]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _hear(self, timeout: float | None) -> None:
        select.select((self._ready, self._signalled), (), (), timeout)
        self._hear_workers()
        for number in _read(self._signalled):
            if number in _ENDING:
                self._asked()

    def _hear_workers(self) -> None:
        told = _read(self._ready)
        for slot in (self._slots[number] for number in told):
            self._died_early = 0
            if not slot.ready:
                slot.ready, slot.obstacle = True, self._obstacle_beside()
        if not self._served and self._deadline is None and all(slot.ready for slot in self._slots):
            self._served = True
            self._on_ready()
        if told:
            self._on_told()

    def _asked(self) -> None:
        if self._deadline is None:
            self._tell_to_stop()
        else:
            _close(self._now_end)
            self._deadline = min(self._deadline, time.monotonic() + HURRY_S)

    def _tell_to_stop(self) -> None:
        self._deadline = time.monotonic() + self._on_stop()
        _close(self._stop_end)

    def _reap(self) -> None:
        with suppress(ChildProcessError):  # there is none at all
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                # Who has told that it serves and then died has still told it, and not of its successor.
                self._hear_workers()
                # Others can be orphans of a dead worker, where this is the first process of a container.
                for slot in self._slots:
                    if slot.pid == pid:
                        slot.pid = 0
                        code = os.waitstatus_to_exitcode(status)
                        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
                        self._gone(slot, how, code)

    def _gone(self, slot: _Slot, how: str, code: int | None) -> None:
        """A worker has ended, or could not be forked (None). Decides what follows."""
        served, slot.ready, slot.obstacle = slot.ready, False, _no_obstacle
        if self._deadline is not None:
            self._code = self._code or int(code != 0)
        elif self._may_try_again(served, code):
            steady = time.monotonic() - slot.since >= STEADY_S
            slot.pause_s = 0.0 if steady else min(max(2 * slot.pause_s, FIRST_PAUSE_S), MOST_PAUSE_S)
            slot.due = time.monotonic() + slot.pause_s
            self._lead(slot, served)
            when = "" if served or self._serves else " before it served"
            say(f"worker {slot.number} {how}{when}; another takes its place")
        else:
            if code != REFUSED:
                say(
                    f"worker {slot.number} {how} before it served, as {MOST_TRIES} in turn did: the server ends."
                )
            self._code = 1
            self._tell_to_stop()

    def _lead(self, slot: _Slot, served: bool) -> None:
        """Where clients go until the next worker of a slot begins. If none serves any more the next begins soon, in
        each slot: that one has `served` shows that they can."""
        if any(each.ready for each in self._slots):
            self._mark(slot, vacant=slot.vacant or slot.pause_s > VACANT_AFTER_S)
            return
        for each in self._slots:
            self._mark(each, vacant=False)
            if served:
                each.due = min(each.due, time.monotonic() + FIRST_PAUSE_S)

    def _mark(self, slot: _Slot, *, vacant: bool) -> None:
        if slot.vacant != vacant:
            slot.vacant = vacant
            self._on_vacant(slot.number, vacant)

    @property
    def _serves(self) -> bool:
        """Whether all have served, and one still does."""
        return self._served and any(slot.ready for slot in self._slots)

    def _may_try_again(self, served: bool, code: int | None) -> bool:
        """Whether another may take the place of one that has ended with `code`, and had served before or not."""
        if self._serves or (self._served and served):
            return True
        self._died_early += 1
        return code != REFUSED and self._died_early < MOST_TRIES

    def _kill_late(self) -> None:
        if self._deadline is None or time.monotonic() < self._deadline:
            return
        for slot in self._slots:
            if slot.pid:
                say(f"worker {slot.number} did not end in time and is killed.")
                os.kill(slot.pid, signal.SIGKILL)
        self._deadline += HURRY_S


def fork(work: Callable[[], int]) -> int:
    """The id of a new process, which does `work` and ends with what it returns. Raises OSError.

    It hears no signal that ends a server, and nothing of the caller's stack is unwound in it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # Held up until the child has taken the parent's handlers off: it would tell the parent of its own signals.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_ENDING, signal.SIGCHLD))
    try:
        pid = os.fork()
        if not pid:
            _be_child(work, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def run_apart(work: Callable[[], int]) -> int:
    """What `work` returns in a process of its own: what it opens or imports is gone with it. Raises OSError."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1])


def _be_child(work: Callable[[], int], mask: set[signal.Signals | int]) -> NoReturn:
    code = CRASHED
    try:
        signal.set_wakeup_fd(-1)
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = work()
        sys.stdout.flush()
    except Exception:  # the stack below is the parent's: nothing may go up it in a child
        logger.exception("a worker failed")
    finally:
        LINES.close()
        os._exit(code)


@contextmanager
def _signals_to(descriptor: int) -> Iterator[None]:
    """Write the number of each signal that ends the server, or that a child has ended, to a descriptor."""

    def nothing(number: int, frame: FrameType | None) -> None:
        pass  # that there is a handler makes Python write the number

    numbers = (*endings(), signal.SIGCHLD)
    handlers = [signal.signal(number, nothing) for number in numbers]
    wakeup = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


def _read(descriptor: int) -> bytes:
    """What is there by now."""
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


def _close(ends: list[int]) -> None:
    """Close what has not been closed yet."""
    while ends:
        os.close(ends.pop())
