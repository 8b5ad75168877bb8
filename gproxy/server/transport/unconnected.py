"""Why a connection did not come about, in short words of our own.

Which transport tells it, and as which fault it counts, is `upstream.py`'s.
"""

import errno
import socket
import ssl

_BY_NUMBER = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: "no connection in time",
    errno.EHOSTUNREACH: "address not reachable",
    errno.ENETUNREACH: "address not reachable",
}

NO_TLS = "it speaks no TLS"
_NO_RECORDS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""What OpenSSL, by its version, calls bytes that are no TLS, such as a server's `HTTP/1.1 400`."""


def why(error: BaseException) -> str:
    """What `error`, or what it came of, says. Nothing of its text, which may be an upstream's or hold an address."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror | UnicodeError):
            return "name not found (DNS)"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "TLS failed: certificate not trusted"
        if isinstance(cause, ssl.SSLError):
            told = getattr(cause, "reason", None)  # which those not made by OpenSSL lack
            return NO_TLS if told in _NO_RECORDS else "TLS failed"
        if isinstance(cause, OSError) and cause.errno in _BY_NUMBER:
            return _BY_NUMBER[cause.errno]
        cause = cause.__cause__ or cause.__context__
    return "no connection"


def is_reset(error: BaseException) -> bool:
    """Whether a connection that there was ended by a reset."""
    return why(error) == "connection reset"
