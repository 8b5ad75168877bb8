"""The bytes of gproxy.toml -> (Config, problems): all problems at once, without effects.

Files, environment and secrets are `source.py`'s.
"""

from collections.abc import Collection, Mapping

from gproxy.config import schema
from gproxy.config.problems import Problem

__all__ = ["Problem", "load"]


def load(
    text: bytes, *, channels: Collection[str], overrides: Mapping[str, object] = {}
) -> tuple[schema.Config | None, list[Problem]]:
    """The configuration, or None if any problem is an error; problems in the order of their lines.

    `overrides` are values for `[global]` by their origin: `--port`, `GPROXY_PORT` (or plain `port`).
    """
    raise NotImplementedError
