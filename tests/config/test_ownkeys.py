"""What a client of gproxy's is known by goes to no provider, wherever the file says that the provider's key is."""

import pytest

from gproxy.config.keys import hash_key, make_key
from gproxy.config.load import load
from gproxy.config.ownkeys import Reader
from gproxy.errors import ConfigError
from gproxy.providers.catalog import CHANNELS

CHOSEN = "sk-chosen-by-alice"
RELAY = 'settings = { base_url = "https://another.example" }\n'


def read(secret: str, *, settings: str = "", keys: str = f'label = "pc"\napi_key = "{CHOSEN}"') -> str:
    text = (
        f'[[providers]]\nname = "up"\nchannel = "openai"\n{settings}credentials = [{{ env = "KEY" }}]\n\n'
        f'[[users]]\nname = "alice"\n[[users.keys]]\n{keys}\n'
    )
    config, _ = load(text.encode(), channels=CHANNELS)
    assert config is not None
    (row,) = config.providers
    return Reader(config, {"KEY": secret}).read(row, row.credentials[0])


@pytest.mark.parametrize("settings", ["", RELAY])
@pytest.mark.parametrize("more", ["", "enabled = false\n"])
@pytest.mark.parametrize("hashed", [True, False])
def test_a_key_of_the_file_is_refused_wherever_it_would_go(settings: str, more: str, hashed: bool) -> None:
    stored = f'api_key_hash = "{hash_key(CHOSEN)}"' if hashed else f'api_key = "{CHOSEN}"'
    with pytest.raises(ConfigError) as raised:
        read(CHOSEN, settings=settings, keys=f'label = "pc"\n{more}{stored}')
    told = raised.value.message
    assert told.startswith("the environment variable KEY holds a key of gproxy's own (alice/pc): ")
    assert CHOSEN not in told


def test_one_that_another_gproxy_made_goes_to_that_alone() -> None:
    key = make_key()
    assert read(key, settings=RELAY) == key
    with pytest.raises(ConfigError, match="KEY holds a key that a gproxy made: ") as raised:
        read(key)
    assert key not in raised.value.message


@pytest.mark.parametrize("secret", ["sk-proj-1", "op_" + "a" * 40, "op_" + "a" * 43])
def test_any_other_is_read(secret: str) -> None:
    assert read(secret) == secret


def test_a_word_that_the_file_gives_as_a_name_as_well_is_no_secret() -> None:
    """Servers on the same machine take any word for a key."""
    keys = 'api_key = "local-model"\n[[models]]\nprovider_name = "up"\nmodel_id = "local-model"'
    assert read("local-model", settings=RELAY, keys=keys) == "local-model"
