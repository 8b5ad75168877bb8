"""`gproxy init`: a first configuration file, with a first provider and a first key."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption
from gproxy.cli.providers import Secret, ask_secret, key_variable
from gproxy.errors import ConfigError


def init(
    demo: Annotated[bool, typer.Option("--demo", help="With the offline demo as its provider.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: take the providers whose keys are in the environment.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write a gproxy.toml with a first provider and a first key, and say what to do next."""
    from gproxy.cli import templates
    from gproxy.config.edit import create
    from gproxy.config.keys import make_key
    from gproxy.providers.catalog import CHANNELS

    path = config or Path(os.environ.get("GPROXY_CONFIG") or "gproxy.toml")
    if path.exists():
        raise ConfigError(
            f"{path} exists: edit it with `gproxy config edit`, or choose another with --config"
        )
    secret = None
    if demo:
        providers = templates.DEMO_PROVIDER
    elif yes:
        providers = _offered()
    else:
        providers, secret = _asked(path)
    key = make_key()
    create(
        path,
        templates.first_file(providers or templates.NO_PROVIDER, key),
        channels=CHANNELS,
        environ=os.environ,
        beside=secret.storing if secret else None,
    )
    where = "" if config is None else f" --config {shlex.quote(str(path))}"
    print(f"Wrote {files.shown(path)}. Your first key, shown only now:\n\n{key}\n")
    print(f"Next:\n\ngproxy serve{where}\n")
    print(templates.demo_curl(templates.URL, key) if demo else templates.list_curl(templates.URL, key))
    if not (demo or providers):
        output.note(f"It has no provider yet: `gproxy providers add NAME --channel CHANNEL{where}`.")


def _offered() -> str:
    """A table for each channel whose key is in the environment under its usual name.

    A key file that is named there is often for other programs, and of another kind than a service account's.
    """
    from gproxy.cli.templates import provider
    from gproxy.providers.catalog import CHANNELS

    found = [
        name
        for name, channel in CHANNELS.items()
        if channel.root and channel.needs_key and not channel.service_account
        if os.environ.get(key_variable(name))
    ]
    for name in found:
        output.note(f"Took {key_variable(name)} for the provider {name}.")
    return "\n".join(provider(name, name, None, Secret("env", key_variable(name))) for name in found)


def _asked(path: Path) -> tuple[str, Secret | None]:
    """The table of a provider that the user describes, and its secret; empty if none is wanted yet."""
    from gproxy.cli.templates import provider
    from gproxy.config.edit import refuse_new
    from gproxy.providers.catalog import CHANNELS

    output.note(f"Channels: {', '.join(CHANNELS)}.")
    channel = _prompt("Channel of the first provider (empty: none yet)", "")
    if not channel:
        return "", None
    if channel not in CHANNELS:
        raise ConfigError(f"there is no channel {channel}: choose one of those listed")
    name = _prompt("Its name here", channel)
    base_url = None if CHANNELS[channel].root or CHANNELS[channel].offline else _prompt("Its base URL", None)
    # Said before a secret is typed in vain.
    refuse_new(path, provider(name, channel, base_url, None), channels=CHANNELS, environ=os.environ)
    secret = None if CHANNELS[channel].offline else _asked_secret(name, channel)
    return provider(name, channel, base_url, secret), secret


def _asked_secret(name: str, channel: str) -> Secret | None:
    from gproxy.providers.catalog import CHANNELS

    usual = "env" if CHANNELS[channel].needs_key else "none"
    place = _prompt("Where is its key? env, keyring, literal (in the file) or none", usual)
    if place not in ("env", "keyring", "literal", "none"):
        raise ConfigError(f"{place} is no place for a key: answer env, keyring, literal or none")
    env = _prompt("Which variable", key_variable(channel)) if place == "env" else None
    return ask_secret(
        name, channel, env=env, keyring=place == "keyring", entry=None, literal=place == "literal"
    )


def _prompt(question: str, default: str | None) -> str:
    return str(typer.prompt(question, default=default, show_default=bool(default), err=True)).strip()
