"""An answer as deltas, put together again, is the same answer."""

import pytest
from hypothesis import given, settings

from gproxy.errors import AnswerBroken
from gproxy.translate.assembly import answer_of, deltas_of
from gproxy.translate.model import Answer, Finished
from tests.translate.conversations import answers
from tests.translate.grammar import check_deltas


@settings(deadline=None)
@given(answers())
def test_an_answer_comes_back_out_of_its_deltas(answer: Answer) -> None:
    deltas = list(deltas_of(answer))
    check_deltas(deltas)
    assert answer_of(deltas) == answer


@settings(deadline=None)
@given(answers())
def test_a_stream_without_its_end_is_no_answer(answer: Answer) -> None:
    cut = [delta for delta in deltas_of(answer) if not isinstance(delta, Finished)]
    with pytest.raises(AnswerBroken):
        answer_of(cut)
