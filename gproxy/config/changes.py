"""What the commands change in gproxy.toml: one function each, on a `Document`. Prints and writes nothing.

Each raises ConfigError with what to do when the document does not have what is named, or has it already. What
makes a whole file valid is `load.py`'s, which sees every result before it is written.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gproxy.config.document import Document
from gproxy.config.keys import hash_key, key_hint, key_id
from gproxy.config.problems import KeyPath, suggestion
from gproxy.errors import ConfigError

SECRET_FORMS = ("env", "keyring", "api_key")
"""The keys of a credential of which it has exactly one."""


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A user's key in the document: its place, and its table as plain values."""

    path: KeyPath
    user: str
    values: Mapping[str, Any]

    @property
    def id(self) -> str:
        return key_id(stored_hash(self.values))

    @property
    def name(self) -> str:
        """`user/label`, or the id of a key without a label."""
        label = self.values.get("label")
        return f"{self.user}/{label}" if label else self.id


def stored_hash(key: Mapping[str, Any]) -> str:
    """The hash of a key's table, made from the key itself where the file holds that."""
    return str(key.get("api_key_hash") or hash_key(str(key.get("api_key", ""))))


def add_provider(document: Document, values: Mapping[str, object]) -> None:
    """Append a `[[providers]]` table; `values` are its keys. A keyring entry in it must be its own."""
    if _index(document, "providers", "name", values["name"]) is not None:
        raise ConfigError(f"there is a provider {values['name']} already: remove it, or take another name")
    document.add(("providers",), values)
    index = len(document.tables("providers")) - 1
    for credential in document.tables("providers", index, "credentials"):
        if "keyring" in credential:
            _refuse_shared(document, credential["keyring"])


def remove_provider(document: Document, name: str, *, cascade: bool) -> list[str]:
    """Take a provider out; what names it is refused, or with `cascade` goes as well. Returns what went along.

    An alias that has other targets keeps those.
    """
    index = need(document, "providers", "name", name, "provider")
    users = _uses(document, name)
    if users and not cascade:
        raise ConfigError(
            f"{name} is still used by {', '.join(users)}: remove those first, or give --cascade"
        )
    shortened = set()
    for alias in document.tables("model_aliases"):
        targets = _targets(alias)
        kept = [target for target in targets if target.get("provider_name") != name]
        if kept and kept != targets:
            set_alias(document, alias["alias"], kept)
            shortened.add(_alias(alias))
    for table in ("models", "model_aliases", "permissions"):
        remove_where(document, table, {"provider_name": name})
    document.remove(("providers", index))
    return [f"its targets in {use}" if use in shortened else use for use in users]


def set_secret(document: Document, provider: str, form: str, value: str, *, label: str | None) -> None:
    """Give a provider's credential another secret: `form` is one of `SECRET_FORMS`.

    Without a label the only credential is meant; one of a new label is appended. A keyring entry must be its own.
    """
    path = ("providers", need(document, "providers", "name", provider, "provider"), "credentials")
    credentials = document.tables(*path)
    labels = [credential.get("label", f"{provider}#{n}") for n, credential in enumerate(credentials, 1)]
    found = [i for i, existing in enumerate(labels) if label in (None, existing)]
    if not found:
        document.add(path, ({"label": label} if label else {}) | {form: value})
    elif len(found) > 1:
        raise ConfigError(f"{provider} has several credentials: name one with --label, {', '.join(labels)}")
    else:
        entry = (*path, found[0])
        old = next((name for name in SECRET_FORMS if name in credentials[found[0]]), None)
        if old:
            document.rename(entry, old, form, value)
        else:
            document.set(entry, form, value)
    if form == "keyring":
        _refuse_shared(document, value)


def keyring_entries(document: Document) -> set[str]:
    """The keyring entries that the document names."""
    return {entry for _, entry in _named_entries(document)}


def _named_entries(document: Document) -> list[tuple[str, str]]:
    """Each provider's name with a keyring entry that one of its credentials names."""
    return [
        (str(provider.get("name", "")), credential["keyring"])
        for index, provider in enumerate(document.tables("providers"))
        for credential in document.tables("providers", index, "credentials")
        if "keyring" in credential
    ]


def _refuse_shared(document: Document, entry: str) -> None:
    """A secret about to be stored must not overwrite another credential's."""
    names = [name for name, named in _named_entries(document) if named == entry]
    if len(names) > 1:
        raise ConfigError(
            f"the keyring entry {entry} would be shared by credentials of {', '.join(dict.fromkeys(names))}: "
            "take another with --keyring-entry"
        )


