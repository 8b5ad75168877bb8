"""Variables of the environment that are named as ours are, and mean nothing.

What those that mean something set is `source.py`'s, what is secret in them `scrub.py`'s.
"""

from collections.abc import Iterator, Mapping

from gproxy.config import schema
from gproxy.config.problems import Problem, suggestion

PREFIX = "GPROXY_"

BESIDE = frozenset(
    {
        "CONFIG",  # where the file is
        "API_KEY",
        "KEY",  # both of clients, for what commands print
        "MODEL",
        "URL",  # of the scripts in `examples/`
        "LEFTOVERS",
        "VENV",  # of a checkout's benchmarks and `scripts/dev.py`
    }
)
"""What may follow the prefix besides a key of `[global]`."""

_OF_V1 = frozenset({"DSN", "SPOOF", "ADMIN_USER", "ADMIN_PASSWORD", "ADMIN_API_KEY"})


def unknown(environ: Mapping[str, str], config: schema.Config | None) -> Iterator[Problem]:
    """A warning for each variable that begins as ours do and that nothing reads; its value is told nowhere.

    One that the file names for a credential is read; `config` is None where there is no file. An empty one counts
    as unset, as it does elsewhere.
    """
    keys = [name.upper() for name in schema.keys_of(schema.Global)]
    known = {PREFIX + name for name in (*keys, *BESIDE)}
    if config is not None:
        known |= {credential.env for row in config.providers for credential in row.credentials}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known or not environ[name]:
            continue
        word = name.removeprefix(PREFIX)
        if word in _OF_V1:
            yield Problem("warning", 0, name, "is GPROXY v1's and has no effect here")
            continue
        # The prefix is left out: with it in both, any two names would be near.
        near = suggestion(word, (*keys, *BESIDE)).replace('"', f'"{PREFIX}', 1)
        yield Problem("warning", 0, name, "there is no such variable, and it has no effect", near)
