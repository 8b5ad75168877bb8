"""The upstreams' secrets: read from the environment, the OS keyring or the file. The only user of keyring.

Keys that clients authenticate with are `keys.py`'s.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from gproxy.config import accounts, schema
from gproxy.config.rules import printable
from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE = "gproxy"
"""The service name of our entries in the OS keyring."""

PATIENCE_S = 5.0
"""A locked ring may wait for a prompt that nobody sees, and a D-Bus call blocks."""

_LIKE_A_KEY_CHARS = 20
"""No key is shorter, and names of variables are shorter or in capitals."""

_INSTEAD = "use `env` or `api_key` instead"

T = TypeVar("T")


class KeyringSilentError(ConfigError):
    """The ring did not answer in time: another question would only take as long."""


def read(credential: schema.Credential, environ: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> str:
    """The secret that a credential names: printable ASCII, never empty; a service account's as JSON in one line.

    Raises ConfigError with one sentence that says what to do, and holds nothing of the secret. May block for
    `patience_s`, and raises KeyringSilentError then.
    """
    secret, source = _stored(credential, environ, patience_s)
    return accounts.read(secret, source) if credential.service_account else checked(secret, source)


def names_variable(env: str) -> bool:
    """Whether it can be shown as a variable's name: it is none that might be the key itself, put there by mistake."""
    return env.isidentifier() and (env.isupper() or len(env) < _LIKE_A_KEY_CHARS)


def place(credential: schema.Credential) -> str:
    """What to call the place where a credential's secret stands; of a variable that is set, or holds none."""
    if credential.env:
        return f"the environment variable {credential.env}"
    return f'the keyring entry "{credential.keyring}"' if credential.keyring else "`api_key`"


def _stored(credential: schema.Credential, environ: Mapping[str, str], patience_s: float) -> tuple[str, str]:
    """The secret as it stands where the credential says, and what to call that place."""
    if credential.env:
        secret = environ.get(credential.env, "")
        if not secret and not names_variable(credential.env):
            raise ConfigError("`env` is no name of a variable that is set: a key itself goes into `api_key`")
        if not secret:
            state = "empty" if credential.env in environ else "not set"
            raise ConfigError(f"the environment variable {credential.env} is {state}: set it and start again")
        return secret, place(credential)
    if credential.keyring:
        found = _patiently(lambda: _usable_ring().get_password(SERVICE, credential.keyring), patience_s)
        if not found:
            raise ConfigError(
                f'the OS keyring has no entry "{credential.keyring}": `gproxy providers set-key` stores one'
            )
        return found, place(credential)
    return credential.api_key, place(credential)


def store(name: str, secret: str, *, patience_s: float = PATIENCE_S) -> None:
    """Put a secret into the OS keyring and read it back; raises ConfigError if it cannot be kept there.

    A service account's is what `accounts.read` gave.
    """
    if not secret.startswith("{"):  # JSON has blanks in it, and goes into no header
        checked(secret, "the secret")
    _write(name, secret, patience_s)


@contextlib.contextmanager
def stored(name: str, secret: str, *, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """`store`, and put back what was there if the block raises."""
    before = _patiently(lambda: _usable_ring().get_password(SERVICE, name), patience_s)
    try:
        store(name, secret, patience_s=patience_s)
        yield
    except BaseException:  # Ctrl-C too: the entry is not to stay half changed
        # What is to be told is why it went wrong; a ring that failed then fails here as well.
        with contextlib.suppress(ConfigError):
            if before is None:
                delete(name, patience_s=patience_s)
            else:
                _write(name, before, patience_s)
        raise


def _write(name: str, secret: str, patience_s: float) -> None:
    def write() -> str | None:
        ring = _usable_ring()
        ring.set_password(SERVICE, name, secret)
        return ring.get_password(SERVICE, name)

    if _patiently(write, patience_s) != secret:
        raise ConfigError(f"the OS keyring did not keep the secret: {_INSTEAD}")


def delete(name: str, *, patience_s: float = PATIENCE_S) -> None:
    """Remove an entry from the OS keyring; raises ConfigError if there is none or the ring cannot be used."""
    _patiently(lambda: _usable_ring().delete_password(SERVICE, name), patience_s)


def backend(*, patience_s: float = PATIENCE_S) -> str:
    """The name of the OS keyring in force; raises ConfigError, which names it, if it keeps nothing, or in clear."""
    return _patiently(lambda: _name_of(_usable_ring()), patience_s)


def checked(secret: str, source: str) -> str:
    """The secret; raises ConfigError, which names its source, if no header could carry it."""
    if not printable(secret):
        raise ConfigError(
            f"{source} holds blanks, control or non-ASCII characters, which no key has: set it anew"
        )
    return secret


def _usable_ring() -> "KeyringBackend":
    """The backend in force; raises ConfigError if it keeps nothing, or keeps it in clear."""
    import keyring
    from keyring.backends import chainer, fail, null

    ring = keyring.get_keyring()
    if isinstance(ring, chainer.ChainerBackend):
        ring = next(iter(ring.backends), ring)
    name = _name_of(ring)
    if isinstance(ring, fail.Keyring | null.Keyring | chainer.ChainerBackend):
        raise ConfigError(f"there is no OS keyring here ({name}): {_INSTEAD}")
    if "plaintext" in name.lower():
        raise ConfigError(f"the keyring {name} keeps secrets in clear: {_INSTEAD}")
    return ring


def _name_of(ring: "KeyringBackend") -> str:
    return f"{type(ring).__module__}.{type(ring).__name__}"


def _patiently(call: Callable[[], T], patience_s: float) -> T:
    """What `call` returns, from a thread that is left behind if it does not come back in time."""
    from keyring.errors import KeyringLocked, NoKeyringError, PasswordDeleteError

    outcome: queue.SimpleQueue[tuple[T] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((call(),))
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=run, name="keyring", daemon=True).start()
    try:
        result = outcome.get(timeout=patience_s)
    except queue.Empty:
        raise KeyringSilentError(
            f"the OS keyring did not answer within {patience_s:g} s: unlock it, or {_INSTEAD}"
        ) from None
    match result:
        case (value,):
            return value
        case ConfigError():
            raise result
        case NoKeyringError():
            raise ConfigError(f"there is no OS keyring here: {_INSTEAD}")
        case KeyringLocked():
            raise ConfigError(f"the OS keyring is locked: unlock it, or {_INSTEAD}")
        case PasswordDeleteError():
            raise ConfigError("the OS keyring has no such entry")
        case _:
            # Backends raise what their platform raises; only its kind is told, its text may hold anything.
            raise ConfigError(f"the OS keyring failed ({type(result).__name__}): {_INSTEAD}")
