"""`gproxy providers`: the upstreams and their keys. Where secrets are kept is `config/secrets.py`'s."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.config.schema import PROTOCOLS, Credential, Provider
from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from gproxy.config.ownkeys import Reader

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the provider.")]
EnvOption = Annotated[
    str | None, typer.Option(metavar="VARIABLE", help="Its key is in this environment variable.")
]
KeyringOption = Annotated[
    bool, typer.Option("--keyring", help="Ask for its key and keep it in the OS keyring.")
]
EntryOption = Annotated[
    str | None,
    typer.Option("--keyring-entry", metavar="NAME", help="The same, under this name in the keyring."),
]
LiteralOption = Annotated[bool, typer.Option("--literal", help="Ask for its key and write it to the file.")]
ProtocolOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PROTOCOL",
        help=f"What a custom one speaks, if more than chat and embeddings: {', '.join(PROTOCOLS)}.",
    ),
]


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a provider's key is to stand: `form` is the credential's key in the file, `value` what it says.

    `stored` is what goes into the keyring under `value`.
    """

    form: str
    value: str
    stored: str | None = None

    @property
    def storing(self) -> Callable[[], contextlib.AbstractContextManager[None]] | None:
        """What puts it into the keyring, if that is its place, and out again where the block fails.

        It raises ConfigError if the keyring cannot hold it.
        """
        return None if self.stored is None else self._stored

    @contextlib.contextmanager
    def _stored(self) -> Iterator[None]:
        from gproxy.config import secrets

        with contextlib.ExitStack() as kept:
            try:
                kept.enter_context(secrets.stored(self.value, self.stored or ""))
            except ConfigError as error:
                raise ConfigError(f"{error.message} (options --env VARIABLE and --literal)") from None
            yield


def key_variable(channel: str) -> str:
    """The environment variable in which a channel's key is usually found."""
    from gproxy.providers.catalog import CHANNELS

    return CHANNELS[channel].key_variable or f"{channel.upper().replace('-', '_')}_API_KEY"


def ask_secret(
    provider: str, channel: str, *, env: str | None, keyring: bool, entry: str | None, literal: bool
) -> Secret | None:
    """The secret that the options name, asked for where it must be; None if they name none."""
    in_keyring = keyring or entry is not None
    if entry == "":
        raise typer.BadParameter("must not be empty", param_hint="--keyring-entry")
    if (env is not None) + in_keyring + literal > 1:
        raise typer.BadParameter("give one of --env, --keyring and --literal")
    if env is not None:
        if not os.environ.get(env):
            output.note(f"{env} is not set here: it must be where `gproxy serve` runs.")
        return Secret("env", env)
    if in_keyring:
        return Secret("keyring", entry or provider, _asked(provider, channel))
    if literal:
        return Secret("api_key", _asked(provider, channel))
    return None


def _asked(provider: str, channel: str) -> str:
    from gproxy.config import accounts, secrets
    from gproxy.providers.catalog import CHANNELS

    row = CHANNELS.get(channel)
    if row is None or not row.service_account:
        return secrets.checked(output.secret(f"Key of {provider}"), f"the key of {provider}")
    prompt = f"Service account of {provider} (path of its key file, or its JSON in one line)"
    return accounts.read(output.secret(prompt, whole=True), f"the service account of {provider}")


def add(
    name: NameArgument,
    channel: Annotated[str, typer.Option(metavar="CHANNEL", help="What kind of upstream it is.")],
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Its address, if not the channel's own.")
    ] = None,
    env: EnvOption = None,
    keyring: KeyringOption = False,
    entry: EntryOption = None,
    literal: LiteralOption = False,
    protocol: ProtocolOption = None,
    config: ConfigOption = None,
) -> None:
    """Add a provider; its key is never an argument, but asked for, piped in, or named."""
    from gproxy.config import changes
    from gproxy.config.document import Document
    from gproxy.providers.catalog import CHANNELS

    files.find(config)
    if channel not in CHANNELS:
        raise typer.BadParameter(output.not_one_of(channel, CHANNELS), param_hint="--channel")
    secret = ask_secret(name, channel, env=env, keyring=keyring, entry=entry, literal=literal)
    if secret is None and CHANNELS[channel].needs_key:
        if key_variable(channel) not in os.environ:
            raise typer.BadParameter(f"give the key of {name} by --env, --keyring or --literal")
        secret = Secret("env", key_variable(channel))
        output.note(f"Its key is taken from {secret.value}.")
    settings = {"base_url": base_url, "protocols": protocol}
    values: dict[str, object] = {"name": name, "channel": channel}
    if any(settings.values()):
        values["settings"] = {key: value for key, value in settings.items() if value}
    if secret:
        values["credentials"] = [{secret.form: secret.value}]

    def change(document: Document) -> None:
        changes.add_provider(document, values)

    files.edit(config, change, secret.storing if secret else None)
    output.note(f"Added {name}. Clients call its models as {name}/MODEL.")


