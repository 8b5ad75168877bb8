"""`gproxy keys`: the keys that clients authenticate with. How keys are made and stored is `config/`'s."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import files, output
from gproxy.cli.amounts import dollars
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.config.schema import BOUNDS

if TYPE_CHECKING:
    from gproxy.config.document import Document

_BOUNDS = (*BOUNDS, "quota")


def _bound(flag: str, help: str) -> Any:
    return typer.Option(flag, metavar="N", min=1, help=help)


@dataclass(frozen=True, slots=True)
class Made:
    """A key that was just written to the file, and whose it is."""

    key: str = field(repr=False)
    user: str
    label: str

    @property
    def name(self) -> str:
        return f"{self.user}/{self.label}"


KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Its label, user/label or id.")]


def create(
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose key; else the only user's, else default's.")
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="TEXT", help="Its name in reports.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Narrow it to these models; repeat for more."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="30d, 12h, or an RFC 3339 time.")
    ] = None,
    rpm: Annotated[int | None, _bound("--rpm", "Requests per minute.")] = None,
    rpd: Annotated[int | None, _bound("--rpd", "Requests per day (UTC).")] = None,
    tpm: Annotated[int | None, _bound("--tpm", "Tokens per minute.")] = None,
    tpd: Annotated[int | None, _bound("--tpd", "Tokens per day (UTC).")] = None,
    max_concurrency: Annotated[int | None, _bound("--max-concurrency", "Requests at once.")] = None,
    quota: Annotated[str | None, typer.Option(metavar="AMOUNT", help="USD that it may spend in all.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    from gproxy.config.keys import hash_key, key_id

    if user == "":
        raise typer.BadParameter("must not be empty", param_hint="--user")
    policy: dict[str, object] = {
        "models": model or None,
        **dict(zip(BOUNDS, (rpm, rpd, tpm, tpd, max_concurrency), strict=True)),
        "quota": None if quota is None else float(dollars(quota, "--quota")),
    }
    expires_at = None if expires is None else expiry(expires)
    made = make(config, user, label, {"expires_at": expires_at} | policy)
    files.note_strays(config, model or ())
    if as_json:
        found = {"key": made.key, "id": key_id(hash_key(made.key)), "user": made.user, "label": made.label}
        output.show_json(found | {"expires_at": _iso(expires_at)} | policy)
    else:
        _print_once(made.key, made.name)


def list_keys(
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only this user's.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys, without what they are."""
    from gproxy.config.keys import hash_key, key_hint, key_id

    rows: list[dict[str, object]] = []
    for owner in files.read(files.find(config)).users:
        for key in owner.keys if user in (None, owner.name) else ():
            rows.append(
                {
                    "user": owner.name,
                    "label": key.label,
                    "id": key_id(key.api_key_hash or hash_key(key.api_key)),
                    "hint": key.key_hint or (key_hint(key.api_key) if key.api_key else ""),
                    "enabled": key.enabled and owner.enabled,
                    "expires_at": _iso(key.expires_at),
                    "models": None if key.models is None else list(key.models),
                }
                | {name: getattr(key, name) for name in _BOUNDS}
            )
    if not as_json:
        rows = _narrow(rows)
    empty = "No keys yet: `gproxy keys create` makes one."
    output.show(rows, as_json=as_json, empty=empty, whole=("id",))


def disable(key: KeyArgument, config: ConfigOption = None) -> None:
    """Refuse a key until it is enabled again."""
    _switch(config, key, False)


def enable(key: KeyArgument, config: ConfigOption = None) -> None:
    """Accept a disabled key again."""
    _switch(config, key, True)


def revoke(key: KeyArgument, config: ConfigOption = None) -> None:
    """Remove a key for good."""
    from gproxy.config import changes
    from gproxy.config.document import Document

    def change(document: Document) -> str:
        found = changes.find_key(document, key)
        changes.remove_key(document, found)
        return found.name

    output.note(f"Revoked {files.edit(config, change)}.")


