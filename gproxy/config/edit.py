"""Changes to gproxy.toml: locked, re-validated, atomic, with comments and formatting kept.

What a command changes is `changes.py`'s.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from gproxy.config.document import Document

T = TypeVar("T")


def edit(
    path: Path,
    change: Callable[[Document], T],
    *,
    channels: Collection[str],
    environ: Mapping[str, str],
) -> T:
    # `Document(text)`, then `change(document)`, then `document.text`: tomlkit moves tables that stand apart.
    raise NotImplementedError


def create(path: Path, text: str) -> None:
    raise NotImplementedError
