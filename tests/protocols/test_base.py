"""That every operation fills the contract of `Protocol` with values that the rest of gproxy can rely on."""

import pytest

from gproxy.config.schema import PROTOCOLS as NAMES
from gproxy.protocols.base import Protocol
from gproxy.protocols.registry import PROTOCOLS

each = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.operation)


def test_operations_and_paths_are_unique() -> None:
    operations = [protocol.operation for protocol in PROTOCOLS]
    paths = [path for protocol in PROTOCOLS for path in protocol.paths]
    assert len(set(operations)) == len(operations)
    assert len(set(paths)) == len(paths)


@each
def test_an_operation_is_carried_by_protocols_that_a_provider_can_speak(protocol: Protocol) -> None:
    assert protocol.carried_by
    assert protocol.carried_by <= set(NAMES)


@each
def test_paths_are_below_a_version_on_both_sides(protocol: Protocol) -> None:
    assert protocol.paths
    assert all(path.startswith(("/v1/", "/v1beta/")) for path in protocol.paths)
    assert protocol.upstream_path("some-model", "").startswith(("/v1/", "/v1beta/"))
