"""`gproxy quota`: how much users and keys may spend. What a quota means is `routing/limits.py`'s."""

import time
from decimal import Decimal
from typing import Annotated

import typer

from gproxy.cli import files, output
from gproxy.cli.amounts import NONE, dollars
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.cli.users import UserArgument
from gproxy.config.schema import Quota, keys_of

PERIODS = keys_of(Quota)["period"].choices

PeriodOption = Annotated[
    str | None, typer.Option(metavar="|".join(PERIODS), help="When spend starts anew (UTC). [total]")
]
KeyOption = Annotated[
    str | None, typer.Option("--key", metavar="KEY", help="Of this key of the user: its label or id.")
]


def set_quota(
    user: UserArgument,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="USD, or `none` for no quota.")],
    period: PeriodOption = None,
    key: KeyOption = None,
    config: ConfigOption = None,
) -> None:
    """Set what a user, or one of its keys, may spend."""
    from gproxy.config import bounds, changes
    from gproxy.config.document import Document

    amount_usd = None if amount == NONE else dollars(amount, "AMOUNT")
    span = _period(period, key)

    def change(document: Document) -> str:
        if key is None:
            bounds.set_quota(document, user, span, amount_usd)
            return user
        found = changes.find_key(document, key, user=user)
        bounds.set_key_quota(document, found, amount_usd)
        return found.name

    whose = files.edit(config, change)
    told = f"may spend {amount_usd:f} USD" if amount_usd is not None else "has no quota"
    output.note(f"{whose} {told} ({span}).")


def top_up(
    user: UserArgument,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="USD to add.")],
    period: PeriodOption = None,
    key: KeyOption = None,
    config: ConfigOption = None,
) -> None:
    """Raise a quota in the file by an amount; what was spent stays."""
    from gproxy.config import bounds, changes
    from gproxy.config.document import Document

    amount_usd = dollars(amount, "AMOUNT")
    span = _period(period, key)

    def change(document: Document) -> tuple[str, float]:
        if key is None:
            return user, bounds.top_up(document, user, span, amount_usd)
        found = changes.find_key(document, key, user=user)
        return found.name, bounds.top_up_key(document, found, amount_usd)

    whose, now = files.edit(config, change)
    output.note(f"{whose} may now spend {Decimal(str(now)).normalize():f} USD ({span}).")


def show_quota(
    user: Annotated[
        str | None, typer.Argument(metavar="[USER]", help="Only this user and its keys; absent: all.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show quota, spend, what open requests hold and what is left, in USD.

    A user without a quota is shown with its spend in all; of keys only those with a quota are.
    """
    from gproxy.config.source import data_dir
    from gproxy.errors import ConfigError
    from gproxy.server.control.allowances import quotas

    path = files.find(config)
    found = files.read(path)
    if user is not None and user not in (row.name for row in found.users):
        raise ConfigError(f"there is no user {user}: `gproxy users list` shows them")
    store = data_dir(found, path.resolve().parent) / "gproxy.db"
    rows = quotas(found, store, time.time(), user)
    output.show(rows, as_json=as_json, empty="No users yet: `gproxy users add NAME` makes one.")


def _period(period: str | None, key: str | None) -> str:
    if period is not None and period not in PERIODS:
        raise typer.BadParameter(output.not_one_of(period, PERIODS), param_hint="--period")
    if key is not None and period not in (None, PERIODS[0]):
        raise typer.BadParameter("a key's quota is in total: leave it out", param_hint="--period")
    return period or PERIODS[0]
