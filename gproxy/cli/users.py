"""`gproxy users` and `gproxy permissions`: who there is, and who may use what."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption

UserArgument = Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")]
PatternArgument = Annotated[
    str, typer.Argument(metavar="PATTERN", help="Glob over a model, provider/model or alias: 'gpt-*'.")
]
ProviderOption = Annotated[
    str | None, typer.Option("--provider", metavar="NAME", help="At this provider only.")
]


def add_user(
    name: UserArgument,
    admin: Annotated[bool, typer.Option("--admin", help="May read /admin and /metrics.")] = False,
    config: ConfigOption = None,
) -> None:
    """Add a user, who may use nothing until a permission allows it."""
    from gproxy.config import changes

    files.edit(config, lambda document: changes.add_user(document, name, is_admin=admin))
    who = shlex.quote(name)
    output.note(
        f"Added {name}.\nNext: `gproxy permissions allow {who} '*'` and `gproxy keys create --user {who}`."
    )


def list_users(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the users."""
    found = files.read(files.find(config))
    rows = [
        {
            "name": user.name,
            "enabled": user.enabled,
            "is_admin": user.is_admin,
            "keys": len(user.keys),
            "permissions": sum(row.user_name == user.name for row in found.permissions),
        }
        for user in found.users
    ]
    output.show(rows, as_json=as_json, empty="No users yet: `gproxy users add NAME` makes one.")


def disable_user(name: UserArgument, config: ConfigOption = None) -> None:
    """Refuse all keys of a user until it is enabled again."""
    _switch(config, name, False)


def enable_user(name: UserArgument, config: ConfigOption = None) -> None:
    """Accept the keys of a disabled user again."""
    _switch(config, name, True)


def remove_user(name: UserArgument, config: ConfigOption = None) -> None:
    """Remove a user with its keys, permissions, limits and quotas; its usage rows stay."""
    from gproxy.config import changes

    files.edit(config, lambda document: changes.remove_user(document, name))
    output.note(f"Removed {name} with its keys, permissions, limits and quotas.")


def allow(
    user: UserArgument,
    pattern: PatternArgument,
    provider: ProviderOption = None,
    config: ConfigOption = None,
) -> None:
    """Let a user use the models that a pattern matches."""
    from gproxy.config import changes

    new = files.edit(config, lambda document: changes.allow(document, user, pattern, provider))
    meant = _meant(pattern, provider)
    output.note(f"{user} may use {meant}." if new else f"{user} might use {meant} already.")
    if provider is None:
        files.note_strays(config, [pattern])


def list_permissions(
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only this user's.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who may use what."""
    rows = [
        {"user": row.user_name, "provider": row.provider_name, "pattern": row.model_pattern}
        for row in files.read(files.find(config)).permissions
        if user in (None, row.user_name)
    ]
    output.show(rows, as_json=as_json, empty="Nobody may use anything: see `gproxy permissions allow`.")


def remove_permission(
    user: UserArgument,
    pattern: PatternArgument,
    provider: ProviderOption = None,
    config: ConfigOption = None,
) -> None:
    """Take one permission back, named as it was given."""
    from gproxy.config import changes

    files.edit(config, lambda document: changes.disallow(document, user, pattern, provider))
    output.note(f"Removed the permission of {user} for {_meant(pattern, provider)}.")


def _meant(pattern: str, provider: str | None) -> str:
    return pattern if provider is None else f"{pattern} at {provider}"


def _switch(config: Path | None, name: str, enabled: bool) -> None:
    from gproxy.config import changes

    files.edit(config, lambda document: changes.enable_user(document, name, enabled))
    output.note(f"{'Enabled' if enabled else 'Disabled'} {name}.")
