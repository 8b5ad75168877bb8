"""What a quota refuses always, calls of models that nobody gave a price: warns of them, and names what gives one.

What a price is and costs is `ledger/`'s, and what is refused `server/request/admission.py`'s.
"""

import shlex
from collections.abc import Iterable

from gproxy.config import rules, schema
from gproxy.config.patterns import Pattern
from gproxy.config.problems import Problems


def command(name: str, *, add: bool = False, by_call: bool = False) -> str:
    """What sets the price of `provider/model`, to be pasted with amounts in the place of `USD`. `add`: it is not in
    `[[models]]` yet. `by_call`: its tokens are not what it costs by."""
    amounts = "--each-call USD" if by_call else "--input USD --output USD"
    return f"gproxy models price {shlex.quote(name)} {amounts}{' --add' if add else ''}"


def check(config: schema.Config, problems: Problems, channels: schema.Channels) -> None:
    """Warn where a quota refuses every call: of what neither the file nor the built-in table prices.

    The table itself is not asked: only of channels that it has nothing of, nothing is known.
    """
    if config.globals.allow_unpriced:
        return
    bounded = {row.user_name for row in config.quotas if row.quota > 0}
    bounded |= {row.name for row in config.users if any(k.quota and k.models is None for k in row.keys)}
    grants = [row for row in config.permissions if row.user_name in bounded]
    listed = [(n, row) for n, row in enumerate(config.models) if row.model_id != rules.FALLBACK_MODEL]
    for i, provider in enumerate(config.providers):
        facts = channels.get(provider.channel)
        if facts is None or facts.prices or facts.own_price or not provider.enabled:
            continue
        globs = {row.model_pattern for row in grants if row.provider_name in (None, provider.name)}
        rows = [(("models", n), row) for n, row in listed if row.provider_name == provider.name]
        names = [
            (path, row.model_id)
            for path, row in rows
            if row.enabled and not (row.price_each_call or row.price_tiers)
        ]
        what = "known price" if rows else "model of known price"
        if not rows:
            names = [(("providers", i), "*")]
        told = [path for path, name in names if _reaches(globs, provider.name, name)]
        if told:
            others = f", nor have {len(told) - 1} more of the provider" if len(told) > 1 else ""
            problems.warn(
                told[0],
                f"has no {what}{others}: whoever has a quota is refused there with 402",
                f"run `{command(f'{provider.name}/MODEL', add=not rows)}` "
                "or set price_tiers in [[models]] (0 for what is free), or `allow_unpriced = true` in [global]",
            )


def _reaches(globs: Iterable[str], provider: str, model: str) -> bool:
    """Whether a permission is for a model of the provider; `*` stands for all that it may have."""
    return any(Pattern(glob).matches(name) for glob in globs for name in (model, f"{provider}/{model}"))
