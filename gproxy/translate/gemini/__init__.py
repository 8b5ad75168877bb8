"""Gemini's generateContent, in both directions."""

from gproxy.translate.base import Dialect
from gproxy.translate.gemini.answers import read_answer, write_answer
from gproxy.translate.gemini.read import read_request
from gproxy.translate.gemini.stream_in import GeminiReader
from gproxy.translate.gemini.stream_out import GeminiWriter
from gproxy.translate.gemini.write import write_request

DIALECT = Dialect(
    name="gemini",
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    reader=GeminiReader,
    writer=GeminiWriter,
)
