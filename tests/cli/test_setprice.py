"""`gproxy models price` from its arguments to the file; what becomes of tiers is `config/tiers.py`'s."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import MINIMAL, Run

MODEL = '\n# the house model\n[[models]]\nprovider_name = "local"\nmodel_id = "some"  # small\n'
INPUT, OUTPUT, UP_TO = "price_input_tokens", "price_output_tokens", "input_tokens_up_to"


@pytest.fixture(autouse=True)
def _with_a_model(file: Path) -> None:
    file.write_text(MINIMAL + MODEL)


def tiers(file: Path, row: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(file.read_text())["models"][row]["price_tiers"]
    return found


def test_a_price_is_set_shown_and_in_force(run: Run, file: Path) -> None:
    flags = ("--input", "0.25", "--output", "2", "--cache-read", "0.025")
    ran = run("models", "price", "local/some", *flags)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == (
        "local/some costs, in USD per million tokens: input 0.25, output 2, cache read 0.025.\n"
    )
    assert file.read_text().startswith(MINIMAL + MODEL)
    (shown,) = json.loads(run("models", "prices", "local/some", "--json").out)
    assert shown["source"] == "config"
    assert [shown["tiers"][0][name] for name in ("input", "output", "cache_read", "cache_write")] == [
        *(0.25, 2.0, 0.025, 0.25)
    ]
    assert run("check").code == 0


def test_longer_requests_may_cost_more(run: Run, file: Path) -> None:
    assert run("models", "price", "local/some", "--input", "1", "--output", "2").code == 0
    longer = ("models", "price", "local/some", "--above", "200000", "--input", "2", "--output", "4")
    assert "costs above 200000 tokens of input, " in run(*longer).err
    assert tiers(file) == [{INPUT: 1.0, OUTPUT: 2.0, UP_TO: 200000}, {INPUT: 2.0, OUTPUT: 4.0}]
    assert run("models", "price", "local/some", "--above", "200000", "--input", "3").code == 0
    assert tiers(file)[1] == {INPUT: 3.0, OUTPUT: 4.0}


def test_what_lengths_a_price_is_for_is_said(run: Run, file: Path) -> None:
    told = []
    for above in ("", "200", "100", "300", ""):
        length = ("--above", above) if above else ()
        told.append(run("models", "price", "local/some", "--input", "1", "--output", "2", *length).err)
    assert [each.removeprefix("local/some costs").partition(", in USD")[0] for each in told] == [
        "",
        " above 200 tokens of input",
        " above 100 and up to 200 tokens of input",
        " above 300 tokens of input",
        " up to 100 tokens of input",
    ]


def test_json_has_the_tiers_as_the_file_has_them(run: Run, file: Path) -> None:
    argv = ("models", "price", "local/new", "--input", "0", "--output", "0", "--add", "--json")
    ran = run(*argv)
    assert json.loads(ran.out) == {
        "model": "local/new",
        "price_each_call": None,
        "price_tiers": [{INPUT: 0.0, OUTPUT: 0.0}],
    }
    assert tiers(file, 1) == [{INPUT: 0.0, OUTPUT: 0.0}]


def test_a_cache_price_is_taken_out_by_none(run: Run, file: Path) -> None:
    flags = ("--input", "1", "--output", "2", "--cache-write-1h", "3")
    assert run("models", "price", "local/some", *flags).code == 0
    ran = run("models", "price", "local/some", "--cache-write-1h", "none")
    assert ran.err.endswith("cache write 1h none of its own.\n")
    assert tiers(file) == [{INPUT: 1.0, OUTPUT: 2.0}]


def test_a_call_may_cost_beside_its_tokens_or_instead(run: Run, file: Path) -> None:
    ran = run("models", "price", "local/some", "--each-call", "0.04")
    assert (ran.code, ran.err) == (
        0,
        "Each call of local/some costs 0.04 USD and its tokens nothing: --input and --output price them too.\n",
    )
    assert file.read_text() == MINIMAL + MODEL + "price_each_call = 0.04\n"
    (shown,) = json.loads(run("models", "prices", "local/some", "--json").out)
    assert (shown["source"], shown["each_call_usd"]) == ("config", 0.04)
    both = run(
        "models", "price", "local/some", "--input", "1", "--output", "2", "--each-call", "0.05", "--json"
    )
    told = {"model": "local/some", "price_each_call": 0.05, "price_tiers": [{INPUT: 1.0, OUTPUT: 2.0}]}
    assert json.loads(both.out) == told
    ran = run("models", "price", "local/some", "--each-call", "none")
    assert ran.err == "Each call of local/some costs nothing beside its tokens.\n"
    assert "price_each_call" not in file.read_text()
    assert tiers(file) == [{INPUT: 1.0, OUTPUT: 2.0}]


def test_a_model_that_costs_by_the_call_alone_may_be_added(run: Run, file: Path) -> None:
    assert run("models", "price", "local/images", "--each-call", "0", "--add").code == 0
    row = tomllib.loads(file.read_text())["models"][1]
    assert row == {"provider_name": "local", "model_id": "images", "price_each_call": 0.0}
    assert run("check").code == 0


@pytest.mark.parametrize(
    "argv",
    [
        ("local/some",),
        ("local/some", "--each-call", "-1"),
        ("local/some", "--each-call", "0.04", "--above", "100"),
        ("local/some", "--add"),
        ("some", "--input", "1", "--output", "1"),
        ("local/some", "--input", "-1"),
        ("local/some", "--input", "nan"),
        ("local/some", "--input", "none"),
        ("local/some", "--output", "1e99"),
        ("local/some", "--input", "1", "--above", "0"),
    ],
)
def test_what_is_no_price_is_wrong_usage(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    assert run("models", "price", *argv).code == 2
    assert file.read_text() == MINIMAL + MODEL


def test_that_a_provider_serves_nothing_else_from_now_on_is_said(run: Run, file: Path) -> None:
    file.write_text(MINIMAL)
    argv = ("--input", "1", "--output", "1", "--add", "--json")
    first, second = (run("models", "price", f"local/{name}", *argv) for name in ("one", "two"))
    assert first.err == "From now on local serves this model alone: --add the others that it is to serve.\n"
    assert (json.loads(first.out)["model"], second.err) == ("local/one", "")


def test_a_model_that_the_file_does_not_have_is_left_out_of_it(run: Run, file: Path) -> None:
    ran = run("models", "price", "local/new", "--input", "1", "--output", "1")
    assert (ran.code, ran.out) == (1, "")
    assert "--add puts it there" in ran.err
    assert file.read_text() == MINIMAL + MODEL
