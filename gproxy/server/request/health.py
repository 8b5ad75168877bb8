"""How the credentials stand, as one process knows it: in memory, written behind, and read from the other processes.

What an outcome does to a credential's health is `routing/credentials.py`'s, the table `ledger/credential_state.py`'s.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from msgspec import Struct

from gproxy.config.snapshot import Snapshot
from gproxy.errors import StoreError
from gproxy.ledger import credential_state
from gproxy.ledger.credential_state import Key, Row
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.writer import Writer
from gproxy.routing import credentials
from gproxy.routing.credentials import WHOLE, Cause, Condition, Failure, State
from gproxy.routing.failover import NO_KEY, Candidate, choose
from gproxy.values import READY, Health

POLL_SECONDS = 0.5
"""How long it takes until one process knows what another has learnt, or a command has reset."""

MOST_ENTRIES = 4096
"""Models are named by clients: beyond this, those go whose cool-down ends soonest."""

MOST_NAME_CHARS = 200

Step = Callable[[Health], Health | None]

_FOR_PEOPLE = (Cause.BAD_KEY, Cause.BILLING)
"""What ends when somebody does something about it."""

logger = logging.getLogger(__name__)


class Turn(Struct, frozen=True):
    """The candidate that is asked next, from `began` on (seconds since the epoch). `claim`: what it probes, and until
    when that holds others off. `identities`: what all were then, as far as that is known."""

    candidate: Candidate
    began: float
    claim: tuple[Key, float] | None = None
    identities: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return f"Turn({self.candidate})"  # `identities` are secret


class HealthBook:
    """Of one process, to be made inside its running loop."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._entries: dict[Key, Health] = {}  # those that are not ready
        self._secrets: dict[tuple[str, str], str | None] = {}
        self._identities: dict[tuple[str, str], str] = {}
        self._writing: dict[Key, set[object]] = {}  # steps that are not in the store yet
        self._deferred: dict[Key, Row] = {}  # the latest news of those: what is ahead of the store stays so
        self._seen = 0
        self._reader = credential_state.Reader(writer.path)
        self._thread = ThreadPoolExecutor(1, "credential-health")

    def adopt(self, snapshot: Snapshot) -> None:
        """A configuration is put in force: what is known of other credentials than its own is forgotten."""
        now = identities(snapshot)
        # One that is not there now may come back as another: if its secret was only unreadable, the store tells.
        for key in [key for key in self._entries if now.get(key[:2]) != self._identities.get(key[:2])]:
            del self._entries[key]
        self._identities = now
        self._secrets = {
            (provider.name, credential.name): credential.secret
            for provider in snapshot.providers.values()
            for credential in provider.credentials or (NO_KEY,)
        }
        self._seen = 0
        rows = snapshot.config.providers
        unread = {(row.name, credential.label) for row in rows for credential in row.credentials} - now.keys()
        self._writer.put(partial(credential_state.keep, credentials=now, unread=unread))

    # What requests ask.

    @property
    def well(self) -> bool:
        """Whether all credentials are, as far as is known here."""
        return not self._entries

    def condition(self, candidate: Candidate, now: float) -> Condition:
        """How a candidate stands at `now`, seconds since the epoch."""
        if not self._entries:
            return _FINE
        whole, model = _keys(candidate)
        return credentials.condition(self._entries.get(whole, READY), self._entries.get(model, READY), now)

    def first(self, left: Sequence[Candidate]) -> Turn | None:
        """The first of those left to try, if all credentials are well; else None, and `turn` has to find it."""
        return None if self._entries or not left else Turn(left[0], time.time(), None, self._identities)

    async def turn(self, left: Sequence[Candidate]) -> Turn | None:
        """The next of those left to try, None if none may be asked now."""
        while left:
            now = time.time()
            if not self._entries:
                return Turn(left[0], now, None, self._identities)
            conditions = [self.condition(candidate, now) for candidate in left]
            place = choose(conditions)
            if place is None:
                return None
            if conditions[place].state is not State.PROBE:
                return Turn(left[place], now, None, self._identities)
            if claim := await self._claim(left[place], now):
                return Turn(left[place], now, claim, self._identities)
            # Another has it, or its outcome is known: look again.
        return None

    def answered(self, turn: Turn) -> None:
        """It gave a good answer."""
        if self._entries:
            for key in _keys(turn.candidate):
                if key in self._entries:
                    self._step(key, turn, partial(credentials.after_success, began=turn.began))

    def failed(self, turn: Turn, failure: Failure) -> float | None:
        """It failed so. Returns for how many seconds it is out now, None if it is not."""
        whole, model = _keys(turn.candidate)
        key = whole if failure.cause in WHOLE else model
        if turn.claim is not None and turn.claim[0] != key:
            self.untouched(turn)
        now = time.time()
        was = self.condition(turn.candidate, now).state
        self._step(key, turn, partial(credentials.after_failure, failure=failure, began=turn.began, now=now))
        stands = self.condition(turn.candidate, now)
        if failure.cause in _FOR_PEOPLE and stands.state is not was:
            logger.warning(
                "%s (%s): %s; `gproxy credentials list` shows what that means", *key[:2], failure.reason
            )
        return stands.seconds if stands.state is State.OUT else None

    def untouched(self, turn: Turn) -> None:
        """It came to no outcome, or to one that says nothing of its credential: somebody else may probe."""
        if turn.claim is not None:
            key, until = turn.claim
            self._step(key, turn, partial(credentials.not_probed, claim=until))

    # What other processes know.

    async def refresh(self) -> None:
        """Take over what has changed in the store. One that cannot be read means that there is no news."""
        loop = asyncio.get_running_loop()
        seen = self._seen
        try:
            rows = await loop.run_in_executor(self._thread, self._reader.since, seen)
        except StoreError:
            return
        if self._seen != seen:
            return  # another configuration has come into force: all is to be looked at again
        for row in rows:
            self._seen = row.version
            if row.key in self._writing:
                self._deferred[row.key] = row
            else:
                self._take(row)

    async def follow(self) -> None:
        """Keep up with the other processes; runs until it is cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.refresh()

    def close(self) -> None:
        """Read no more; to be called once. A read that is under way is waited for: the last connection to the store
        that is closed brings its log into the main file, and this one may not."""
        self._thread.submit(self._reader.close)
        self._thread.shutdown()

    async def _claim(self, candidate: Candidate, now: float) -> tuple[Key, float] | None:
        """Try to be the one that probes: of all requests, in all processes."""
        key, probed = next(
            (key, probed)
            for key in _keys(candidate)
            if (probed := credentials.probed(self._entries.get(key, READY), now)) is not None
        )
        claim = key, probed.probe_until
        identity = self._identities.get(key[:2], "")
        self._entries[key] = probed  # until it is known, nobody else here need ask
        written = self._writing_begins(key)
        step = partial(credentials.probed, now=now)
        try:
            row, won = await self._writer.run(
                partial(credential_state.change, key=key, identity=identity, step=step)
            )
        except StoreError:
            row, won = None, True  # the store takes nothing now: each process for itself
        except asyncio.CancelledError:
            written(None)
            self.untouched(Turn(candidate, now, claim))
            raise
        written(row)
        return claim if won else None

    def _step(self, key: Key, turn: Turn, step: Step) -> None:
        """Take a step here at once, and in the store behind it."""
        identity = self._identities.get(key[:2])
        if identity is None or self._secrets[key[:2]] != turn.candidate[1].secret:
            return  # it was asked with a secret that has been replaced since
        if turn.identities.get(key[:2], identity) != identity:
            return  # it was asked elsewhere
        before = self._entries.get(key, READY)
        after = step(before)
        if after is None or after == before:
            return
        self._note(key, after)
        written = self._writing_begins(key)
        loop = self._loop

        def work(db: sqlite3.Connection) -> None:
            row, _ = credential_state.change(db, key=key, identity=identity, step=step)
            with contextlib.suppress(RuntimeError):  # the loop is closed: there is nobody to know of it
                loop.call_soon_threadsafe(written, row)

        try:
            self._writer.put(work)
        except StoreError:
            written(None)

    def _writing_begins(self, key: Key) -> Callable[[Row | None], None]:
        """What is to be called when a step is in the store, with what came of it; again if it had to be repeated."""
        token = object()
        self._writing.setdefault(key, set()).add(token)

        def written(row: Row | None) -> None:
            news = self._deferred.get(key)
            if row is not None and (news is None or news.version < row.version):
                self._deferred[key] = row
            under_way = self._writing.get(key, set())
            under_way.discard(token)
            if not under_way:
                self._writing.pop(key, None)
                if (latest := self._deferred.pop(key, None)) is not None:
                    self._take(latest)

        return written

    def _take(self, row: Row) -> None:
        if row.key[:2] in self._identities and row.is_of(self._identities[row.key[:2]]):
            self._note(row.key, row.health)

    def _note(self, key: Key, health: Health) -> None:
        if health.state == "ready":
            self._entries.pop(key, None)
            return
        self._entries[key] = health
        if len(self._entries) > MOST_ENTRIES:
            models = (key for key in self._entries if key[2])
            self._entries.pop(min(models, key=lambda key: self._entries[key].until), None)


def identities(snapshot: Snapshot) -> dict[tuple[str, str], str]:
    """What makes each (provider, credential) that can be used itself: its secret, and whom it is sent to."""
    return {
        (provider.name, credential.name): f"{provider.settings.base_url}\0{credential.secret or ''}"
        for provider in snapshot.providers.values()
        for credential in provider.credentials or (NO_KEY,)
    }


_FINE = Condition()


def _keys(candidate: Candidate) -> tuple[Key, Key]:
    """Under which a credential's health is kept: as a whole, and for the model."""
    target, credential = candidate
    return (target.provider, credential.name, ""), (
        target.provider,
        credential.name,
        target.model[:MOST_NAME_CHARS],
    )
