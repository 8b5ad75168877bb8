"""What a process has for all of its requests, for tests that open them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gproxy.ledger.writer import Writer
from gproxy.server.request.health import HealthBook
from gproxy.server.request.upstream import Upstream
from gproxy.server.tasks import Tasks
from tests.kit.fresh import begin
from tests.server.opening import Place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    writer, tasks, upstream = Writer(begin(tmp_path / "gproxy.db")), Tasks(), Upstream()
    writer.start()
    it = Place(upstream, HealthBook(writer), tasks, writer.path)
    yield it
    await tasks.drain(5)
    it.health.close()
    await upstream.close()
    writer.close()
