"""Where the configuration comes from: the file, the flags and environment over it, and the secrets it names.

What the values mean is `load.py`'s, what the server makes of them `snapshot.py`'s.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from gproxy.config import schema
from gproxy.config.problems import Problem
from gproxy.config.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Loaded:
    """One reading of the configuration. `config` and `snapshot` are None exactly when there are errors."""

    config: schema.Config | None
    snapshot: Snapshot | None
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems if p.severity == "warning")


def locate(explicit: Path | None, environ: Mapping[str, str]) -> Path:
    raise NotImplementedError


def load_file(
    path: Path, *, channels: Collection[str], environ: Mapping[str, str], flags: Mapping[str, object] = {}
) -> Loaded:
    raise NotImplementedError


def load_text(
    text: bytes,
    *,
    directory: Path,
    channels: Collection[str],
    environ: Mapping[str, str],
    flags: Mapping[str, object] = {},
) -> Loaded:
    raise NotImplementedError


def data_dir(config: schema.Config, directory: Path) -> Path:
    raise NotImplementedError
