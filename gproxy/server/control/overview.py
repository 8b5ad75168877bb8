"""How every configured credential stands, as trees for JSON, for an admin's key and for commands.

What it means that one cools down is `routing/credentials.py`'s; who may see it is `admin.py`'s.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from gproxy.config import schema
from gproxy.config.snapshot import Snapshot
from gproxy.ledger.credential_state import Key, Row
from gproxy.ledger.when import stamp
from gproxy.providers.catalog import CHANNELS
from gproxy.routing.credentials import State, condition
from gproxy.routing.failover import NO_KEY
from gproxy.server.request.health import identities
from gproxy.values import READY, Health

_STATES = {State.OUT: "cooling", State.BACK: "cooling", State.REFUSED: "disabled"}


def healths(rows: Iterable[Row], snapshot: Snapshot | None = None) -> dict[Key, Health]:
    """What the store's rows say; with a snapshot only what is said of the credentials in that."""
    known = None if snapshot is None else identities(snapshot)
    return {
        row.key: row.health
        for row in rows
        if known is None or (row.key[:2] in known and row.is_of(known[row.key[:2]]))
    }


def credentials(
    config: schema.Config, known: dict[Key, Health], now: float, snapshot: Snapshot | None = None
) -> list[dict[str, Any]]:
    """One tree for every credential, in file order, and behind it one for each model that it has last failed for.

    `model` is None for the credential as a whole. Times are UTC. `now` is seconds since the epoch. With the snapshot
    in force a secret that could not be read is told. No part of a secret is in it.
    """
    trees = []
    for provider in config.providers:
        for name in _names(provider):
            why = ""
            if not provider.enabled:
                why = "its provider is disabled"
            elif snapshot is not None and name not in _read(snapshot, provider.name):
                why = "its secret could not be read"
            trees.append(_tree((provider.name, name, ""), known, now, why))
            of_models = sorted(key for key in known if key[:2] == (provider.name, name) and key[2])
            trees += [_tree(key, known, now, why) for key in of_models if known[key].state != "ready"]
    return trees


def _names(provider: schema.Provider) -> Iterator[str]:
    yield from (credential.label for credential in provider.credentials)
    channel = CHANNELS.get(provider.channel)
    if not provider.credentials and channel is not None and not channel.needs_key:
        yield NO_KEY.name


def _read(snapshot: Snapshot, provider: str) -> set[str]:
    found = snapshot.providers[provider].credentials
    return {credential.name for credential in found or (NO_KEY,)}


def _tree(key: Key, known: dict[Key, Health], now: float, why: str) -> dict[str, Any]:
    health = known.get(key, READY)
    stands = condition(health, READY, now)
    state = "disabled" if why else _STATES.get(stands.state, "ready")
    cooling = state == "cooling"
    return {
        "provider": key[0],
        "credential": key[1],
        "model": key[2] or None,
        "state": state,
        "held": health.held if cooling else None,
        "until": _time(now + stands.seconds) if cooling else None,
        "failures": health.failures,
        "last_status": health.status,
        "last_error": why or health.error or None,
        "last_failed_at": _time(health.at) if health.at else None,
    }


def _time(seconds: float) -> str:
    return stamp(datetime.fromtimestamp(seconds, UTC))
