"""Whether the address of an upstream can be reached, step by step: name, connection, TLS, and what time it is there.

Its key is `probe.py`'s. Nothing is asked for but the head of the root, without a key.
"""

import http.client
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from gproxy.server.transport.unconnected import NO_TLS, why

_LEAST_S = 0.1
_GRACE_S = 0.5
_PLAIN_S = 0.3
"""For what is asked after TLS has failed; less than the grace, since the time may be up."""


@dataclass(frozen=True, slots=True)
class Dialed:
    """How far one came: `failed` is the step that was not done, "DNS", "TCP", "TLS" or "HTTP"; "" if all were.

    `told` is why; `ahead_s` how many seconds our clock is ahead of the one there, None if that was not told.
    """

    host: str
    milliseconds: int
    failed: str = ""
    told: str = ""
    ahead_s: float | None = None


def dial_all(urls: Iterable[str], within_s: float) -> dict[str, Dialed]:
    """`dial` of each, side by side, in `within_s` seconds over all: a look-up of a name cannot be broken off, and so
    goes on in a thread that nobody waits for."""
    wanted = set(urls)
    done: queue.SimpleQueue[tuple[str, Dialed]] = queue.SimpleQueue()
    end = time.monotonic() + within_s + _GRACE_S
    for url in wanted:
        threading.Thread(
            target=lambda url=url: done.put((url, dial(url, within_s))), name="dial", daemon=True
        ).start()
    found: dict[str, Dialed] = {}
    while len(found) < len(wanted):
        try:
            url, dialed = done.get(timeout=max(_LEAST_S, end - time.monotonic()))
        except queue.Empty:
            break
        found[url] = dialed
    late = round(within_s * 1000)
    return {
        url: found.get(url) or Dialed(_host(url), late, "DNS", f"nothing within {within_s:g} s")
        for url in wanted
    }


def dial(url: str, within_s: float) -> Dialed:
    """Connect to where `url` leads, and ask for the head of its root, in `within_s` and what DNS takes."""
    began = time.monotonic()
    parts = urlsplit(url)
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    step, ahead = "DNS", None
    try:
        port = parts.port or (443 if secure else 80)
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        step = "TCP"
        with closing(socket.create_connection((host, port), timeout=_left(began, within_s))) as plain:
            step = "TLS"
            plain.settimeout(_left(began, within_s))
            channel = (
                ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain
            )
            with closing(channel):
                step = "HTTP"
                channel.settimeout(_left(began, within_s))
                ahead = _ahead(channel, parts.netloc.rpartition("@")[2])
    except TimeoutError:
        if step == "HTTP":  # it may have no answer to such a question
            return Dialed(host, _since(began))
        plain_http = step == "TLS" and _speaks_plainly(host, port)
        return Dialed(host, _since(began), step, NO_TLS if plain_http else "no answer in time")
    except http.client.RemoteDisconnected:  # it may have no answer to such a question
        tls = not secure and _speaks_tls(host, port)
        return Dialed(host, _since(began), *((step, "it speaks TLS alone") if tls else ()))
    except (OSError, ValueError, http.client.HTTPException) as error:
        told = "its answer is no HTTP" if step == "HTTP" else why(error)
        trusted = not isinstance(error, ssl.SSLCertVerificationError)
        if step == "TLS" and trusted and _speaks_plainly(host, port):
            told = NO_TLS
        return Dialed(host, _since(began), step, told)
    return Dialed(host, _since(began), ahead_s=ahead)


def _speaks_plainly(host: str, port: int) -> bool:
    """Whether it answers in HTTP without TLS: many a server takes the start of TLS for a line that goes on."""
    try:
        with closing(socket.create_connection((host, port), timeout=_PLAIN_S)) as plain:
            _ahead(plain, f"{host}:{port}")
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return True


def _speaks_tls(host: str, port: int) -> bool:
    """Whether it begins TLS, by whatever certificate: nothing is sent to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with closing(socket.create_connection((host, port), timeout=_PLAIN_S)) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except (OSError, ValueError):
        return False
    return True


def _ahead(channel: socket.socket, host: str) -> float | None:
    channel.sendall(f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii"))
    with closing(http.client.HTTPResponse(channel, method="HEAD")) as answer:
        answer.begin()
        date = answer.getheader("date")
    try:
        # A Date is the whole second that had begun.
        return time.time() - parsedate_to_datetime(date).timestamp() - 0.5 if date else None
    except (TypeError, ValueError):
        return None


def _left(began: float, within_s: float) -> float:
    return max(_LEAST_S, began + within_s - time.monotonic())


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
