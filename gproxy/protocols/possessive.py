"""Regular expressions that repeat a group and give nothing back, for every Python that gproxy runs on.

A single character or set that is repeated so (`.*+`) needs none of this.
"""

import sys

_BY_ITSELF = sys.version_info >= (3, 11, 5)

MOST_TIMES = 20_000
"""More escapes than a text usually has, and 2 MB where each takes memory; on every Python, so that all do alike."""


def possessive(group: bytes, *, by_itself: bool = _BY_ITSELF) -> bytes:
    """`group` as often as it is there, but `MOST_TIMES`: what is behind those, the pattern has to be tried on again.

    Before Python 3.11.5 (Debian 12 has 3.11.2) a group that is repeated possessively may match half a time, or raise
    SystemError (python/cpython#106052). There it stands in an atomic group, which takes some 100 bytes each time that
    it matches: without a bound, an event of 16 MB that is nothing but escapes would take 1 GB.
    """
    return (b"(?:%b){0,%d}+" if by_itself else b"(?>(?:%b){0,%d})") % (group, MOST_TIMES)
