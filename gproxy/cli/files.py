"""How commands find, read and edit the configuration file. Validation and safe writing are `config/`'s."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from gproxy.config.load import Problem
    from gproxy.config.source import Loaded


def find(explicit: Path | None) -> Path:
    """The configuration file of this call; raises ConfigError if there is none."""
    from gproxy.config.source import locate

    path = locate(explicit, os.environ)
    if not path.exists():
        raise ConfigError(
            f"no configuration file at {path}: `gproxy init` makes one, "
            "`gproxy serve --demo` tries gproxy without one"
        )
    return path


def shown(path: Path) -> str:
    """The path as people would type it: relative if it is below the working folder."""
    full, here = path.absolute(), Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(full)


def load(path: Path, flags: dict[str, object] | None = None) -> "Loaded":
    """The effective configuration with its secrets: flags over environment over file. Raises nothing."""
    from gproxy.config.source import load_file
    from gproxy.providers.catalog import CHANNELS

    return load_file(path, channels=CHANNELS, environ=os.environ, flags=flags or {})


def refused(filename: str, errors: "Collection[Problem]") -> ConfigError:
    """The failure that stands for errors already printed."""
    count = f"{len(errors)} error" + ("s" if len(errors) > 1 else "")
    return ConfigError(f"{filename} has {count}: mend the file and try again")
