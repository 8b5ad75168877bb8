"""Every way a request, an upstream or a configuration can fail, as one tree. Imports nothing of gproxy.

How a failure looks in a dialect is not decided here but in `protocols/`; `kind` is the OpenAI word for it,
and the other dialects translate that.

    GatewayError                  status  kind                    retry elsewhere?
    ├── BadRequest                400     invalid_request_error   no
    │   └── ContextTooLong        400     invalid_request_error   no: told by an upstream
    ├── Unauthenticated           401     authentication_error    no
    ├── QuotaExceeded             402     quota_exceeded          no
    ├── Forbidden                 403     permission_error        no
    ├── NotFound                  404     not_found_error         no
    ├── MethodNotAllowed          405     invalid_request_error   no
    ├── BodyTimeout               408     invalid_request_error   no
    ├── BodyTooLarge              413     invalid_request_error   no
    ├── UnsupportedEncoding       415     invalid_request_error   no
    ├── MisdirectedRequest        421     invalid_request_error   no
    ├── HeadersTooLarge           431     invalid_request_error   no
    ├── RateLimited               429     rate_limit_error        no
    ├── InternalFault             500     api_error               no
    ├── UpstreamFailed            502     upstream_error          no: every attempt has failed
    ├── Unavailable               503     overloaded_error        no
    ├── UpstreamTimeout           504     timeout_error           no
    ├── LoopDetected              508     invalid_request_error   no
    └── UpstreamOverloaded        529     overloaded_error        no

    UpstreamFault                 one attempt failed; the loop over attempts decides what follows
    ├── ConnectFailed             refused, DNS, TLS, reset before the request was sent
    ├── ConnectTimedOut           no connection within connect_timeout_s
    ├── FirstByteTimedOut         sent, no answer within first_byte_timeout_s: may have been billed
    ├── IdleTimedOut              the answer stopped for idle_timeout_s
    ├── AnswerBroken              the connection ended, or was malformed, inside an answer
    ├── CredentialRefused         no token is given for it: as good as a 401, and nothing was sent
    └── AnswerRefused             an answer that is none: redirect, HTML, empty body, error inside a 200

    ConfigError                   the file, an edit or a secret is wrong; carries the problems
    StoreError                    the usage store cannot be opened or written
    └── RowRefused                it takes everything but the row of one request
"""

from typing import TypeVar

_Error = TypeVar("_Error", bound=BaseException)


class GatewayError(Exception):
    """A request ends here: `message` goes to the client, in the dialect of the route it called."""

    status = 500
    kind = "api_error"

    def __init__(
        self, message: str, *, headers: tuple[tuple[str, str], ...] = (), why: str | None = None
    ) -> None:
        """`headers` go out with the answer (`retry-after`, `allow`). `why` is what logs are told in the place of the
        message, where a client is not to know as much."""
        super().__init__(message)
        self.message = message
        self.headers = headers
        self.why = message if why is None else why


class BadRequest(GatewayError):
    status, kind = 400, "invalid_request_error"


class ContextTooLong(BadRequest):
    """Clients know it by the words of their dialect, and shorten what was said."""


class Unauthenticated(GatewayError):
    status, kind = 401, "authentication_error"


class QuotaExceeded(GatewayError):
    status, kind = 402, "quota_exceeded"


class Forbidden(GatewayError):
    status, kind = 403, "permission_error"


class NotFound(GatewayError):
    status, kind = 404, "not_found_error"


class MethodNotAllowed(GatewayError):
    status, kind = 405, "invalid_request_error"


class BodyTimeout(GatewayError):
    status, kind = 408, "invalid_request_error"


class BodyTooLarge(GatewayError):
    status, kind = 413, "invalid_request_error"


class UnsupportedEncoding(GatewayError):
    status, kind = 415, "invalid_request_error"


class MisdirectedRequest(GatewayError):
    status, kind = 421, "invalid_request_error"


class HeadersTooLarge(GatewayError):
    status, kind = 431, "invalid_request_error"


class RateLimited(GatewayError):
    status, kind = 429, "rate_limit_error"


class InternalFault(GatewayError):
    status, kind = 500, "api_error"


class UpstreamFailed(GatewayError):
    status, kind = 502, "upstream_error"


class Unavailable(GatewayError):
    status, kind = 503, "overloaded_error"


class UpstreamTimeout(GatewayError):
    status, kind = 504, "timeout_error"


class LoopDetected(GatewayError):
    status, kind = 508, "invalid_request_error"


class UpstreamOverloaded(GatewayError):
    status, kind = 529, "overloaded_error"


class UpstreamFault(Exception):
    """One attempt failed. `reason` is ours, short, and holds nothing that the upstream said."""

    timed_out = False
    maybe_billed = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ConnectFailed(UpstreamFault):
    pass


class ConnectTimedOut(UpstreamFault):
    timed_out = True


class FirstByteTimedOut(UpstreamFault):
    timed_out = True
    maybe_billed = True


class IdleTimedOut(UpstreamFault):
    timed_out = True
    maybe_billed = True


class AnswerBroken(UpstreamFault):
    maybe_billed = True


class CredentialRefused(UpstreamFault):
    pass


class AnswerRefused(UpstreamFault):
    pass


class ConfigError(Exception):
    """The configuration cannot be used. `problems` are ready to print, one line each, without secrets."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.problems = problems


class StoreError(Exception):
    """The usage store cannot be opened, read or written; the message says what to do next."""


class RowRefused(StoreError):
    """The end of a request was written, and what it cost is spent, without its row, which the store refuses."""


def without_frames(error: _Error) -> _Error:
    """The error, to be kept by a frame that it went through: the tracebacks of it and of what it came of are taken
    off. They hold their frames, and these (from Python 3.12 on) those that called them: a circle, which would keep
    all of a request until garbage is collected."""
    seen: BaseException | None = error
    known: set[int] = set()
    while seen is not None and id(seen) not in known:  # what is raised again may have come of itself
        known.add(id(seen))
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    return error
