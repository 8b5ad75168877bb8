"""Sockets, processes and the order of the stages. The only network I/O on the path of a request."""

import sys

# httpx brings a command line of its own, which imports rich, pygments and click: a tenth of a start. Without that
# module it is what it is without its extra `cli`. One who has imported it before keeps it.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # how Python marks what is not to be found
