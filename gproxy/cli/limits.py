"""`gproxy limits`: how fast users may go. What a rule means is `routing/limits.py`'s."""

from typing import Annotated, Any

import typer

from gproxy.cli import files, output
from gproxy.cli.amounts import NONE, count
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.cli.users import PatternArgument, UserArgument
from gproxy.config.schema import BOUNDS


def _bound(flag: str, help: str) -> Any:
    return typer.Option(flag, metavar="N|none", help=help)


def set_limit(
    user: UserArgument,
    pattern: PatternArgument,
    rpm: Annotated[str | None, _bound("--rpm", "Requests per minute.")] = None,
    rpd: Annotated[str | None, _bound("--rpd", "Requests per day (UTC).")] = None,
    tpm: Annotated[str | None, _bound("--tpm", "Tokens per minute.")] = None,
    tpd: Annotated[str | None, _bound("--tpd", "Tokens per day (UTC).")] = None,
    max_concurrency: Annotated[str | None, _bound("--max-concurrency", "Requests at once.")] = None,
    config: ConfigOption = None,
) -> None:
    """Make a rule, or change those of its bounds that are given; `none` takes one out.

    All that the pattern matches shares the rule's counters.
    """
    from gproxy.config import bounds

    texts = dict(zip(BOUNDS, (rpm, rpd, tpm, tpd, max_concurrency), strict=True))
    given = {
        name: None if text == NONE else count(text, f"--{name.replace('_', '-')}")
        for name, text in texts.items()
        if text is not None
    }
    if not given:
        raise typer.BadParameter("give any of --rpm, --rpd, --tpm, --tpd, --max-concurrency")
    new = files.edit(config, lambda document: bounds.set_limit(document, user, pattern, given))
    told = ", ".join(f"{name} {most or 'none'}" for name, most in given.items())
    output.note(f"{user} {'has' if new else 'now has'} for {pattern}: {told}.")
    files.note_strays(config, [pattern])


def list_limits(
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only this user's.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the rules of users, and the bounds that keys have of their own."""
    found = files.read(files.find(config))
    rows: list[dict[str, object]] = []
    for owner in found.users:
        if user not in (None, owner.name):
            continue
        for limit in found.rate_limits:
            if limit.user_name == owner.name:
                per_day = [n for n in (limit.tpd, limit.total_tokens) if n is not None]
                bounds = {name: getattr(limit, name) for name in BOUNDS}
                bounds["tpd"] = min(per_day, default=None)
                rows.append({"user": owner.name, "key": None, "pattern": limit.model_pattern} | bounds)
        for key in owner.keys:
            bounds = {name: getattr(key, name) for name in BOUNDS}
            if any(bounds.values()):
                rows.append({"user": owner.name, "key": key.label, "pattern": None} | bounds)
    output.show(rows, as_json=as_json, empty="No limits: `gproxy limits set USER PATTERN --rpm 60`.")


def remove_limit(user: UserArgument, pattern: PatternArgument, config: ConfigOption = None) -> None:
    """Remove a rule of a user, named by its pattern."""
    from gproxy.config import bounds

    files.edit(config, lambda document: bounds.remove_limit(document, user, pattern))
    output.note(f"Removed the limit of {user} for {pattern}.")
