import socket
from pathlib import Path

import pytest

from gproxy.config.schema import Global
from gproxy.errors import ConfigError
from gproxy.server.checks import local
from tests.kit.gateway import KEY, Gateway
from tests.server.transport.test_h1connect import certify

CONFIG = f"""\
[[providers]]
name = "demo"
channel = "demo"
[[users]]
name = "alice"
[[users.keys]]
label = "a"
api_key = "{KEY}"
[[permissions]]
user_name = "alice"
model_pattern = "*"
"""


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (Global(), "http://127.0.0.1:8787"),
        (Global(host="0.0.0.0", port=1), "http://127.0.0.1:1"),
        (Global(host="::", port=1), "http://[::1]:1"),
        (Global(host="box.lan", tls_certificate="c", tls_key="k"), "https://box.lan:8787"),
    ],
)
def test_an_address_is_one_that_can_be_called(settings: Global, url: str) -> None:
    assert local.address(settings) == url


def test_a_free_port_is_no_address() -> None:
    with pytest.raises(ConfigError, match="--url"):
        local.address(Global(port=0))


def test_a_server_is_reached_and_takes_its_keys(tmp_path: Path) -> None:
    with Gateway(tmp_path, CONFIG) as gateway:
        local.reach(gateway.url)
        local.wait_for_key(gateway.url, KEY)


def test_a_key_that_is_not_taken_is_told_in_time_and_not_asked_with_before_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_TAKES_UP_S", 0.5)
    with Gateway(tmp_path, CONFIG) as gateway, pytest.raises(ConfigError, match="does not take a new key"):
        local.wait_for_key(gateway.url, "op_other")
    assert gateway.stderr.count("GET /user/quota 401") == 1


def test_nobody_there_says_what_starts_a_server() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match="gproxy serve"):
            local.reach(f"http://127.0.0.1:{held.getsockname()[1]}")


def test_a_tls_server_is_trusted_by_its_own_certificate(tmp_path: Path) -> None:
    cert = certify(tmp_path)
    head = f'[global]\ntls_certificate = "{cert}"\ntls_key = "{cert}"\n'
    with Gateway(tmp_path, head + CONFIG) as gateway:
        assert gateway.url.startswith("https://")
        local.reach(gateway.url, cert)
        with pytest.raises(ConfigError, match="no server answers"):
            local.reach(gateway.url)
