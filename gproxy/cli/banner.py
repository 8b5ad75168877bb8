"""What `serve` says of itself when it starts: a few lines on stderr, before it listens.

What is wrong with the configuration is said before, and what happens later by the server.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from gproxy import __version__
from gproxy.cli import files
from gproxy.config.schema import Config

_MOST_NAMED = 6
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def show(config: Config, path: Path, store: Path, url: str) -> None:
    """Print it in one write. `url` is the base URL; nothing is printed where stderr is to be JSON."""
    if config.globals.log_format == "json":
        return
    bold, plain = (_BOLD, _PLAIN) if _coloured() else ("", "")
    first = f"{bold}gproxy {__version__}{plain} at {bold}{url}{plain}"
    lines = [first, *(f"  {name:13} {text}" for name, text in _rows(config, path, store))]
    print("\n".join(lines), file=sys.stderr, flush=True)


def _coloured() -> bool:
    """Whether stderr is a terminal that takes colours, and nobody wants none (no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _rows(config: Config, path: Path, store: Path) -> Iterator[tuple[str, str]]:
    yield "configuration", files.shown(path)
    yield "store", files.shown(store)
    yield "providers", _providers(config) or "none: `gproxy providers add` makes one"
    keys = sum(user.enabled and key.enabled for user in config.users for key in user.keys)
    yield "keys", str(keys) if keys else "none: `gproxy keys create` makes one"
    if config.globals.workers > 1:
        yield "workers", str(config.globals.workers)


def _providers(config: Config) -> str:
    enabled = [provider for provider in config.providers if provider.enabled]
    named = [f"{provider.name} ({provider.channel})" for provider in enabled[:_MOST_NAMED]]
    more = len(enabled) - len(named)
    disabled = len(config.providers) - len(enabled)
    told = ", ".join([*named, *([f"{more} more"] if more else [])])
    return f"{told}; {disabled} disabled" if told and disabled else told
