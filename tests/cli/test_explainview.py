"""Parts of the picture that `test_explain.py` does not come by."""

from typing import Any

import pytest

from gproxy.cli.explainview import show

FOUND: dict[str, Any] = {
    "model": "m",
    "user": "u",
    "key": "k",
    "error": None,
    "alias": None,
    "strategy": None,
    "targets": [{"target": "p/m", "used": True, "why_not": "", "speaks": ["gemini"], "translated_to": ""}],
    "attempts": [],
    "permissions": [],
    "charged": "p/m",
    "limits": [],
    "quotas": [],
    "price": None,
}


def test_what_there_is_none_of_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    show(FOUND)
    out = capsys.readouterr().out
    assert out.startswith("m for u, key k\n")
    for text in (
        "none: nothing is allowed",
        "limits on p/m",
        "price of p/m is unknown",
        "`gproxy models price p/m --input",
    ):
        assert text in out


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show(FOUND | {"model": "[red]x[/]"})
    assert capsys.readouterr().out.startswith("[red]x[/] for u")


def test_a_refused_name_has_no_branches(capsys: pytest.CaptureFixture[str]) -> None:
    show(FOUND | {"targets": [], "status": 404, "error": "There is no m."})
    assert capsys.readouterr().out.splitlines()[1:] == ["└── refused with 404: There is no m."]


def test_a_rule_that_does_not_apply_and_a_held_quota_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    limit = {"of": "user", "pattern": "*", "applies": False, "bound": "rpm", "limit": 6, "left": 6}
    quota = {"of": "key", "period": "total", "quota_usd": 2.0, "held_usd": 0.5, "left_usd": 0.0}
    show(FOUND | {"limits": [limit], "quotas": [quota]})
    out = capsys.readouterr().out
    assert "rpm, user's *: does not apply" in out
    assert "quota, key's, total: 0.000000 of 2.000000 USD left, 0.500000 held" in out
