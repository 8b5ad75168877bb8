"""`gproxy init`: a first configuration file, with providers and a first key. Which providers is `offers.py`'s."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption
from gproxy.cli.providers import EnvOption, KeyringOption, LiteralOption, ProtocolOption
from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from gproxy.cli.offers import Offer


def init(
    demo: Annotated[bool, typer.Option("--demo", help="With the offline demo as its provider.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: take the keys, and addresses, of the environment.")
    ] = False,
    channel: Annotated[
        str | None, typer.Option(metavar="CHANNEL", help="Ask nothing: one provider of this kind.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What that is called here.")] = None,
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="Its address, if not its own.")] = None,
    env: EnvOption = None,
    keyring: KeyringOption = False,
    literal: LiteralOption = False,
    protocol: ProtocolOption = None,
    alias: Annotated[
        str | None, typer.Option(metavar="NAME=PROVIDER/MODEL", help="A name of your own for a model.")
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Try each provider's key at once; exit 1 if one fails.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write a gproxy.toml with providers and a first key, and say what to do next.

    At a terminal it asks for them, takes keys without showing them, and tries each at once.
    """
    from gproxy.cli import offers, templates
    from gproxy.config.edit import create
    from gproxy.config.keys import make_key
    from gproxy.providers.catalog import CHANNELS

    described = (name, base_url, env, keyring or None, literal or None, protocol)
    if sum((demo, yes, channel is not None)) > 1:
        raise typer.BadParameter("give one of --demo, --yes and --channel")
    if channel is None and any(described):
        raise typer.BadParameter("what is said of a provider needs --channel")
    path = config or Path(os.environ.get("GPROXY_CONFIG") or "gproxy.toml")
    if path.exists():
        raise ConfigError(f"{path} exists: change it by `gproxy config edit`, or give --config")
    if channel is not None:
        taken = [offers.given(channel, name, base_url, protocol, env=env, keyring=keyring, literal=literal)]
    else:
        taken = [] if demo else _found() if yes else offers.asked(path)
    if alias is None and taken and not yes and channel is None and sys.stdin.isatty():
        alias = offers.asked_alias(path, taken)
    tables = templates.DEMO_PROVIDER if demo else "\n".join(offer.table for offer in taken)
    key = make_key()
    create(
        path,
        templates.first_file(tables or templates.NO_PROVIDER, key, _target(alias) if alias else None),
        channels=CHANNELS,
        environ=os.environ,
        beside=offers.storing(taken),
    )
    _tell(path, config, key, alias, taken, demo=demo)
    if test and taken:
        pairs = zip(taken, offers.tried(taken), strict=True)
        if [pair for pair in pairs if not offers.tell(*pair)]:
            raise typer.Exit(1)


def _found() -> "list[Offer]":
    from gproxy.cli import offers

    found = offers.found()
    for offer in found:
        output.note(f"Took {offer.secret.value if offer.secret else ''} for the provider {offer.called}.")
    return found


def _target(alias: str) -> tuple[str, str, str]:
    """Name, provider and model of NAME=PROVIDER/MODEL; raises BadParameter."""
    name, _, target = alias.partition("=")
    provider, _, model = target.partition("/")
    if not (name and provider and model):
        raise typer.BadParameter(f"{alias} is not NAME=PROVIDER/MODEL", param_hint="--alias")
    return name, provider, model


def _tell(
    path: Path, config: Path | None, key: str, alias: str | None, taken: "Sequence[Offer]", *, demo: bool
) -> None:
    """What was made, and what to paste next."""
    from gproxy.cli import offers, templates

    where = "" if config is None else f" --config {shlex.quote(str(path))}"
    print(f"Wrote {files.shown(path)}. Your first key, shown only now:\n\n{key}\n")
    print(f"Next:\n\ngproxy serve{where}\n")
    model = alias.partition("=")[0] if alias else next(iter(offers.suggested(taken)), None)
    if model is None and demo:
        model = templates.DEMO_MODEL
    print(f"Then, in a second terminal, what you call it with:\n\n{templates.pastes(key, where, model)}\n")
    print(templates.list_curl(templates.URL, key))
    if model:
        print(templates.chat_curl(templates.URL, key, model))
    if not taken and not demo:
        output.note(f"It has no provider yet: `gproxy providers add NAME --channel CHANNEL{where}`.")
