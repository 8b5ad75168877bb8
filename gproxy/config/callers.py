"""Who could call: every user and key of a file as the `Client` that serving would see, enabled or not.

What a client may do is decided in `routing/`.
"""

import dataclasses
from dataclasses import dataclass

from gproxy.config.keys import hash_key
from gproxy.config.schema import Config, User, UserKey
from gproxy.config.snapshot import Client, build


@dataclass(frozen=True, slots=True)
class Caller:
    """A user's key, or with `key` None the user as a key without any policy of its own would be."""

    user: User
    key: UserKey | None
    client: Client

    @property
    def name(self) -> str:
        """`user/label`, or the user's name."""
        if self.key is None:
            return self.user.name
        return f"{self.user.name}/{self.key.label}" if self.key.label else self.client.key_id


def callers(config: Config) -> list[Caller]:
    """Everyone in the order of the file, each user before its keys."""
    plain = {user.name: _plain_key(user) for user in config.users}
    users = tuple(
        dataclasses.replace(user, enabled=True, keys=(plain[user.name], *map(_enabled, user.keys)))
        for user in config.users
    )
    clients = build(dataclasses.replace(config, users=users), {}).clients
    return [
        Caller(user, key, clients[_digest(key or plain[user.name])])
        for user in config.users
        for key in (None, *user.keys)
    ]


def _plain_key(user: User) -> UserKey:
    return UserKey(api_key_hash=hash_key(f"no key of {user.name}"))


def _enabled(key: UserKey) -> UserKey:
    return dataclasses.replace(key, enabled=True)


def _digest(key: UserKey) -> str:
    return (key.api_key_hash or hash_key(key.api_key)).removeprefix("sha256:")
