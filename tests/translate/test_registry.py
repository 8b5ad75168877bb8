"""Every dialect that can be translated is found by the name that its protocol has."""

from gproxy.protocols.registry import PROTOCOLS
from gproxy.translate.registry import DIALECTS


def test_a_dialect_has_the_name_of_a_protocol() -> None:
    names = {protocol.name for protocol in PROTOCOLS}
    for name, dialect in DIALECTS.items():
        assert name == dialect.name
        assert name in names
