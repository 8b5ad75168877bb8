"""Folders that are made on the way to a file. What is in them is their makers'."""

from itertools import takewhile
from pathlib import Path

OWNER_ONLY = 0o700


def make(folder: Path) -> None:
    """Make a folder and those above it that are not there, each for its owner alone whatever the umask: who may write
    into one may put another in the place of what is below it.

    Raises OSError, also where something else has such a name. One that is there stays as it is.
    """
    missing = takewhile(lambda each: not each.is_dir(), (folder, *folder.parents))
    for each in reversed(list(missing)):
        each.mkdir(OWNER_ONLY, exist_ok=True)
