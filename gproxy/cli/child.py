"""Runs one command below this one: signals are passed on to it, its exit code is ours. Why is the caller's."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import Self

NOT_FOUND, NOT_RUNNABLE = 127, 126
"""What a shell makes of a command that is not there, or that may not be run."""

_BY_SIGNAL = 128

_PASSED = [
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if (number := getattr(signal, name, None)) is not None
]
_OF_TERMINAL = {signal.SIGINT, getattr(signal, "SIGQUIT", signal.SIGINT)}
"""Those that a terminal sends to all its foreground processes at once."""


class Child:
    """Use as a context manager: within it no signal ends this process but by SystemExit, before the command runs.

    While it runs each goes to it, and once it has ended none has an effect, so that what follows is done whole.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = False
        self._over = False
        self._early: list[int] = []
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._heard) for number in _PASSED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned

    def run(self, command: Sequence[str], environ: Mapping[str, str]) -> int:
        """Its exit code; 128 and the number of the signal that ended it. Raises OSError if it cannot be started."""
        self._starting = True
        try:
            self._process = subprocess.Popen(command, env=environ)
        finally:
            self._starting = False
        for number in self._early:
            self._pass_on(number)
        code = self._process.wait()
        return code if code >= 0 else _BY_SIGNAL - code

    def over(self) -> None:
        """Let no signal have an effect any more."""
        self._over = True

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self._over:
            return
        if self._process is not None:
            self._pass_on(number)
        elif self._starting:
            self._early.append(number)
        else:
            raise SystemExit(_BY_SIGNAL + number)

    def _pass_on(self, number: int) -> None:
        if self._process is not None and not (number in _OF_TERMINAL and _in_foreground()):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def _in_foreground() -> bool:
    """Whether the terminal's signals go to this process, and so to the command beside it."""
    for descriptor in (0, 1, 2) if hasattr(os, "tcgetpgrp") else ():
        with contextlib.suppress(OSError):
            return os.tcgetpgrp(descriptor) == os.getpgrp()
    return False
