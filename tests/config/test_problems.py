"""A problem is one line that says where, what and what instead."""

import pytest

from gproxy.config.problems import Problem, Problems, render_path, suggestion


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (
            Problem("error", 12, "providers[0].channel", 'unknown channel "x"', 'did you mean "y"?'),
            'gproxy.toml:12: error: providers[0].channel: unknown channel "x"; did you mean "y"?',
        ),
        (
            Problem("error", 0, "--port", "must be a whole number"),
            "error: --port: must be a whole number",
        ),
        (Problem("warning", 0, "", "others could read it"), "gproxy.toml: warning: others could read it"),
        (Problem("error", 3, "", "is not TOML"), "gproxy.toml:3: error: is not TOML"),
    ],
)
def test_rendering(problem: Problem, line: str) -> None:
    assert problem.render("gproxy.toml") == line


@pytest.mark.parametrize(
    ("line", "path", "place"),
    [
        (261, "permissions[8].provider_name", "gproxy.toml:261: permissions[8].provider_name"),
        (3, "", "gproxy.toml:3"),
        (0, "GPROXY_PORT", "gproxy.toml: GPROXY_PORT"),
        (0, "", "gproxy.toml"),
    ],
)
def test_its_place_says_nothing_of_what_stands_there(line: int, path: str, place: str) -> None:
    problem = Problem("error", line, path, 'there is no provider "aot"', 'did you mean "ant"?')
    assert problem.place("gproxy.toml") == place


def test_a_path_is_written_as_people_write_it() -> None:
    assert render_path(("providers", 0, "settings", "base_url")) == "providers[0].settings.base_url"
    assert render_path(("global",)) == "global"


def test_what_has_no_line_of_its_own_is_placed_at_the_table_around_it() -> None:
    problems = Problems({("providers", 0): 4})
    assert problems.line(("providers", 0, "name")) == 4
    assert problems.line(("users", 0)) == 0


def test_an_error_counts_for_the_tables_around_it_and_for_no_other() -> None:
    problems = Problems({})
    problems.warn(("rows", 1), "odd")
    problems.error(("rows", 10, "label"), "wrong")
    problems.error(("rows", 2, "env"), "wrong")
    problems.error(("rows", 3), "wrong")
    problems.error(("rows", 4, "models", 0), "wrong")
    noted = [problems.has_error(("rows", n), besides={"label", "models"}) for n in (1, 10, 2, 3, 4)]
    assert noted == [False, False, True, True, False]


def test_only_a_near_word_is_suggested() -> None:
    assert suggestion("prot", ["port", "host"]) == 'did you mean "port"?'
    assert suggestion("zebra", ["port", "host"]) == ""
