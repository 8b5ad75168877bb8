"""What commands print: problems, tables, JSON, CSV. What is in them is the commands'."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gproxy.config.load import Problem

DONE, FAILED, WRONG_USAGE = 0, 1, 2
"""The exit codes."""


def note(message: str) -> None:
    """A remark for people, on stderr: stdout holds results alone."""
    print(message, file=sys.stderr)


def problems(found: "Iterable[Problem]", filename: str) -> None:
    """Warnings and errors of a configuration, one per line."""
    for problem in found:
        note(problem.render(filename))


def failure(message: str, details: Iterable[str] = ()) -> None:
    """What is behind a failure, one per line, then the one sentence that names it and what to do."""
    for detail in details:
        note(detail)
    note(f"gproxy: {message}")
