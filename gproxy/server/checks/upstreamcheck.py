"""What `gproxy doctor` finds of the upstreams: address, keys, and by their clocks this machine's. Bounded in time.

What it finds on the machine is `checkup.py`'s.
"""

import asyncio
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping

from gproxy.config import ownkeys, schema, secrets
from gproxy.config.snapshot import Credential, Provider, Snapshot, build
from gproxy.errors import ConfigError
from gproxy.providers.catalog import CHANNELS
from gproxy.server.checks.checkup import Finding, State
from gproxy.server.checks.keyadvice import another_key
from gproxy.server.checks.probe import Outcome, probe_all
from gproxy.server.control.listing import credentials_of
from gproxy.server.transport.dialing import Dialed, dial_all
from gproxy.server.transport.unconnected import NO_TLS

_DIAL_S = 3.0
_PROBE_S = 4.0
_SECRET_S = 1.5

_AHEAD_S, _FAR_AHEAD_S = 30, 300
"""A clock that is so wrong is told; by more, tokens and the ends of keys go wrong."""

_STATES: dict[str, State] = {"ok": "ok", "limited": "warning", "untested": "warning"}

Unread = dict[tuple[str, str], str]


def upstreams(config: schema.Config, environ: Mapping[str, str], *, served: bool) -> Iterator[Finding]:
    """Each enabled provider, then the clock. `served`: a server runs, maybe with other variables than `environ`."""
    rows = [row for row in config.providers if row.enabled]
    found, unread = _secrets(rows, ownkeys.Reader(config, environ))
    snapshot = build(config, found)
    addresses = {row.name: _dialed(config, row) for row in rows if not CHANNELS[row.channel].offline}
    dialed = dial_all((url for url in addresses.values() if url), _DIAL_S)
    calls = [
        (snapshot.providers[row.name], credential)
        for row in rows
        if row.name not in addresses or not _unreached(dialed, addresses[row.name])
        for credential in credentials_of(snapshot.providers[row.name])
    ]
    outcomes = _probed(snapshot, calls)
    for row in rows:
        if url := addresses.get(row.name):
            yield _address(row, dialed[url])
        elif row.name not in addresses:
            yield Finding(row.name, "ok", "it is answered here, offline")
        for (provider, credential), outcome in zip(calls, outcomes, strict=True):
            if provider.name == row.name and row.name in addresses:
                yield _key(row.name, credential, outcome)
        yield from _unreadable(row, unread, served=served)
    if dialed:
        yield _clock(dialed.values())


def _secrets(
    rows: list[schema.Provider], reader: ownkeys.Reader
) -> tuple[dict[tuple[str, str], str], Unread]:
    """The secrets that can be read here, and why the others cannot. A ring that does not answer is asked once."""
    found: dict[tuple[str, str], str] = {}
    unread: Unread = {}
    silent = ""
    for row in rows:
        for credential in row.credentials:
            place = (row.name, credential.label)
            if credential.keyring and silent:
                unread[place] = silent
                continue
            try:
                found[place] = reader.read(row, credential, patience_s=_SECRET_S)
            except ConfigError as error:
                unread[place] = error.message
                if credential.keyring and "did not answer" in error.message:
                    silent = error.message
    return found, unread


def _dialed(config: schema.Config, row: schema.Provider) -> str:
    """What is connected to for a provider: its address, or the proxy in front of it; "" if it has none."""
    return row.settings.proxy or config.globals.proxy or row.settings.base_url or CHANNELS[row.channel].root


def _unreached(dialed: Mapping[str, Dialed], url: str) -> bool:
    return not url or bool(dialed[url].failed)


def _probed(snapshot: Snapshot, calls: list[tuple[Provider, Credential]]) -> list[Outcome]:
    """What each call came to; in a thread, so that a name that is looked up for long is not waited for."""
    late = Outcome(
        "unreachable", "", round(_PROBE_S * 1000), None, f"no answer within {_PROBE_S:g} s", "try again"
    )
    done: queue.SimpleQueue[list[Outcome]] = queue.SimpleQueue()

    def probe() -> None:
        done.put(asyncio.run(probe_all(snapshot, calls, within_s=_PROBE_S)))

    threading.Thread(target=probe, name="probe", daemon=True).start()
    try:
        return done.get(timeout=_PROBE_S + 1)
    except queue.Empty:
        return [late for _ in calls]


def _address(row: schema.Provider, dialed: Dialed) -> Finding:
    if not dialed.failed:
        return Finding(row.name, "ok", f"{dialed.host} is reached, {dialed.milliseconds} ms")
    fix = {
        "DNS": "see settings.base_url, and whether names are resolved here (DNS, VPN)",
        "TCP": "see whether it runs, and whether a firewall or proxy stands between (settings.proxy)",
        "TLS": "see this machine's certificates (a proxy that opens TLS needs its own: SSL_CERT_FILE)",
        "HTTP": "see settings.base_url: http:// or https://, and the port",
    }[dialed.failed]
    if dialed.told == NO_TLS:
        fix = "write http:// in settings.base_url, or see its port"
    return Finding(row.name, "wrong", f"{dialed.failed} of {dialed.host}: {dialed.told}", fix)


def _key(name: str, credential: Credential, outcome: Outcome) -> Finding:
    state = _STATES.get(outcome.kind, "wrong")
    return Finding(name, state, f"{credential.name}: {outcome.told or outcome.kind}", outcome.advice)


def _unreadable(row: schema.Provider, unread: Unread, *, served: bool) -> Iterator[Finding]:
    for credential in row.credentials:
        why = unread.get((row.name, credential.label))
        if why is None:
            continue
        fix = another_key(row, credential.label)
        state: State = "wrong"
        if credential.env and secrets.names_variable(credential.env):
            fix = f"export {credential.env} with its key where `gproxy serve` is started"
            why = f"{why.partition(':')[0]}, judged by this terminal's environment"
            if served:
                state, why = "warning", f"{why}; the server that runs may have it"
        yield Finding(row.name, state, f"{credential.label}: {why}", fix)
    if not row.credentials and CHANNELS[row.channel].needs_key:
        yield Finding(row.name, "wrong", "it has no credential", another_key(row, ""))


def _clock(dialed: Iterable[Dialed]) -> Finding:
    """By the upstream that agrees best: one whose own clock is wrong is no reason to doubt ours."""
    told = [each for each in dialed if each.ahead_s is not None]
    if not told:
        return Finding("clock", "ok", "not compared: no upstream told the time")
    best = min(told, key=lambda each: abs(each.ahead_s or 0))
    ahead = best.ahead_s or 0.0
    if abs(ahead) < _AHEAD_S:
        return Finding("clock", "ok", f"as that of {best.host}")
    state: State = "wrong" if abs(ahead) >= _FAR_AHEAD_S else "warning"
    way = "ahead of" if ahead > 0 else "behind"
    told_so = f"{abs(ahead):.0f} s {way} that of {best.host}"
    return Finding("clock", state, told_so, "set it by NTP: `timedatectl set-ntp true`")
