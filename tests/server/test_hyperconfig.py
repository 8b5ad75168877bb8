"""What Hypercorn is told: nothing is left to a default that would cut a stream or say who serves."""

import socket
from dataclasses import replace
from pathlib import Path

from gproxy.config.schema import Global
from gproxy.server import hyperconfig


def test_no_default_of_its_own_ends_a_stream_or_a_connection(tmp_path: Path) -> None:
    listener = socket.socket()
    config = hyperconfig.made(Global(), listener, tmp_path)
    with socket.socket(fileno=int(config.bind[0].removeprefix("fd://"))):
        assert listener.fileno() == -1, "it is Hypercorn's now"
    assert config.read_timeout is None
    assert config.graceful_timeout >= 86_400
    assert config.keep_alive_timeout == 75
    assert config.keep_alive_max_requests > 10**12
    assert not config.include_server_header
    assert config.certfile is None


def test_tls_is_on_where_both_files_are_named_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    both = replace(Global(), tls_certificate="cert.pem", tls_key=str(tmp_path / "elsewhere" / "key.pem"))
    assert hyperconfig.tls_files(Global(), tmp_path) is None
    assert hyperconfig.tls_files(replace(both, tls_key=""), tmp_path) is None
    assert hyperconfig.tls_files(both, tmp_path) == (
        tmp_path / "cert.pem",
        tmp_path / "elsewhere" / "key.pem",
    )
