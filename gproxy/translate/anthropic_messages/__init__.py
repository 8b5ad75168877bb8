"""Anthropic's Messages, in both directions."""

from gproxy.translate.anthropic_messages.answers import read_answer, write_answer
from gproxy.translate.anthropic_messages.read import read_request
from gproxy.translate.anthropic_messages.stream_in import MessagesReader
from gproxy.translate.anthropic_messages.stream_out import MessagesWriter
from gproxy.translate.anthropic_messages.write import write_request
from gproxy.translate.base import Dialect

DIALECT = Dialect(
    name="anthropic_messages",
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    reader=MessagesReader,
    writer=MessagesWriter,
)
