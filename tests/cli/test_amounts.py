from decimal import Decimal

import pytest
import typer

from gproxy.cli import amounts


@pytest.mark.parametrize("text", ["20", "0.000000001", "1e3", " 5 ", "1000000000"])
def test_money_is_read_by_its_decimal_digits(text: str) -> None:
    assert amounts.dollars(text, "AMOUNT") == Decimal(text.strip())


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "sNaN", "1e-12", "1e10", "$5", "5 USD", "1,5"])
def test_what_is_no_amount_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no amount in USD above 0"):
        amounts.dollars(text, "AMOUNT")


def test_a_count_is_a_whole_number_that_the_file_can_hold() -> None:
    assert [amounts.count(text, "--rpm") for text in ("1", "060", str(2**63 - 1))] == [1, 60, 2**63 - 1]


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1e3", "٣", "²", "none", str(2**63), "9" * 5000])
def test_what_is_no_count_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no whole number above 0"):
        amounts.count(text, "--rpm")


@pytest.mark.parametrize("text", [str(2**63), "0" * 20 + "9"])
def test_a_count_that_is_too_large_is_told_what_may_be(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="above 0, and 9223372036854775807 at most"):
        amounts.count(text, "--rpm")


def test_an_amount_that_is_too_large_is_told_what_may_be() -> None:
    with pytest.raises(typer.BadParameter, match="above 0, and 1000000000 at most"):
        amounts.dollars("2000000000", "AMOUNT")
    with pytest.raises(typer.BadParameter, match=r"above 0$"):
        amounts.dollars("-1", "AMOUNT")


@pytest.mark.parametrize("text", ["0", "0.000000001", "1e9"])
def test_a_price_may_be_nothing(text: str) -> None:
    assert amounts.price(text, "--input") == Decimal(text)


@pytest.mark.parametrize("text", ["-0.1", "nan", "inf", "x", "", "1e10"])
def test_a_price_is_an_amount(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        amounts.price(text, "--input")
