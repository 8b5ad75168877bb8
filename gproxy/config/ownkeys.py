"""gproxy's own keys where an upstream's belongs: such a one is not used, so that no provider gets to know it.

They get there by `gproxy env`, which puts a client's key where a provider's is looked for as well. Where secrets are
kept is `secrets.py`'s.
"""

from collections.abc import Mapping

from gproxy.config import schema, secrets, strays
from gproxy.config.keys import hash_key, looks_made_here
from gproxy.errors import ConfigError

_FIX = "set the provider's there (`gproxy env` sets gproxy's)"


def astray(secret: str, base_url: str | None) -> bool:
    """Whether it looks like a key that a gproxy made, while the provider is at its channel's own address: no other
    gproxy is there to take it."""
    return not base_url and looks_made_here(secret)


class Reader:
    """Reads the secrets of a configuration's providers, all but its own clients' keys."""

    def __init__(self, config: schema.Config, environ: Mapping[str, str]) -> None:
        self._config, self._environ = config, environ
        self._own = {
            (key.api_key_hash or hash_key(key.api_key)).removeprefix("sha256:"): (user.name, key.label)
            for user in config.users
            for key in user.keys
        }

    def read(
        self,
        provider: schema.Provider,
        credential: schema.Credential,
        *,
        patience_s: float = secrets.PATIENCE_S,
    ) -> str:
        """As `secrets.read`; raises ConfigError too if it is a key of the file's, also of one that is disabled, or if
        it looks like one that a gproxy made while the provider is at its channel's own address."""
        secret = secrets.read(credential, self._environ, patience_s=patience_s)
        if strays.hashed_key(secret, self._own, self._config):
            owner = "/".join(filter(None, self._own[hash_key(secret).removeprefix("sha256:")]))
            raise ConfigError(f"{secrets.place(credential)} holds a key of gproxy's own ({owner}): {_FIX}")
        if astray(secret, provider.settings.base_url):
            raise ConfigError(f"{secrets.place(credential)} holds a key that a gproxy made: {_FIX}")
        return secret