def add_user(document: Document, name: str, *, is_admin: bool = False) -> None:
    """Append a `[[users]]` table without keys."""
    if _index(document, "users", "name", name) is not None:
        raise ConfigError(f"there is a user {name} already: `gproxy users list` shows them")
    document.add(("users",), {"name": name} | ({"is_admin": True} if is_admin else {}))


def remove_user(document: Document, name: str) -> None:
    """Take a user out with its keys, permissions, limits and quotas."""
    index = need(document, "users", "name", name, "user")
    for table in ("permissions", "rate_limits", "quotas"):
        remove_where(document, table, {"user_name": name})
    document.remove(("users", index))


def enable_user(document: Document, name: str, enabled: bool) -> None:
    """Set a user's `enabled`."""
    document.set(("users", need(document, "users", "name", name, "user")), "enabled", enabled)


def keys(document: Document) -> Iterator[FoundKey]:
    """Every key of every user, in the order of the file."""
    for index, user in enumerate(document.tables("users")):
        for number, key in enumerate(user.get("keys", ())):
            yield FoundKey(("users", index, "keys", number), str(user.get("name", "")), key)


def find_key(document: Document, name: str, *, user: str | None = None) -> FoundKey:
    """The one key of that label, `user/label` or id; with `user` among that user's keys."""
    found = [
        key
        for key in keys(document)
        if user in (None, key.user) and name in (key.values.get("label"), key.name, key.id)
    ]
    if not found:
        whose = "" if user is None else f" of {user}"
        raise ConfigError(f"no key{whose} is named {name}: `gproxy keys list` shows them")
    if len(found) > 1:
        names = ", ".join(key.name for key in found)
        raise ConfigError(f"{name} is more than one key: say which, {names}")
    return found[0]


def key_owner(document: Document) -> tuple[str, bool]:
    """Who gets a key that is made for nobody in particular, and whether that user is still to be made."""
    names = [str(user.get("name", "")) for user in document.tables("users")]
    if len(names) == 1:
        return names[0], False
    return "default", "default" not in names


def add_key(document: Document, user: str, values: Mapping[str, object]) -> str:
    """Append a key to a user; without a label in `values` it gets a free `key-N`. Returns its label."""
    path = ("users", need(document, "users", "name", user, "user"), "keys")
    taken = {key.values.get("label") for key in keys(document)}
    label = values.get("label") or next(
        free for n in range(1, len(taken) + 2) if (free := f"key-{n}") not in taken
    )
    if any(key.get("label") == label for key in document.tables(*path)):
        raise ConfigError(f"{user} has a key {label} already: take another --label, or rotate that one")
    document.add(path, {"label": label} | {k: v for k, v in values.items() if k != "label"})
    return str(label)


def remove_key(document: Document, key: FoundKey) -> None:
    """Take a key out of the document."""
    document.remove(key.path)


def enable_key(document: Document, key: FoundKey, enabled: bool) -> None:
    """Set a key's `enabled`."""
    document.set(key.path, "enabled", enabled)


def replace_key(document: Document, key: FoundKey, secret: str) -> None:
    """Put another key in the place of one, as its hash and hint; label and policy stay."""
    old = "api_key" if "api_key" in key.values else "api_key_hash"
    document.rename(key.path, old, "api_key_hash", hash_key(secret))
    document.set(key.path, "key_hint", key_hint(secret))


def hash_literal(document: Document, key: FoundKey) -> bool:
    """Put hash and hint in the place of a key that the file holds itself; False if it holds none."""
    if "api_key" not in key.values:
        return False
    replace_key(document, key, str(key.values["api_key"]))
    return True


def allow(document: Document, user: str, pattern: str, provider: str | None = None) -> bool:
    """Append a permission; False if that very one is there."""
    need(document, "users", "name", user, "user")
    if provider is not None:
        need(document, "providers", "name", provider, "provider")
    row = _permission(user, pattern, provider)
    if row in document.tables("permissions"):
        return False
    document.add(("permissions",), row)
    return True


def disallow(document: Document, user: str, pattern: str, provider: str | None = None) -> None:
    """Take one permission out."""
    row = _permission(user, pattern, provider)
    if not remove_where(document, "permissions", {"provider_name": None} | row):
        raise ConfigError(f"{user} has no such permission: `gproxy permissions list` shows them")


