"""The dialects that can be translated, by the name of their protocol.

Which of them a provider speaks is its channel's row.
"""

from collections.abc import Mapping
from types import MappingProxyType

from gproxy.translate import anthropic_messages, gemini, openai_chat, openai_responses
from gproxy.translate.base import Dialect

_ALL = (anthropic_messages.DIALECT, gemini.DIALECT, openai_chat.DIALECT, openai_responses.DIALECT)

DIALECTS: Mapping[str, Dialect] = MappingProxyType({dialect.name: dialect for dialect in _ALL})
"""Every dialect by name."""
