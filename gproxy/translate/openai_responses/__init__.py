"""OpenAI's Responses, in both directions."""

from gproxy.translate.base import Dialect
from gproxy.translate.openai_responses.answers import read_answer, write_answer
from gproxy.translate.openai_responses.read import read_request
from gproxy.translate.openai_responses.stream_in import ResponsesReader
from gproxy.translate.openai_responses.stream_out import ResponsesWriter
from gproxy.translate.openai_responses.write import write_request

DIALECT = Dialect(
    name="openai_responses",
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    reader=ResponsesReader,
    writer=ResponsesWriter,
)
