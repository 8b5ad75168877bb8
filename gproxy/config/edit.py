"""Changes to gproxy.toml: locked, re-validated, atomic, with comments and formatting kept.

What a command changes is `changes.py`'s.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import tomlkit

T = TypeVar("T")


def edit(
    path: Path,
    change: Callable[[tomlkit.TOMLDocument], T],
    *,
    channels: Collection[str],
    environ: Mapping[str, str],
) -> T:
    raise NotImplementedError


def create(path: Path, text: str) -> None:
    raise NotImplementedError
