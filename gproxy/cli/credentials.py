"""`gproxy credentials`: how the upstreams' credentials stand, and making them ready again.

What takes one out and for how long is decided in `routing/credentials.py`.
"""

import time
from datetime import datetime
from typing import Annotated, Any

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption, group

app = group("How the providers' credentials stand: ready, cooling down or disabled.")


@app.command("list")
def list_credentials(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every credential with its state and last error, and the models that it has last failed for.

    A cool-down is `out` (not used until then) or `back` (used when no other is there). It lasts 15 minutes at most,
    so its end is told as a time of day; in JSON it is whole, in UTC.
    """
    from gproxy.config.source import data_dir
    from gproxy.ledger import credential_state
    from gproxy.server import overview

    path = files.find(config)
    found = files.read(path)
    rows = credential_state.read(data_dir(found, path.resolve().parent) / "gproxy.db")
    trees = overview.credentials(found, overview.healths(rows), time.time())
    if as_json:
        output.show_json(trees)
    else:
        output.show(
            [_row(tree) for tree in trees],
            as_json=False,
            empty="No credentials yet: `gproxy providers add` adds a provider with one.",
        )


@app.command("reset")
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
    from gproxy.server import overview

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


def _row(tree: dict[str, Any]) -> dict[str, Any]:
    """For people: times in the local zone, nothing twice."""
    until = tree["until"]
    return {
        "provider": tree["provider"],
        "credential": tree["credential"],
        "model": tree["model"],
        "state": f"{tree['state']}, {tree['held']}" if tree["held"] else tree["state"],
        "until": until and f"{datetime.fromisoformat(until).astimezone():%H:%M:%S}",
        "fails": tree["failures"] or None,
        "last error": tree["last_error"] and tree["last_error"].removeprefix("status "),
    }
