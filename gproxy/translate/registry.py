"""The dialects that can be translated, by the name of their protocol.

Which of them a provider speaks is its channel's row.
"""

from collections.abc import Mapping
from types import MappingProxyType

from gproxy.translate.base import Dialect

DIALECTS: Mapping[str, Dialect] = MappingProxyType({})
"""Every dialect by name."""