def set_alias(
    document: Document,
    alias: str,
    targets: Sequence[Mapping[str, object]],
    *,
    strategy: str | None = None,
) -> bool:
    """Make an alias, or give it other targets, each with `provider_name` and `model_id`; False: it was there.

    An alias that is there keeps what is not given: its strategy, whether it is enabled, and of targets that it
    had already their weights and comments.
    """
    first, more = targets[0], targets[1:]
    index = _index(document, "model_aliases", "alias", alias)
    new = index is None
    if index is None:
        index = len(document.tables("model_aliases"))
        document.add(("model_aliases",), {"alias": alias} | _place(first))
    path = ("model_aliases", index)
    put(document, path, _place(first) | ({"strategy": strategy} if strategy else {}))
    if new and more:
        document.set(path, "targets", more)
    else:
        _set_targets(document, (*path, "targets"), [_place(target) for target in more])
    return new


def _set_targets(document: Document, array: KeyPath, places: Sequence[Mapping[str, object]]) -> None:
    """Make the targets those of `places`, in that order; what is known of one that stays goes with it."""
    wanted, gone = list(places), []
    for number, target in enumerate(document.tables(*array)):
        if _place(target) in wanted:
            wanted.remove(_place(target))
        else:
            gone.append(number)
    for number in reversed(gone):
        document.remove((*array, number))
    kept = document.tables(*array)
    for number, place in enumerate(places):
        values = next((target for target in kept if _place(target) == place), place)
        if number < len(kept):
            put(document, (*array, number), values, kept[number].keys() - values.keys())
        else:
            document.add(array, values)


def put(
    document: Document, table: KeyPath, values: Mapping[str, object], without: Iterable[str] = ()
) -> None:
    """Set those keys of a table that have another value, and take out `without`."""
    now = document.tables(*table[:-1])[int(table[-1])]
    for name, value in values.items():
        if now.get(name) != value:
            document.set(table, name, value)
    for name in without:
        document.unset(table, name)


def remove_alias(document: Document, alias: str) -> None:
    """Take an alias out."""
    document.remove(("model_aliases", need(document, "model_aliases", "alias", alias, "alias")))


def _index(document: Document, table: str, key: str, value: object) -> int | None:
    rows = document.tables(table)
    return next((i for i, row in enumerate(rows) if row.get(key) == value), None)


def need(document: Document, table: str, key: str, value: str, what: str) -> int:
    """The index of the row that has this value; raises ConfigError, by `what` it is, if there is none."""
    index = _index(document, table, key, value)
    if index is None:
        group = what if what == "alias" else f"{what}s"
        near = suggestion(value, [str(row.get(key)) for row in document.tables(table)])
        raise ConfigError(f"there is no {what} {value}: {near or f'`gproxy {group} list` shows them'}")
    return index


def remove_where(document: Document, table: str, match: Mapping[str, object]) -> bool:
    """Take out every row that has these values (None: lacks the key)."""
    rows = [
        i for i, row in enumerate(document.tables(table)) if all(row.get(k) == v for k, v in match.items())
    ]
    for index in reversed(rows):
        document.remove((table, index))
    return bool(rows)


def _permission(user: str, pattern: str, provider: str | None) -> dict[str, object]:
    named = {"provider_name": provider} if provider is not None else {}
    return {"user_name": user, **named, "model_pattern": pattern}


def _place(target: Mapping[str, object]) -> dict[str, object]:
    return {name: target.get(name, "") for name in ("provider_name", "model_id")}


def _targets(alias: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [_place(alias), *alias.get("targets", ())]


def _alias(alias: Mapping[str, Any]) -> str:
    return f"alias {alias.get('alias')}"


def _uses(document: Document, provider: str) -> list[str]:
    """What names a provider, in words."""
    models = [
        f"model {model.get('model_id')}"
        for model in document.tables("models")
        if model.get("provider_name") == provider
    ]
    aliases = [
        _alias(alias)
        for alias in document.tables("model_aliases")
        if any(target.get("provider_name") == provider for target in _targets(alias))
    ]
    permissions = [
        f"permission {p.get('user_name')} {p.get('model_pattern')}"
        for p in document.tables("permissions")
        if p.get("provider_name") == provider
    ]
    return [*models, *aliases, *permissions]
