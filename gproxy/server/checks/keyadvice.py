"""How a provider is given another key, as a command that does it.

What is wrong with the one it has is `probe.py`'s and `upstreamcheck.py`'s.
"""

import shlex

from gproxy.config import schema, secrets


def another_key(row: schema.Provider, name: str) -> str:
    """What gives its credential `name` another key, in the same place; a first one if it has no such credential."""
    command = f"gproxy providers set-key {row.name}"
    found = next((each for each in row.credentials if each.label == name), None)
    if found is None:
        return f"give it a key: `{command} --env VARIABLE`, or --keyring or --literal"
    if len(row.credentials) > 1:
        command += f" --label {shlex.quote(name)}"
    if not found.env:
        return f"give it another key: `{command}`"
    if secrets.names_variable(found.env):
        return f"export another key as {found.env} where `gproxy serve` is started"
    return f"give it another key: `{command} --env VARIABLE`, or --keyring or --literal"
