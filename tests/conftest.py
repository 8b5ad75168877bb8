"""Fixtures that many rooms share: one upstream and one served gateway for the whole run, and the engine it serves by.

Gateways are served by the fast HTTP/1.1 engine, tests marked `both_engines` by Hypercorn's own as well. With
`GPROXY_HTTP_ENGINE=hypercorn` in the environment every other test is served by that, too: together with a run without
it, both engines have passed everything.
"""

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.gateway import Gateway
from tests.kit.settings import everything
from tests.kit.upstream import Upstream

# How long an example takes says how busy the machine is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Nothing of what is collected goes before the run does: to look for what does is a fifth of the time that it takes.
gc.disable()

# The processes under test start as installed code does, compiled once: it is a third of the time that they take.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Nor do they inherit signals to ignore, as what nohup or & starts does. A handler is not inherited: by one that does
# nothing the run itself goes on ignoring them.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def pytest_collection_finish() -> None:
    """The tests themselves, which are many, are not looked at by every full collection in one of them."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("both_engines"):
        # None: as for tests without the mark, so that they share their gateway.
        engines, ids = [None, "hypercorn"], ["fast", "hypercorn"]
        metafunc.parametrize("http_engine", engines, ids=ids, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def http_engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """What every gateway is served by that is started while it is in force."""
    engine: str | None = getattr(request, "param", None)
    with pytest.MonkeyPatch.context() as patch:
        if engine is not None:
            patch.setenv("GPROXY_HTTP_ENGINE", engine)
        yield


@pytest.fixture(scope="session")
def gateway(
    upstream: Upstream, http_engine: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Shared: a test must leave its configuration as it was, and look only at models of its own."""
    with Gateway(tmp_path_factory.mktemp("gateway"), everything(upstream.url)) as gateway:
        yield gateway
