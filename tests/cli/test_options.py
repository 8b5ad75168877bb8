from tests.cli.reference import commands


def test_an_option_that_many_share_is_told_the_same_everywhere() -> None:
    told: dict[str, set[str]] = {"--config": set(), "--json": set(), "--url": set()}
    for _, command in commands():
        for param in command.params:
            for name in set(param.opts) & set(told):
                told[name].add(param.help)
    assert all(len(helps) == 1 for helps in told.values())
