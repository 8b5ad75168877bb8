"""Amounts as users type them: money and counts, or `none`. What they bound is the commands' to say."""

from decimal import Decimal, InvalidOperation

import typer

from gproxy.config.schema import LEAST_USD, MOST_USD

NONE = "none"

_MOST = 2**63 - 1


def dollars(text: str, option: str) -> Decimal:
    """An amount in USD above 0; raises BadParameter, for wrong usage, if it is none."""
    return _amount(text, option, LEAST_USD, " above 0")


def price(text: str, option: str) -> Decimal:
    """An amount in USD, 0 or more; raises BadParameter, for wrong usage, if it is none."""
    return _amount(text, option, 0, ", 0 or more")


def _amount(text: str, option: str, least: float, said: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not (amount.is_finite() and Decimal(str(least)) <= amount <= Decimal(str(MOST_USD))):
        most = f", and {MOST_USD:.0f} at most" if amount.is_finite() and amount > 0 else ""
        raise typer.BadParameter(f"{text} is no amount in USD{said}{most}", param_hint=option)
    return amount


def count(text: str, option: str) -> int:
    """A whole number above 0; raises BadParameter, for wrong usage, if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= _MOST):
        most = f", and {_MOST} at most" if text.isascii() and text.strip("0").isdigit() else ""
        raise typer.BadParameter(f"{text} is no whole number above 0{most}", param_hint=option)
    return int(text)
