"""Regular expressions that repeat a group and give nothing back, for every Python that gproxy runs on.

A single character or set that is repeated so (`.*+`) needs none of this.
"""

import sys

_BY_ITSELF = sys.version_info >= (3, 11, 5)


def possessive(group: bytes, *, by_itself: bool = _BY_ITSELF) -> bytes:
    """`group` any number of times.

    Before Python 3.11.5 (Debian 12 has 3.11.2) a group that is repeated possessively may match half a time, or raise
    SystemError (python/cpython#106052). There it stands in an atomic group, which takes a fifth longer, and memory by
    how often it is there.
    """
    return (b"(?:%b)*+" if by_itself else b"(?>(?:%b)*)") % group
