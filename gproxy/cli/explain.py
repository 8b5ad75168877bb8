"""`gproxy explain`: what would become of a request, and why.

The weighing is `dryrun.py`'s, the picture `explainview.py`'s.
"""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import files, output, prices
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.config.schema import PROTOCOLS

if TYPE_CHECKING:
    from gproxy.cli.dryrun import DryRun
    from gproxy.config.callers import Caller
    from gproxy.config.source import Loaded
    from gproxy.routing.credentials import Condition
    from gproxy.routing.failover import Candidate
    from gproxy.values import Target


def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The name as a client would send it.")],
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who asks; else the only user there is.")
    ] = None,
    key_label: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="By which key: its label, user/label or id; else by none of them."),
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(metavar="DIALECT", help=f"In which: {', '.join(PROTOCOLS)}; else in any.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what would become of a request, and which rules decide; nothing is sent or counted.

    Exit 1 if it would be refused, with the status that it would get; 2 if it
    is not clear who asks.
    """
    from gproxy.cli.dryrun import dry_run
    from gproxy.cli.explainview import show
    from gproxy.config.callers import callers
    from gproxy.config.source import data_dir

    if dialect is not None and dialect not in PROTOCOLS:
        raise typer.BadParameter(output.not_one_of(dialect, PROTOCOLS), param_hint="--dialect")
    path = files.find(config)
    loaded = files.load(path)
    name = files.shown(path)
    if loaded.config is None or loaded.snapshot is None:
        raise files.refused(name, loaded.errors, tuple(error.render(name) for error in loaded.errors))
    caller = _choose(callers(loaded.config), user, key_label)
    store = data_dir(loaded.config, path.resolve().parent) / "gproxy.db"
    run = dry_run(loaded.snapshot, caller, model, dialect, store=store, now=time.time())
    found = _tree(run, model, dialect)
    if as_json:
        output.show_json(found)
    else:
        show(found)
        _tell_of_unread(loaded, run, name)
    if run.error is not None:
        raise typer.Exit(1)


_HEALTH = {
    "READY": "ready",
    "BACK": "moved back",
    "PROBE": "to be probed",
    "OUT": "out, not tried",
    "REFUSED": "key refused, not tried",
}


def _tell_of_unread(loaded: "Loaded", run: "DryRun", name: str) -> None:
    """Which credentials of the providers that would be asked could not be read, and so are not among the attempts."""
    assert loaded.config is not None
    asked = {weighed.target.provider for weighed in run.targets if not weighed.dropped}
    places = {f"providers[{i}]" for i, row in enumerate(loaded.config.providers) if row.name in asked}
    unread = [p for p in loaded.warnings if p.path.partition(".")[0] in places]
    sys.stdout.flush()  # what explains the answer stands behind it
    output.problems(unread, name)
    files.note_environment(unread)


def _choose(found: "list[Caller]", user: str | None, key: str | None) -> "Caller":
    """Raises BadParameter, for wrong usage: exit 1 would mean that the request is refused."""
    users = [caller for caller in found if caller.key is None]
    if user is not None and user not in (caller.user.name for caller in users):
        raise typer.BadParameter(f"there is no user {user}: `gproxy users list` shows them")
    mine = [caller for caller in found if user in (None, caller.user.name)]
    if key is None:
        if user is None and len(users) != 1:
            raise typer.BadParameter("there is not just one user: say who asks with --user or --key-label")
        return mine[0]
    named = [
        caller
        for caller in mine
        if caller.key is not None and key in (caller.key.label, caller.name, caller.client.key_id)
    ]
    if not named:
        raise typer.BadParameter(f"no key is named {key}: `gproxy keys list` shows them")
    if len(named) > 1:
        raise typer.BadParameter(f"{key} is more than one key: say which, {', '.join(c.name for c in named)}")
    return named[0]


def _tree(run: "DryRun", model: str, dialect: str | None) -> dict[str, Any]:
    """All of it as plain values; money in USD, prices in USD per million tokens."""
    alias = run.snapshot.aliases.get(run.route.alias) if run.route and run.route.alias else None
    return {
        "model": model,
        "user": run.caller.user.name,
        "key": None if run.caller.key is None else run.caller.key.label or run.caller.client.key_id,
        "dialect": dialect,
        "status": 200 if run.error is None else run.error.status,
        "error": None if run.error is None else run.error.message,
        "alias": alias.name if alias else None,
        "strategy": alias.strategy if alias else None,
        "targets": [
            {
                "target": _name(w.target),
                "used": not w.dropped,
                "why_not": w.dropped,
                "speaks": list(w.speaks),
                "translated_to": w.translated_to,
                "untranslated": list(w.uncarried.lost),
                "untranslatable": list(w.uncarried.refused),
            }
            for w in run.targets
        ],
        "attempts": [_attempt(candidate, condition) for candidate, condition in run.attempts],
        "permissions": [
            {
                "of": "key" if rule.key else "user",
                "provider": rule.provider,
                "pattern": rule.pattern,
                "matches": [_name(target) for target in rule.matches],
                "decides": [_name(target) for target in rule.decides],
            }
            for rule in run.permissions
        ],
        "charged": _name(run.charged) if run.charged else None,
        "limits": _limits(run),
        "quotas": _quotas(run),
        "price": _price(run),
    }


def _price(run: "DryRun") -> dict[str, Any] | None:
    if run.price is None or run.charged is None:
        return None
    return prices.tree(run.price, run.snapshot.providers[run.charged.provider].channel)


def _attempt(candidate: "Candidate", condition: "Condition") -> dict[str, Any]:
    from gproxy.routing.failover import whole_seconds

    target, credential = candidate
    left = f", {whole_seconds(condition.seconds)} s more" if condition.seconds else ""
    return {
        "target": _name(target),
        "credential": credential.name,
        "weight": credential.weight,
        "health": _HEALTH[condition.state.name] + left,
    }


def _limits(run: "DryRun") -> list[dict[str, Any]]:
    return [
        {
            "of": "key" if limit.pattern is None else "user",
            "pattern": limit.pattern,
            "matches": limit.matches,
            "applies": limit.applies,
            "bound": "max_concurrency" if standing.bound.kind == "concurrency" else standing.bound.kind,
            "limit": standing.bound.most,
            "left": standing.left,
        }
        for limit in run.limits
        for standing in limit.standings
    ]


def _quotas(run: "DryRun") -> list[dict[str, Any]]:
    found = []
    for budget, stands in run.quotas:
        spent = stands.spent_nano + budget.carried_nano
        found.append(
            {
                "of": budget.scope.partition("/")[0],
                "period": budget.period,
                "quota_usd": budget.most_nano / 1e9,
                "spent_usd": spent / 1e9,
                "held_usd": stands.held_nano / 1e9,
                "left_usd": max(0, budget.most_nano - spent - stands.held_nano) / 1e9,
            }
        )
    return found


def _name(target: "Target") -> str:
    return f"{target.provider}/{target.model}"
