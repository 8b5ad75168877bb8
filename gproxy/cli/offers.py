"""The providers of a first file: whose keys are in the environment, that options name, or that the user describes.

What becomes of them is `init.py`'s.
"""

import dataclasses
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import typer

from gproxy.cli import output, templates
from gproxy.cli.providers import Secret, ask_secret, key_variable
from gproxy.config.redact import address
from gproxy.config.schema import Global
from gproxy.errors import ConfigError
from gproxy.providers import catalog

if TYPE_CHECKING:
    from gproxy.server.checks.probe import Outcome

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Offer:
    """One provider, where its key is, the ids of its models as far as it told them, and what it speaks if that is not
    its channel's to say."""

    name: str
    channel: str
    base_url: str | None = None
    secret: Secret | None = None
    models: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()

    @property
    def called(self) -> str:
        """Its name, with its address if that is not the channel's own."""
        return self.name if self.base_url is None else f"{self.name} at {address(self.base_url)}"

    @property
    def table(self) -> str:
        """As it stands in the file."""
        return templates.provider(self.name, self.channel, self.base_url, self.secret, self.protocols)

    @property
    def key(self) -> str | None:
        """Its key, if that can be had here."""
        if self.secret is None:
            return None
        if self.secret.form == "env":
            return os.environ.get(self.secret.value)
        return self.secret.stored or self.secret.value

    @property
    def fault(self) -> str:
        """Why it cannot be called with its key from here; "" if it can."""
        from gproxy.config.ownkeys import astray

        if self.secret is None:
            return ""
        if not self.key:
            return f"{self.secret.value} is not set here"
        return "its key is one that a gproxy made" if astray(self.key, self.base_url) else ""


def default_name(channel: str) -> str:
    """What a provider is called if nobody says: several may be of a channel that is called with a key."""
    return f"{channel}-main" if catalog.CHANNELS[channel].needs_key else channel


def found() -> list[Offer]:
    """One for each channel whose key is in the environment under a usual name, at the address that is there.

    A key file that is named there is often for other programs, and of another kind than a service account's.
    """
    offers = []
    for name, channel in catalog.CHANNELS.items():
        if not channel.root or not channel.needs_key or channel.service_account:
            continue
        usual = key_variable(name)
        set_here = [each for each in (usual, *channel.other_variables) if os.environ.get(each)]
        for variable in set_here[:1] if usual in set_here else set_here:
            base_url = _address_of(channel)
            offer = Offer(default_name(name), name, base_url, Secret("env", variable))
            if why := _no_offer(offer, channel.address_variable):
                output.note(f"{variable} is not taken for a provider: {why}.")
            else:
                offers.append(offer)
    return offers


def _address_of(channel: catalog.Channel) -> str | None:
    """That of the environment, if it is another than the channel's own: its key may be a relay's."""
    given = os.environ.get(channel.address_variable, "") if channel.address_variable else ""
    own = given.rstrip("/").removesuffix("/v1") == channel.root
    return None if own else given or None


def _no_offer(offer: Offer, address_variable: str) -> str:
    """Why what the environment says cannot be a provider's, or is rather a client's of gproxy; "" if it can be."""
    from gproxy.config.keys import looks_made_here
    from gproxy.config.load import load

    if looks_made_here(offer.key or ""):
        return "it holds a key that a gproxy made"
    if offer.base_url is None:
        return ""
    if load(offer.table.encode(), channels=catalog.CHANNELS)[0] is None:
        return f"{address_variable} is no address that could be its base_url"
    if _is_ours(offer.base_url):
        return f"{address_variable} points to gproxy itself"
    return ""


def _is_ours(url: str) -> bool:
    """Whether it is where the server of this file will be, as far as that is known before there is one."""
    parts = urlsplit(url)
    port = os.environ.get("GPROXY_PORT") or str(Global().port)
    return parts.hostname in ("127.0.0.1", "localhost", "::1") and str(parts.port) == port


def given(
    channel: str,
    name: str | None,
    base_url: str | None,
    protocols: Sequence[str] | None,
    *,
    env: str | None,
    keyring: bool,
    literal: bool,
) -> Offer:
    """That of the options; its key is asked for, or read from standard input."""
    if channel not in catalog.CHANNELS:
        raise typer.BadParameter(output.not_one_of(channel, catalog.CHANNELS), param_hint="--channel")
    name = name or default_name(channel)
    if not (env or keyring or literal) and catalog.CHANNELS[channel].needs_key:
        env = key_variable(channel)
    secret = ask_secret(name, channel, env=env, keyring=keyring, entry=None, literal=literal)
    return Offer(name, channel, base_url, secret, protocols=tuple(protocols or ()))