def rotate(key: KeyArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Replace a key by a new one of the same label and policy, and print it, once."""
    from gproxy.config import changes
    from gproxy.config.document import Document
    from gproxy.config.keys import hash_key, key_id, make_key

    new = make_key()

    def change(document: Document) -> changes.FoundKey:
        found = changes.find_key(document, key)
        changes.replace_key(document, found, new)
        return found

    found = files.edit(config, change)
    if as_json:
        label = found.values.get("label")
        output.show_json({"key": new, "id": key_id(hash_key(new)), "user": found.user, "label": label})
    else:
        _print_once(new, found.name)


def hash_literals(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Labels, user/label or ids; none: all.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Put the hash of a key in place of the key itself in the file; it keeps working."""
    from gproxy.config import changes
    from gproxy.config.document import Document
    from gproxy.config.keys import is_guessable

    def change(document: Document) -> list[changes.FoundKey]:
        found = [changes.find_key(document, key) for key in keys] if keys else list(changes.keys(document))
        return [key for key in found if changes.hash_literal(document, key)]

    done = files.edit(config, change)
    names = ", ".join(key.name for key in done)
    output.note(f"Hashed {names}." if done else "No key stands in the file itself.")
    short = [key.name for key in done if is_guessable(str(key.values["api_key"]))]
    if short:
        output.note(
            f"Short enough to be found from its hash: {', '.join(short)}.\n`gproxy keys rotate` replaces such a key."
        )


def _switch(config: Path | None, key: str, enabled: bool) -> None:
    from gproxy.config import changes
    from gproxy.config.document import Document

    def change(document: Document) -> str:
        found = changes.find_key(document, key)
        changes.enable_key(document, found, enabled)
        return found.name

    output.note(f"{'Enabled' if enabled else 'Disabled'} {files.edit(config, change)}.")


def make(
    config: Path | None,
    user: str | None,
    label: str | None,
    policy: Mapping[str, object],
    before: "Callable[[Document], None] | None" = None,
) -> Made:
    """Write a new key with what is set of `policy`, its keys in the file; who it goes to is told if that is new.

    `before` is a change that is made along with it.
    """
    from gproxy.config import changes
    from gproxy.config.keys import hash_key, key_hint, make_key

    key = make_key()
    stored = {"api_key_hash": hash_key(key), "key_hint": key_hint(key)}

    def change(document: "Document") -> tuple[str, str, bool]:
        if before:
            before(document)
        owner, new = (user, False) if user else changes.key_owner(document)
        if new:
            changes.add_user(document, owner)
            changes.allow(document, owner, "*")
        values = {"label": label, **stored, **policy}
        given = {name: value for name, value in values.items() if value}
        return owner, changes.add_key(document, owner, given), new

    owner, given_label, new = files.edit(config, change)
    if new:
        output.note(f"Made the user {owner}, who may use every model.")
    return Made(key, owner, given_label)


def expiry(text: str) -> datetime:
    """When a key ends, of what `--expires` says; raises BadParameter."""
    from gproxy.ledger.when import parse_when

    now = datetime.now(UTC)
    try:
        moment = parse_when(text, now, ahead=True)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--expires") from None
    if moment <= now:
        raise typer.BadParameter(f"{text} has passed", param_hint="--expires")
    return moment.replace(microsecond=0)


def _narrow(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """So that a table of keys fits a terminal: bounds in one column, ends by this machine's clock, nothing that no
    key has."""
    for row in rows:
        row["bounds"] = [f"{name} {row[name]}" for name in _BOUNDS if row[name] is not None]
        ends = row.pop("expires_at")
        row["expires"] = ends and f"{datetime.fromisoformat(str(ends)).astimezone():%Y-%m-%d %H:%M}"
    shown = ["user", "label", "id", "hint", "enabled"]
    shown += [name for name in ("expires", "models", "bounds") if any(row[name] for row in rows)]
    return [{name: row[name] for name in shown} for row in rows]


def _iso(moment: object) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if isinstance(moment, datetime) else None


def _print_once(key: str, name: str) -> None:
    """The key alone on stdout, so that a script can take it; what people need to know beside it on stderr."""
    print(key)
    output.note(f"This is {name}. It is shown only now: keep it.")
    sys.stdout.flush()
