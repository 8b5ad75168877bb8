"""Fixtures that many rooms share: one upstream and one served gateway for the whole run."""

from collections.abc import Iterator

import pytest

from tests.kit.gateway import Gateway
from tests.kit.settings import everything
from tests.kit.upstream import Upstream


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Shared: a test must leave its configuration as it was, and look only at models of its own."""
    with Gateway(tmp_path_factory.mktemp("gateway"), everything(upstream.url)) as gateway:
        yield gateway
