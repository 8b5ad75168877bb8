"""`gproxy import`: a configuration from elsewhere. What becomes of LiteLLM's is `providers/litellm.py`'s to say."""

import difflib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption
from gproxy.config.extras import YAML, remedy
from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from gproxy.config.document import Document
    from gproxy.providers.litellm import Imported

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file to read.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be written, and write nothing.")
]

USER = "litellm"
"""Whose key LiteLLM's master key is here."""

_LITELLM_PORT = 4000
"""Where its proxy listens by default (docs.litellm.ai/docs/proxy/cli)."""

_LITERAL = re.compile(r'(api_key = )"(?:[^"\\]|\\.)*"')

_HEAD = "# Imported into gproxy: `gproxy check` validates it, a running server follows its edits.\n"


def from_litellm(file: FileArgument, dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Take over a LiteLLM proxy's config.yaml.

    Its models, fallbacks, keys and prices are carried over. Each model name becomes an alias, so that clients go on
    as before, with the master key too. What cannot be carried over is listed on stderr. Needs the package
    pyyaml.
    """
    from gproxy.providers.litellm import convert

    found = convert(_yaml(file), os.environ)
    for each in found.lost:
        output.note(f"not carried over: {each}")
    if not found.providers:
        raise ConfigError(f"{file} has no model that can be carried over")
    _write(config, lambda document: _add_litellm(document, found), dry_run=dry_run)
    count = f"{len(found.aliases)} aliases, {len(found.models)} models, {len(found.providers)} providers"
    _done(count, dry_run=dry_run)
    if dry_run:
        return
    if not found.master_key:
        output.note("Make a key for your clients: `gproxy keys create`.")
    port = files.read(_target(config)).globals.port
    if port != _LITELLM_PORT:
        output.note(
            f"LiteLLM serves at port {_LITELLM_PORT}, unless it was told another, and gproxy at {port}: "
            f"mend the base URLs of its clients, or `gproxy serve --port {_LITELLM_PORT}`."
        )


def from_env(dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Add a provider for each usual key in the environment."""
    from gproxy.cli import offers
    from gproxy.config import changes

    found = offers.found()
    if not found:
        raise ConfigError("no variable such as OPENAI_API_KEY is set: see `gproxy providers add`")

    def change(document: "Document") -> list[str]:
        known = {
            credential.get("env")
            for index in range(len(document.tables("providers")))
            for credential in document.tables("providers", index, "credentials")
        }
        new = [offer for offer in found if offer.secret and offer.secret.value not in known]
        for offer in new:
            credential = {"env": offer.secret.value} if offer.secret else {}
            values: dict[str, object] = {"name": offer.name, "channel": offer.channel}
            changes.add_provider(document, values | {"credentials": [credential]})
        return [offer.name for offer in new]

    added = _write(config, change, dry_run=dry_run)
    _done(", ".join(added) if added else "nothing new", dry_run=dry_run)


def from_v1(file: FileArgument, dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Take over the seed file of GPROXY v1.

    It becomes a new configuration, with its clients' keys hashed. What has no effect here is listed on stderr.
    """
    from gproxy.config import changes
    from gproxy.config.document import Document, dump
    from gproxy.config.edit import create
    from gproxy.config.load import load
    from gproxy.config.redact import redacted
    from gproxy.config.scrub import environment_secrets
    from gproxy.providers.catalog import CHANNELS

    data = files.read_bytes(file)
    loaded, problems = load(data, channels=CHANNELS, secrets=environment_secrets(os.environ))
    # A key that is hashed below needs no warning.
    output.problems((problem for problem in problems if not problem.path.endswith(".api_key")), str(file))
    if loaded is None:
        raise files.refused(str(file), [problem for problem in problems if problem.severity == "error"])
    document = Document(data.decode())
    for key in list(changes.keys(document)):
        changes.hash_literal(document, key)
    if dry_run:
        print(dump(redacted(loaded)), end="")
        return
    create(_target(config), document.text, channels=CHANNELS, environ=os.environ)
    _done(f"{len(loaded.providers)} providers, {len(loaded.users)} users", dry_run=False)


def _target(config: Path | None) -> Path:
    from gproxy.config.source import locate

    return locate(config, os.environ)


def _write(config: Path | None, change: "Callable[[Document], Any]", *, dry_run: bool) -> Any:
    """Apply `change` to the configuration file, or to a new one; with `dry_run` print what it adds."""
    from gproxy.config.document import Document
    from gproxy.config.edit import create
    from gproxy.providers.catalog import CHANNELS

    path = _target(config)
    if path.exists() and not dry_run:
        return files.edit(path, change)
    before = files.read_bytes(path).decode() if path.exists() else _HEAD
    document = Document(before)
    result = change(document)
    if dry_run:
        print(_added(before, document.text))
    else:
        create(path, document.text, channels=CHANNELS, environ=os.environ)
    return result


def _added(before: str, after: str) -> str:
    """The lines that are new, without the secrets of providers."""
    changed = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    added = [line[1:] for line in changed if line.startswith("+") and not line.startswith("+++")]
    return _LITERAL.sub(r'\1"…"', "\n".join(added)).strip()


def _done(what: str, *, dry_run: bool) -> None:
    output.note(f"{'Would import' if dry_run else 'Imported'} {what}.")


def _add_litellm(document: "Document", found: "Imported") -> None:
    from gproxy.config import changes
    from gproxy.config.keys import hash_key, key_hint

    for row in found.providers:
        changes.add_provider(document, row)
    for row in found.models:
        document.add(("models",), row)
    known = {row.get("alias") for row in document.tables("model_aliases")}
    for row in found.aliases:
        if row["alias"] in known:
            raise ConfigError(f"there is an alias {row['alias']} already: remove it first")
        document.add(("model_aliases",), row)
    if found.master_key:
        changes.add_user(document, USER, is_admin=True)
        changes.allow(document, USER, "*")
        hashed = {"api_key_hash": hash_key(found.master_key), "key_hint": key_hint(found.master_key)}
        changes.add_key(document, USER, {"label": "master"} | hashed)


def _yaml(file: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise ConfigError(f"reading YAML needs one more package: {remedy(YAML)}") from None
    try:
        tree = yaml.safe_load(files.read_bytes(file))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}{place} is not YAML: mend it and try again") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{file} is no LiteLLM configuration: it has no model_list")
    return tree
