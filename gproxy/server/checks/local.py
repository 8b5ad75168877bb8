"""The server of a configuration as its own commands see it: where it is, and whether it takes a key.

It is only asked; what it does is changed through the file.
"""

import contextlib
import http.client
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

from gproxy.config.schema import Global
from gproxy.errors import ConfigError
from gproxy.server.process import lock

_ANSWER_S = 5.0
_TAKES_UP_S = 10.0
"""A running server follows an edit within 2 s; a busy machine gets more."""

ELSEWHERE = "a server runs on this store, at another address: give that with --url"

_ANY_HOST = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def address(settings: Global) -> str:
    """The base URL of a server of these settings, without a slash at its end, as it is reached on this machine.

    Raises ConfigError where its port is not known.
    """
    if not settings.port:
        raise ConfigError("the server takes a free port (port = 0): give its address with --url")
    host = _ANY_HOST.get(settings.host, settings.host)
    scheme = "https" if settings.tls_certificate and settings.tls_key else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}"


def reach(
    url: str, certificate: Path | None = None, within_s: float = _ANSWER_S, store: Path | None = None
) -> None:
    """Raise ConfigError unless a gproxy answers at `url`; `certificate` is its own, under TLS.

    With `store`, the folder of its store, the failure says whether one runs there at another address.
    """
    with contextlib.suppress(http.client.HTTPException):
        try:
            if _status(url, "/health", "", certificate, within_s) == 200:
                return
        except OSError as error:
            why = error.strerror or type(error).__name__
            way_out = ELSEWHERE if store is not None and runs_on(store) else "`gproxy serve` starts one"
            raise ConfigError(f"no server answers at {url} ({why}): {way_out}") from None
    raise ConfigError(f"what answers at {url} is no gproxy: see `port` in the file, or give --url")


def runs_on(store: Path) -> bool:
    """Whether a server is known to run on the store in this folder."""
    try:
        return lock.is_held(store)
    except OSError:
        return False


def wait_for_key(url: str, key: str, certificate: Path | None = None) -> None:
    """Return when the server takes a key that was just written to its file; raises ConfigError if it does not."""
    from gproxy.server.process.watch import POLL_SECONDS

    end = time.monotonic() + _TAKES_UP_S
    # It reads a file that two polls have found the same: who asks sooner is one more 401 in its log.
    time.sleep(2 * POLL_SECONDS + 0.1)
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _status(url, "/user/quota", key, certificate) == 200:
                return
        if time.monotonic() > end:
            raise ConfigError(
                f"the server at {url} does not take a new key of this file: see whether it serves this file, "
                "and what `gproxy check` says"
            )
        time.sleep(POLL_SECONDS)


def _status(url: str, path: str, key: str, certificate: Path | None, within_s: float = _ANSWER_S) -> int:
    """The status of a GET. Raises OSError and HTTPException."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = _trusting(certificate)
        connection = http.client.HTTPSConnection(host, parts.port, timeout=within_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=within_s)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        return connection.getresponse().status


def _trusting(certificate: Path | None) -> ssl.SSLContext:
    """What trusts the server's own certificate, whatever name that is for: it is asked by another here."""
    context = ssl.create_default_context()
    if certificate is not None:
        context = ssl.create_default_context(cafile=str(certificate))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
    return context