def list_providers(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the providers, and whether their keys can be read here."""
    from gproxy.config.ownkeys import Reader
    from gproxy.config.redact import address
    from gproxy.providers.catalog import CHANNELS

    found = files.read(files.find(config))
    reader = Reader(found, os.environ)
    rows = []
    for provider in found.providers:
        channel = CHANNELS.get(provider.channel)
        credentials = [
            {"name": credential.label, "problem": _unreadable(reader, provider, credential)}
            for credential in provider.credentials
        ]
        rows.append(
            {
                "name": provider.name,
                "channel": provider.channel,
                "base_url": address(provider.settings.base_url or (channel.root if channel else "")),
                "enabled": provider.enabled,
                "credentials": credentials
                if as_json
                else [f"{c['name']}: {'unreadable' if c['problem'] else 'ok'}" for c in credentials],
            }
        )
    empty = "No providers yet: `gproxy providers add` brings one."
    output.show(rows, as_json=as_json, empty=empty, whole=("base_url",))


def remove(
    name: NameArgument,
    cascade: Annotated[
        bool,
        typer.Option("--cascade", help="With the models, targets of aliases and permissions that name it."),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Remove a provider, and its entry in the OS keyring if no other uses that."""
    from gproxy.config import changes
    from gproxy.config.document import Document

    def change(document: Document) -> tuple[list[str], set[str]]:
        before = changes.keyring_entries(document)
        gone = changes.remove_provider(document, name, cascade=cascade)
        return gone, before - changes.keyring_entries(document)

    gone, entries = files.edit(config, change)
    output.note(f"Removed {', '.join([name, *gone])}.")
    _forget(entries)


def set_key(
    name: NameArgument,
    env: EnvOption = None,
    keyring: KeyringOption = False,
    entry: EntryOption = None,
    literal: LiteralOption = False,
    label: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Which credential; a new label adds one.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Give a provider another key, or one more under a new label; what it replaces is forgotten.

    Without an option that says where, it is asked for and kept where the one before is, in keyring or file.
    """
    from gproxy.config import changes
    from gproxy.config.document import Document

    path = files.find(config)
    if label == "":
        raise typer.BadParameter("must not be empty", param_hint="--label")
    row = next((row for row in files.read(path).providers if row.name == name), None)
    if env is None and entry is None and not (keyring or literal):
        entry, literal = _place_before(name, row, label)
    # No name of a provider holds a `#`, so that this is no other provider's entry.
    default_entry = f"{name}#{label}" if label and keyring and entry is None else entry
    channel = row.channel if row else ""
    secret = ask_secret(name, channel, env=env, keyring=keyring, entry=default_entry, literal=literal)
    assert secret is not None

    def change(document: Document) -> set[str]:
        before = changes.keyring_entries(document)
        changes.set_secret(document, name, secret.form, secret.value, label=label)
        return before - changes.keyring_entries(document)

    entries = files.edit(config, change, secret.storing)
    output.note(f"Set the key of {name}.")
    _forget(entries)


def _place_before(name: str, row: Provider | None, label: str | None) -> tuple[str | None, bool]:
    """The keyring entry of the credential that is meant, or that it is in the file; raises ConfigError where a key
    cannot be put there, BadParameter where there is none before."""
    from gproxy.config import secrets

    if row is None:
        raise ConfigError(f"there is no provider {name}: `gproxy providers list` shows them")
    found = [each for each in row.credentials if label in (None, each.label)]
    if len(found) > 1:
        labels = ", ".join(each.label for each in found)
        raise ConfigError(f"{name} has several credentials: name one with --label, {labels}")
    if not found:
        raise typer.BadParameter(f"where is the key of {name}? Give --env VARIABLE, --keyring or --literal")
    if found[0].env:
        shown = found[0].env if secrets.names_variable(found[0].env) else "a variable"
        raise ConfigError(
            f"the key of {name} is taken from {shown}: export another there, or give --env, --keyring or --literal"
        )
    return found[0].keyring or None, not found[0].keyring


def _forget(entries: set[str]) -> None:
    """Delete keyring entries that no provider names any more."""
    from gproxy.config import secrets

    for entry in entries:
        try:
            secrets.delete(entry)
        except ConfigError as error:
            output.note(f"The keyring entry {entry} is left: {error.message}.")


def _unreadable(reader: "Reader", provider: Provider, credential: Credential) -> str | None:
    """Why a credential's secret cannot be used here; None if it can."""
    try:
        reader.read(provider, credential)
    except ConfigError as error:
        return error.message
    return None
