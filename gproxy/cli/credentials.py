"""`gproxy credentials`: how the upstreams' credentials stand, and making them ready again.

What takes one out and for how long is decided in `routing/credentials.py`.
"""

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from gproxy.config.schema import Config


def list_credentials(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every credential with its state and last error, and the models that it has last failed for.

    A cool-down is `out` (not used until then) or `back` (used when no other is there). It lasts 15 minutes at most,
    so its end is told as a time of day; in JSON it is whole, in UTC.

    `not readable here`: its environment variable is not set in this terminal, or what it holds is no secret. A
    server may have been started with another environment, and /admin/credentials tells how it is there. The keyring
    is not asked. In JSON this is `readable_here`, null where it is not known.
    """
    from gproxy.config.source import data_dir
    from gproxy.ledger import credential_state
    from gproxy.server.control import overview

    path = files.find(config)
    found = files.read(path)
    rows = credential_state.read(data_dir(found, path.resolve().parent) / "gproxy.db")
    trees = overview.credentials(found, overview.healths(rows), time.time())
    here = _readable(found)
    if as_json:
        output.show_json([tree | {"readable_here": _is_readable(here, tree)} for tree in trees])
    else:
        output.show(
            _filled([_row(tree, here, trees) for tree in trees]),
            as_json=False,
            whole=("provider", "credential", "model", "until"),
            empty="No credentials yet: `gproxy providers add` adds a provider with one.",
        )


def reset(
    provider: Annotated[str | None, typer.Argument(metavar="[PROVIDER]", help="Of this provider.")] = None,
    credential: Annotated[str | None, typer.Argument(metavar="[CREDENTIAL]", help="This one alone.")] = None,
    config: ConfigOption = None,
) -> None:
    """Make credentials ready again, all of them or those named; a running server knows within 2 s."""
    from functools import partial

    from gproxy.config.source import data_dir
    from gproxy.errors import ConfigError
    from gproxy.ledger import credential_state
    from gproxy.ledger.store import open_store
    from gproxy.server.control import overview

    path = files.find(config)
    found = files.read(path)
    named = {(tree["provider"], tree["credential"]) for tree in overview.credentials(found, {}, 0.0)}
    if provider is not None and provider not in {row.name for row in found.providers}:
        raise ConfigError(f"there is no provider {provider}: `gproxy providers list` shows them")
    if credential is not None and (provider, credential) not in named:
        raise ConfigError(f"{provider} has no credential {credential}: `gproxy credentials list` shows them")
    store_path = data_dir(found, path.resolve().parent) / "gproxy.db"
    count = 0
    if store_path.exists():
        store = open_store(store_path)
        try:
            (count,) = store.run([partial(credential_state.reset, provider=provider, credential=credential)])
        finally:
            store.close()
    output.note(
        f"{count} cool-downs and refusals forgotten." if count != 1 else "1 cool-down or refusal forgotten."
    )


def _readable(config: "Config") -> dict[tuple[str, str], str]:
    """By provider and credential what is wrong with the secret in this terminal, "" for nothing; those in the keyring
    are not there."""
    from gproxy.config import ownkeys
    from gproxy.errors import ConfigError

    found: dict[tuple[str, str], str] = {}
    reader = ownkeys.Reader(config, os.environ)
    for provider in config.providers:
        for credential in provider.credentials:
            if credential.keyring:
                continue
            try:
                reader.read(provider, credential)
            except ConfigError as error:
                found[provider.name, credential.label] = error.message.partition(":")[0].removeprefix(
                    "the environment "
                )
            else:
                found[provider.name, credential.label] = ""
    return found


def _is_readable(here: dict[tuple[str, str], str], tree: dict[str, Any]) -> bool | None:
    wrong = here.get((tree["provider"], tree["credential"]))
    return None if wrong is None else not wrong


def _row(
    tree: dict[str, Any], here: dict[tuple[str, str], str], trees: list[dict[str, Any]]
) -> dict[str, Any]:
    """For people: times in the local zone, nothing twice."""
    until, name = tree["until"], (tree["provider"], tree["credential"])
    state = f"{tree['state']}, {tree['held']}" if tree["held"] else tree["state"]
    told = tree["last_error"] and tree["last_error"].removeprefix("status ")
    if state == "ready" and tree["model"] is None:
        cooling = [t for t in trees if (t["provider"], t["credential"]) == name and t["state"] == "cooling"]
        if cooling:
            state = f"ready, {len(cooling)} model{'s' if len(cooling) > 1 else ''} cooling"
        if here.get(name):
            state, told = "not readable here", here[name]
    return {
        "provider": tree["provider"],
        "credential": tree["credential"],
        "model": tree["model"],
        "state": state,
        "until": until and f"{datetime.fromisoformat(until).astimezone():%H:%M:%S}",
        "fails": tree["failures"] or None,
        "last error": told,
    }


def _filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without those columns that say nothing in any of them."""
    said = {name for row in rows for name, value in row.items() if value is not None}
    return [{name: value for name, value in row.items() if name in said} for row in rows]