def asked(path: Path) -> list[Offer]:
    """Those that the user describes: at a terminal any number, each tried at once, else one or none."""

    offers: list[Offer] = []
    at_terminal = sys.stdin.isatty()
    if at_terminal:
        for offer in found():
            where = offer.secret.value if offer.secret else ""
            if typer.confirm(f"{where} is set. Take it as {offer.called}?", default=True, err=True):
                offers += _standing(offer)
    _show_channels()
    while True:
        channel = _until_right(partial(_asked_channel, first=not offers))
        if not channel:
            return offers
        offer = _described(path, channel, offers)
        if not at_terminal:
            return [offer]
        offers += _standing(offer)


def suggested(offers: Sequence[Offer]) -> list[str]:
    """Models of theirs to begin with, as PROVIDER/MODEL, a few of each: those that the catalogue names and the
    provider has, else the first of its list that are none for sound, pictures or embeddings."""
    found = []
    for offer in offers:
        named = catalog.CHANNELS[offer.channel].models
        known = [model for model in named if model in offer.models or not (offer.models or offer.base_url)]
        talking = [model for model in offer.models if not _OTHERS.search(model)]
        found += [f"{offer.name}/{model}" for model in (known or talking)[:_MOST_SUGGESTED]]
    return found


def asked_alias(path: Path, offers: Sequence[Offer]) -> str:
    """`NAME=PROVIDER/MODEL` of an alias that the user wants; "" for none."""
    name = _until_right(partial(prompt, "An alias for a model, such as chat-default (empty: none)", ""))
    if not name:
        return ""
    models = suggested(offers)
    if models:
        output.note("Some that there are: " + ", ".join(models))
    return _until_right(lambda: _alias(path, offers, name, next(iter(models), None)))


def tried(offers: Sequence[Offer]) -> "list[Outcome | None]":
    """What a call by each key came to; None where the key is not to be had here, or nothing would be asked."""
    import asyncio

    from gproxy.config.load import load
    from gproxy.config.snapshot import build
    from gproxy.server.checks.probe import probe_all
    from gproxy.server.control.listing import credentials_of

    config, _ = load("\n".join(offer.table for offer in offers).encode(), channels=catalog.CHANNELS)
    if config is None:
        return [None for _ in offers]
    usable = {(o.name, f"{o.name}#1"): o.key for o in offers if o.key and not o.fault}
    snapshot = build(config, usable)
    found = {name: credentials_of(provider) for name, provider in snapshot.providers.items()}
    calls = [(snapshot.providers[name], each[0]) for name, each in found.items() if each]
    with output.waiting("asking " + ", ".join(provider.name for provider, _ in calls)):
        outcomes = asyncio.run(probe_all(snapshot, calls, within_s=_PATIENCE_S))
    by_name = {provider.name: outcome for (provider, _), outcome in zip(calls, outcomes, strict=True)}
    return [by_name.get(offer.name) for offer in offers]


def tell(offer: Offer, outcome: "Outcome | None") -> bool:
    """Say what a call came to; whether it is no failure."""
    if outcome is None:
        output.note(f"{offer.name}: {offer.fault or 'nothing would be asked'}; it was not tried.")
        return not offer.fault
    output.note(f"{offer.name}: {'; '.join(filter(None, [outcome.told or outcome.kind, outcome.advice]))}.")
    return outcome.kind in ("ok", "untested")


def storing(offers: Sequence[Offer]) -> Callable[[], AbstractContextManager[None]] | None:
    """What puts their keys into the keyring, as `Secret.storing`; None if none has its place there."""
    kept = [storing for offer in offers if offer.secret and (storing := offer.secret.storing)]

    @contextmanager
    def all_of_them() -> Iterator[None]:
        with ExitStack() as stack:
            for each in kept:
                stack.enter_context(each())
            yield

    return all_of_them if kept else None


def prompt(question: str, default: str | None) -> str:
    """What is answered; raises ConfigError for what looks like a key, and where there is nobody to answer."""
    try:
        answer = str(typer.prompt(question, default=default, show_default=bool(default), err=True)).strip()
    except typer.Abort as abort:
        if sys.stdin.isatty() or not isinstance(abort.__context__, EOFError):
            raise
        output.note("")
        raise ConfigError("nobody answers: `gproxy init --yes`, or --channel, asks nothing") from None
    if _LIKE_A_KEY.match(answer):
        raise ConfigError(
            "that looks like a key: it was not taken, and is asked for later, without being shown"
        )
    return answer


_PATIENCE_S = 15.0
_MOST_SUGGESTED = 3
_LIKE_A_KEY = re.compile(r"(?:sk-|op_|AIza)\S{12,}|(?![A-Z0-9_]+$)[\w-]{32,}$")
"""Of providers as they make them; a name in capitals is a variable's."""
_OTHERS = re.compile(
    "embed|whisper|tts|audio|speech|realtime|live|image|dall-e|sora|veo|imagen|moderation|guard|rerank|ocr|transcribe",
    re.IGNORECASE,
)
"""In the names of models that do not talk."""


