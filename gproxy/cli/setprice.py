"""`gproxy models price`: what a model costs, as the file says it. What is in force is `prices.py`'s to show."""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import files, output
from gproxy.cli.amounts import NONE, count, price
from gproxy.cli.models import place
from gproxy.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from gproxy.config.document import Document

_KEYS = {
    "--input": "price_input_tokens",
    "--output": "price_output_tokens",
    "--cache-read": "price_cache_read_input_tokens",
    "--cache-write": "price_cache_creation_input_tokens",
    "--cache-write-1h": "price_cache_creation_input_tokens_1h",
}
"""The keys of a tier in the file."""

_EACH_CALL = "USD of each call, beside what the file says of tokens; `none`: nothing."


def _amount(flag: str, help: str) -> Any:
    return typer.Option(flag, metavar="USD", help=help)


def _cached(flag: str, help: str) -> Any:
    return typer.Option(flag, metavar="USD|none", help=f"{help}; `none`: no price of their own.")


def set_price(
    model: Annotated[str, typer.Argument(metavar="PROVIDER/MODEL", help="Which model.")],
    input: Annotated[str | None, _amount("--input", "Input.")] = None,
    output_: Annotated[str | None, _amount("--output", "Output.")] = None,
    cache_read: Annotated[str | None, _cached("--cache-read", "Cache reads")] = None,
    cache_write: Annotated[str | None, _cached("--cache-write", "Cache writes")] = None,
    cache_write_1h: Annotated[str | None, _cached("--cache-write-1h", "Those for an hour")] = None,
    each_call: Annotated[str | None, typer.Option("--each-call", metavar="USD|none", help=_EACH_CALL)] = None,
    above: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Of requests with more input than this.")
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Put the model into [[models]] if it is not there.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set what a model costs, in USD per million tokens, in the place of the built-in price.

    Images and speech need a price of each call. What is not given stays as it is in the file. Requests pay the new
    price as soon as a running server has taken the file up; `usage reprice` prices older ones.
    """
    from gproxy.config import tiers

    texts = zip(_KEYS, (input, output_, cache_read, cache_write, cache_write_1h), strict=True)
    given = {flag: _price(flag, text) for flag, text in texts if text is not None}
    if not given and each_call is None:
        raise typer.BadParameter(f"give any of {', '.join(_KEYS)}, --each-call")
    if above is not None and not given:
        raise typer.BadParameter("is of a price of tokens: give one", param_hint="--above")
    by_call = None if each_call is None or each_call == NONE else float(price(each_call, "--each-call"))
    least = count(above, "--above") if above is not None else 0
    where = place(model, "PROVIDER/MODEL")
    named = where["provider_name"], where["model_id"]
    prices = {_KEYS[flag]: None if usd is None else float(usd) for flag, usd in given.items()}

    def change(document: "Document") -> tuple[dict[str, Any], bool]:
        others = any(row.get("provider_name") == named[0] for row in document.tables("models"))
        if each_call is not None:
            tiers.set_call_price(document, *named, by_call, add=add)
        if prices:
            tiers.set_price(document, *named, prices, above=least, add=add)
        return next(row for row in document.tables("models") if row.items() >= where.items()), others

    row, others = files.edit(config, change)
    if not others:
        output.note(f"From now on {named[0]} serves this model alone: --add the others that it is to serve.")
    found = row.get("price_tiers", [])
    if as_json:
        output.show_json(
            {"model": model, "price_each_call": row.get("price_each_call"), "price_tiers": found}
        )
        return
    if given:
        told = ", ".join(f"{flag[2:].replace('-', ' ')} {_told(usd)}" for flag, usd in given.items())
        output.note(f"{model} costs{_reach(found, least)}, in USD per million tokens: {told}.")
    if each_call is not None:
        output.note(
            _by_call(model, "nothing" if by_call is None else f"{each_call} USD", by_token=bool(found))
        )


def _price(flag: str, text: str) -> Decimal | None:
    if text == NONE and flag.startswith("--cache"):
        return None
    return price(text, flag)


def _by_call(model: str, cost: str, *, by_token: bool) -> str:
    tokens = (
        "beside its tokens" if by_token else "and its tokens nothing: --input and --output price them too"
    )
    return f"Each call of {model} costs {cost} {tokens}."


def _told(usd: Decimal | None) -> str:
    return "none of its own" if usd is None else f"{usd:f}"


def _reach(tiers: list[dict[str, Any]], above: int) -> str:
    """In words, the inputs of the tier that begins there; the last tier takes what fits none."""
    bounds = [tier.get("input_tokens_up_to") for tier in tiers[:-1]]
    end = next((bound for bound in bounds if bound is None or bound > above), None)
    words = [f"above {above}"] * (above > 0) + [f"up to {end}"] * (end is not None)
    return f" {' and '.join(words)} tokens of input" if words else ""
