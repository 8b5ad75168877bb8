from gproxy.cli.options import group


def test_a_group_shows_plain_help_and_plain_tracebacks() -> None:
    """Rich help would import rich at each start, and its tracebacks print the values of variables."""
    app = group("Things.")
    assert app.rich_markup_mode is None
    assert app.pretty_exceptions_enable is False
    assert app.info.help == "Things."