def _show_channels() -> None:
    output.note("Channels:")
    for name, row in catalog.CHANNELS.items():
        output.note(
            f"  {name:<14} {row.root or ('answered here, offline' if row.offline else 'an address of yours')}"
        )


def _until_right(ask: Callable[[], _Answer]) -> _Answer:
    """What is answered; at a terminal what cannot be is told and asked for again, so that nothing is lost by it."""
    while True:
        try:
            return ask()
        except ConfigError as error:
            if not sys.stdin.isatty():
                raise
            for line in (*error.problems, error.message):
                output.note(line)


def _asked_channel(*, first: bool) -> str:
    which = "the first provider (empty: none yet)" if first else "another provider (empty: none)"
    channel = prompt(f"Channel of {which}", "")
    if channel and channel not in catalog.CHANNELS:
        near = difflib.get_close_matches(channel, catalog.CHANNELS, 1)
        meant = f", did you mean {near[0]}?" if near else ": choose one of those listed"
        raise ConfigError(f"there is no channel {channel}{meant}")
    return channel


def _alias(path: Path, offers: Sequence[Offer], name: str, default: str | None) -> str:
    from gproxy.config.edit import refuse_new
    from gproxy.config.keys import make_key

    target = prompt("The model that it stands for, as PROVIDER/MODEL", default)
    provider, _, model = target.partition("/")
    if not (provider and model):
        raise ConfigError(f"{target} is not PROVIDER/MODEL")
    tables = "\n".join(offer.table for offer in offers)
    text = templates.first_file(tables, make_key(), (name, provider, model))
    refuse_new(path, text, channels=catalog.CHANNELS, environ=os.environ)
    return f"{name}={target}"


def _described(path: Path, channel: str, before: Sequence[Offer]) -> Offer:
    """Asked for bit by bit; what cannot be is said before a secret is typed in vain."""
    row = catalog.CHANNELS[channel]
    name = _until_right(partial(_asked_name, path, channel, before))
    base_url = None
    if row.needs_address:
        base_url = _until_right(partial(_asked_address, path, channel, name))
    offer = Offer(name, channel, base_url)
    return offer if row.offline else dataclasses.replace(offer, secret=_asked_secret(name, channel))


def _asked_name(path: Path, channel: str, before: Sequence[Offer]) -> str:
    name = prompt("Its name here", default_name(channel))
    # An address that could be stands in for the one that has not been asked for.
    stand_in = "http://127.0.0.1" if catalog.CHANNELS[channel].needs_address else None
    _refuse_offers(path, (*before, Offer(name, channel, stand_in)))
    return name


def _asked_address(path: Path, channel: str, name: str) -> str:
    base_url = prompt("Its base URL", None)
    _refuse_offers(path, (Offer(name, channel, base_url),))
    return base_url


def _refuse_offers(path: Path, offers: Sequence[Offer]) -> None:
    from gproxy.config.edit import refuse_new

    text = "\n".join(offer.table for offer in offers)
    refuse_new(path, text, channels=catalog.CHANNELS, environ=os.environ)


def _asked_secret(name: str, channel: str) -> Secret | None:
    """A key that cannot be is followed by the question where it is: there may be none to type."""
    usual = _usual_place(channel)

    def once() -> Secret | None:
        nonlocal usual
        place = usual = _until_right(partial(_asked_place, usual))
        env = None
        if place == "env":
            env = _until_right(partial(prompt, "Which variable", key_variable(channel)))
        return ask_secret(
            name, channel, env=env, keyring=place == "keyring", entry=None, literal=place == "literal"
        )

    return _until_right(once)


def _asked_place(usual: str) -> str:
    place = prompt("Where is its key? env, keyring, literal (in the file) or none", usual)
    if place not in ("env", "keyring", "literal", "none"):
        raise ConfigError(f"{place} is no place for a key: answer env, keyring, literal or none")
    return place


def _usual_place(channel: str) -> str:
    from gproxy.config import secrets

    if not catalog.CHANNELS[channel].needs_key:
        return "none"
    if os.environ.get(key_variable(channel)):
        return "env"
    try:
        secrets.backend()
    except ConfigError:
        return "env"
    return "keyring"


def _standing(offer: Offer) -> list[Offer]:
    """Try it at once; it, with what it told, if it is taken: one that fails only if the user says so."""
    (outcome,) = tried([offer])
    if tell(offer, outcome):
        return [dataclasses.replace(offer, models=outcome.models) if outcome else offer]
    return [offer] if typer.confirm("Take it all the same?", default=not offer.key, err=True) else []
