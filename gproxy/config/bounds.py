"""What the commands change of limits and quotas in gproxy.toml, on a `Document`. Prints and writes nothing.

The rest of what commands change is `changes.py`'s, which says how they fail; what a bound means to a request is
decided in `routing/`.
"""

from collections.abc import Mapping
from decimal import Decimal

from gproxy.config.changes import FoundKey, need, remove_where
from gproxy.config.document import Document
from gproxy.config.problems import KeyPath
from gproxy.config.schema import BOUNDS
from gproxy.errors import ConfigError

_NAMES = {name: (name,) for name in BOUNDS} | {"tpd": ("tpd", "total_tokens")}
"""The keys of `[[rate_limits]]` that set a bound."""


def set_limit(document: Document, user: str, pattern: str, bounds: Mapping[str, int | None]) -> bool:
    """Make a rule, or change the bounds given of the one there is (None takes one out); False: it was there."""
    need(document, "users", "name", user, "user")
    rows = document.tables("rate_limits")
    index = next((i for i, row in enumerate(rows) if _is_limit(row, user, pattern)), None)
    if index is None:
        given = {name: most for name, most in bounds.items() if most is not None}
        if not given:
            raise ConfigError(f"{user} has no limit for {pattern}: `gproxy limits list` shows them")
        document.add(("rate_limits",), _limit(user, pattern) | given)
        return True
    for name, most in bounds.items():
        _set_bound(document, index, _NAMES[name], most)
    if not set(document.tables("rate_limits")[index]) & {"total_tokens", *BOUNDS}:
        raise ConfigError(
            f"the limit of {user} for {pattern} would have no bound left: `gproxy limits remove` takes it out"
        )
    return False


def remove_limit(document: Document, user: str, pattern: str) -> None:
    """Take a rule out."""
    if not remove_where(document, "rate_limits", _limit(user, pattern)):
        raise ConfigError(f"{user} has no limit for {pattern}: `gproxy limits list` shows them")


def set_quota(document: Document, user: str, period: str, dollars: Decimal | None) -> None:
    """Give a user a quota for a period, in USD, or with None take it out."""
    need(document, "users", "name", user, "user")
    index = _quota(document, user, period)
    if dollars is None:
        document.remove(("quotas", _there(index, user, period)))
    elif index is None:
        named = {"period": period} if period != "total" else {}
        document.add(("quotas",), {"user_name": user, "quota": float(dollars)} | named)
    else:
        document.set(("quotas", index), "quota", float(dollars))


def set_key_quota(document: Document, key: FoundKey, dollars: Decimal | None) -> None:
    """Give a key a quota, in USD, or with None take it out."""
    if dollars is not None:
        document.set(key.path, "quota", float(dollars))
    elif "quota" in key.values:
        document.unset(key.path, "quota")
    else:
        raise ConfigError(f"{key.name} has no quota: `gproxy quota show` shows them")


def top_up(document: Document, user: str, period: str, dollars: Decimal) -> float:
    """Raise a user's quota by so many USD, by the decimal digits; returns what it is then."""
    need(document, "users", "name", user, "user")
    index = _there(_quota(document, user, period), user, period)
    return _raise(document, ("quotas", index), document.tables("quotas")[index], user, dollars)


def top_up_key(document: Document, key: FoundKey, dollars: Decimal) -> float:
    """The same for a key's quota."""
    return _raise(document, key.path, key.values, key.name, dollars)


def _raise(
    document: Document, path: KeyPath, row: Mapping[str, object], whose: str, dollars: Decimal
) -> float:
    old = row.get("quota")
    if not isinstance(old, int | float) or not old:
        raise ConfigError(f"{whose} has no quota to be raised: `gproxy quota set` gives one")
    new = float(Decimal(str(old)) + dollars)
    document.set(path, "quota", new)
    return new


def _set_bound(document: Document, index: int, names: tuple[str, ...], most: int | None) -> None:
    """One bound of a rule under one of its names: the one it has already, else the first."""
    held = [name for name in names if name in document.tables("rate_limits")[index]]
    if most is not None:
        document.set(("rate_limits", index), held.pop(0) if held else names[0], most)
    for name in held:
        document.unset(("rate_limits", index), name)


def _is_limit(row: Mapping[str, object], user: str, pattern: str) -> bool:
    return row.items() >= _limit(user, pattern).items()


def _limit(user: str, pattern: str) -> dict[str, object]:
    return {"user_name": user, "model_pattern": pattern}


def _quota(document: Document, user: str, period: str) -> int | None:
    rows = enumerate(document.tables("quotas"))
    return next((i for i, row in rows if _is_quota(row, user, period)), None)


def _is_quota(row: Mapping[str, object], user: str, period: str) -> bool:
    return row.get("user_name") == user and row.get("period", "total") == period


def _there(index: int | None, user: str, period: str) -> int:
    if index is None:
        raise ConfigError(f"{user} has no quota for the period {period}: `gproxy quota show` shows them")
    return index
