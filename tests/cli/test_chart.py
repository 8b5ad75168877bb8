import io
import sys

import pytest

from gproxy.cli.chart import show_bars


def test_bars_are_as_long_as_what_they_stand_for(capsys: pytest.CaptureFixture[str]) -> None:
    show_bars([("large", 4.0), ("small", 1.0), ("free", 0.0), ("tiny", 0.000001)], "USD")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    large, small, free, tiny = (line.count("█") for line in lines)
    assert (large == pytest.approx(4 * small, abs=4), free, tiny) == (True, 0, 1)
    assert lines[0].endswith(" 4.000000 USD")


def test_a_long_name_is_cut_at_a_terminal_and_nothing_is_a_bar_of_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show_bars([], "USD")
    show_bars([("x" * 200, 0)], "requests")
    assert capsys.readouterr().out.startswith("x" * 200 + " ")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    show_bars([("x" * 200, 0)], "requests")
    (line,) = capsys.readouterr().out.splitlines()
    assert len(line) <= 80
    assert "█" not in line


def test_an_output_without_blocks_gets_plain_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    show_bars([("a", 2), ("b", 1)], "requests")
    sys.stdout.flush()
    assert raw.getvalue().startswith(b"a ####")


def test_what_is_unknown_is_no_zero(capsys: pytest.CaptureFixture[str]) -> None:
    show_bars([("large", 4.0), ("odd", None)], "USD")
    assert capsys.readouterr().out.splitlines()[1].split() == ["odd", "-", "USD"]
    show_bars([("some", 4.0), ("all", 1.0), ("none", None)], "USD", [True, False, True])
    told = [line.split()[-2] for line in capsys.readouterr().out.splitlines()]
    assert told == ["4.000000+", "1.000000", "-"]
