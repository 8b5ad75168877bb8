"""`gproxy alias` and `gproxy models`: the names that clients may send."""

from typing import Annotated

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.config.schema import Config, ModelAlias, keys_of

AliasArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name that clients send.")]


def set_alias(
    name: AliasArgument,
    targets: Annotated[
        list[str], typer.Argument(metavar="PROVIDER/MODEL...", help="What it stands for, in order.")
    ],
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(keys_of(ModelAlias)["strategy"].choices),
            help="How one is chosen: in order, or by weight.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Make an alias, or give one other targets."""
    from gproxy.config import changes

    choices = keys_of(ModelAlias)["strategy"].choices
    if strategy is not None and strategy not in choices:
        raise typer.BadParameter(output.not_one_of(strategy, choices), param_hint="--strategy")
    places = [place(target, "TARGETS") for target in targets]
    new = files.edit(config, lambda document: changes.set_alias(document, name, places, strategy=strategy))
    output.note(f"{name} {'is' if new else 'is now'} {', '.join(targets)}.")


def list_aliases(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the aliases."""
    rows = [
        {
            "alias": row.alias,
            "targets": [f"{provider}/{model}" for provider, model in _targets(row)],
            "strategy": row.strategy,
            "enabled": row.enabled,
        }
        for row in files.read(files.find(config)).model_aliases
    ]
    output.show(rows, as_json=as_json, empty="No aliases yet: `gproxy alias set NAME PROVIDER/MODEL`.")


def remove_alias(name: AliasArgument, config: ConfigOption = None) -> None:
    """Remove an alias."""
    from gproxy.config import changes

    files.edit(config, lambda document: changes.remove_alias(document, name))
    output.note(f"Removed {name}.")


def list_models(
    live: Annotated[
        bool, typer.Option("--live", help="Ask the providers for their lists, all at once.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List models and aliases that are enabled, by the names that clients may send.

    A provider without [[models]] passes every id on: it is listed as provider/*, and with --live by what its upstream
    lists now, or listed when it was last reached. A provider of which no list is known is told of, and is exit 1.
    """
    path = files.find(config)
    rows = _configured(files.read(path))
    if live:
        from gproxy.cli.livelists import with_lists

        whole = with_lists(path, rows, as_json=as_json)
        if not whole:
            raise typer.Exit(1)
        return
    output.show(rows, as_json=as_json, empty="No models: `gproxy providers add` brings some.")


def _configured(found: Config) -> list[dict[str, str]]:
    enabled = {provider.name for provider in found.providers if provider.enabled}
    listed = {model.provider_name for model in found.models}
    named = [
        (f"{model.provider_name}/{model.model_id}", "model", model.provider_name, model.display_name)
        for model in found.models
        if model.enabled and model.provider_name in enabled
    ]
    aliases = [
        (row.alias, "alias", row.provider_name, f"{row.provider_name}/{row.model_id}")
        for row in found.model_aliases
        if row.enabled and any(provider in enabled for provider, _ in _targets(row))
    ]
    open_ended = [(f"{name}/*", "any id", name, "") for name in enabled - listed]
    return [
        {"id": row[0], "kind": row[1], "provider": row[2], "name": row[3]}
        for row in sorted([*named, *aliases, *open_ended])
    ]


def _targets(row: ModelAlias) -> list[tuple[str, str]]:
    more = [(target.provider_name, target.model_id) for target in row.targets]
    return [(row.provider_name, row.model_id), *more]


def place(target: str, argument: str) -> dict[str, str]:
    """What a target is in the file; raises BadParameter, for wrong usage, if it names no provider and model."""
    provider, slash, model = target.partition("/")
    if not (provider and slash and model):
        raise typer.BadParameter(f"{target} is not PROVIDER/MODEL", param_hint=argument)
    return {"provider_name": provider, "model_id": model}
