import pytest

from gproxy.config.load import load
from gproxy.providers.catalog import CHANNELS
from gproxy.server.checks.keyadvice import another_key


@pytest.mark.parametrize(
    ("credentials", "name", "advice"),
    [
        ('{ api_key = "sk-1" }', "up#1", "give it another key: `gproxy providers set-key up`"),
        ('{ keyring = "up" }', "up#1", "give it another key: `gproxy providers set-key up`"),
        (
            '{ keyring = "up" }, { api_key = "sk-1", label = "my team" }',
            "my team",
            "give it another key: `gproxy providers set-key up --label 'my team'`",
        ),
        ('{ env = "A_KEY" }', "up#1", "export another key as A_KEY where `gproxy serve` is started"),
        ("", "", "give it a key: `gproxy providers set-key up --env VARIABLE`, or --keyring or --literal"),
        (
            '{ env = "sk-put-here-by-mistake" }',
            "up#1",
            "give it another key: `gproxy providers set-key up --env VARIABLE`, or --keyring or --literal",
        ),
    ],
)
def test_what_is_advised_can_be_done_as_it_stands(credentials: str, name: str, advice: str) -> None:
    text = f'[[providers]]\nname = "up"\nchannel = "openai"\ncredentials = [{credentials}]\n'
    config, _ = load(text.encode(), channels=CHANNELS)
    assert config is not None
    assert another_key(config.providers[0], name) == advice
