"""OpenAI's chat completions, in both directions."""

from gproxy.translate.base import Dialect
from gproxy.translate.openai_chat.answers import read_answer, write_answer
from gproxy.translate.openai_chat.read import read_request
from gproxy.translate.openai_chat.stream_in import ChatReader
from gproxy.translate.openai_chat.stream_out import ChatWriter
from gproxy.translate.openai_chat.write import write_request

DIALECT = Dialect(
    name="openai_chat",
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    reader=ChatReader,
    writer=ChatWriter,
)
