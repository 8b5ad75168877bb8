"""What was left out is told in a header that nothing a client sends can break."""

from hypothesis import given
from hypothesis import strategies as st

from gproxy.translate.exchange import untranslated


def test_what_was_lost_is_named_in_order() -> None:
    assert (
        untranslated(frozenset({"seed", "logit_bias", "messages[].name"}))
        == "logit_bias, messages[].name, seed"
    )
    assert untranslated(frozenset()) == ""


@given(st.frozensets(st.text()))
def test_names_that_a_client_chose_cannot_break_the_header(names: frozenset[str]) -> None:
    value = untranslated(names)
    assert value.isascii()
    assert value.isprintable()
    assert len(value) < 4096


def test_very_many_names_are_counted() -> None:
    assert untranslated(frozenset(map(str, range(100)))).endswith(", and_68_more")
