"""Holds the layout of the house: who may import whom, how large things get, and that each module has its tests."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from gproxy.providers.catalog import CHANNELS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gproxy"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60

# A room may import itself and those named here; what is not a room is a module at the top of the package.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "values": set(),
    "config": {"errors", "values"},
    "protocols": {"config", "errors", "values"},
    "translate": {"protocols", "errors", "values"},
    "providers": {"config", "errors", "values"},
    "routing": {"config", "errors", "values"},
    "ledger": {"config", "errors", "values"},
    "server": {"routing", "providers", "protocols", "translate", "ledger", "config", "errors", "values"},
    "cli": {
        *("server", "routing", "providers", "protocols", "translate", "ledger", "config", "errors", "values"),
    },
}
BASE = {"console", "descriptors", "tasks"}
SERVER_ROOMS: dict[str, set[str]] = {
    **dict.fromkeys(BASE, BASE),
    "transport": BASE,
    "request": {*BASE, "transport"},
    "control": {*BASE, "transport", "request"},
    "engine": {*BASE, "transport", "request"},
    "app": {*BASE, "transport", "request", "control"},
    "process": {*BASE, "transport", "request", "control", "engine", "app"},
    "checks": {*BASE, "transport", "request", "control", "engine", "process"},
}
# Of `config`, the rooms below `server` may see what is served, and nothing that touches files or secrets.
SERVED_CONFIG = {"schema", "snapshot", "patterns"}
PURE_ROOMS = {"protocols", "translate", "providers", "routing"}
IMPURE = {
    "aiohttp",
    "httpx",
    "quart",
    "hypercorn",
    "asyncio",
    "sqlite3",
    "sqlite_utils",
    "time",
    "logging",
    "keyring",
    "os",
    "pathlib",
    "socket",
    "subprocess",
    "threading",
    "tempfile",
}
ONLY_IN = {
    "httpx": {
        "server/request/upstream.py",
        *(f"server/transport/{name}.py" for name in ("h1client", "h1connect", "h1exchange")),
    },
    "aiohttp": set(),
    "tomlkit": {"config/document.py"},
    "keyring": {"config/secrets.py"},
    "google": {"server/request/tokens.py"},
}
# Words that are a channel's name and also a dialect's: its own name, and a kind of tool.
DIALECT_WORDS = {"gemini", "custom"}


def name_of(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def dotted(module: Path) -> str:
    return ".".join(("gproxy", *module.relative_to(PACKAGE).with_suffix("").parts))


def room_of(module: Path) -> str:
    first = module.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@cache
def tree_of(module: Path) -> ast.Module:
    return ast.parse(module.read_text("utf-8"))


def imports_of(module: Path) -> Iterator[tuple[str, str]]:
    """(module imported, name taken from it or "") of every import, those inside functions too."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written from the package's root"
            for alias in node.names:
                yield node.module or "", alias.name


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_room_imports_only_the_rooms_below_it(module: Path) -> None:
    room = room_of(module)
    if room in ("__init__", "__main__"):
        return
    for source, name in imports_of(module):
        parts = source.split(".")
        if parts[0] != "gproxy":
            continue
        target = parts[1] if len(parts) > 1 else name
        if target == "__version__":
            continue
        assert target == room or target in ROOMS[room], f"{name_of(module)} imports gproxy.{target}"
        if target == "config" and room in PURE_ROOMS | {"ledger"}:
            inner = parts[2] if len(parts) > 2 else name
            assert inner in SERVED_CONFIG, f"{name_of(module)} imports gproxy.config.{inner}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """What is imported for types alone counts as well."""
    modules = {dotted(module) for module in MODULES}
    imports = TopologicalSorter[str]()
    for module in MODULES:
        found = {it for source, name in imports_of(module) for it in (source, f"{source}.{name}")}
        imports.add(dotted(module), *(found & modules))
    imports.prepare()  # a CycleError names them


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) == "server"], ids=name_of)
def test_a_room_of_the_server_imports_only_the_rooms_below_it(module: Path) -> None:
    room = module.relative_to(PACKAGE / "server").parts[0].removesuffix(".py")
    for source, name in imports_of(module):
        if source.startswith("gproxy.server"):
            target = source.split(".")[2] if source.count(".") > 1 else name
            assert target == room or target in SERVER_ROOMS[room], f"{name_of(module)} imports {target}"


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) in PURE_ROOMS], ids=name_of)
def test_a_pure_room_touches_no_clock_file_or_socket(module: Path) -> None:
    for source, _ in imports_of(module):
        assert source.split(".")[0] not in IMPURE, f"{name_of(module)} imports {source}"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_library_is_used_in_its_own_module_alone(module: Path) -> None:
    for source, _ in imports_of(module):
        library = source.split(".")[0]
        assert name_of(module) in ONLY_IN.get(library, {name_of(module)}), f"{name_of(module)}: {library}"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_modules_and_functions_stay_readable(module: Path) -> None:
    lines = len(module.read_text("utf-8").splitlines())
    assert lines <= MAX_MODULE_LINES, f"{name_of(module)} has {lines} lines"
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{name_of(module)}: {node.name} has {length} lines"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_says_what_it_owns(module: Path) -> None:
    assert ast.get_docstring(tree_of(module)), f"{name_of(module)} has no docstring"


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) != "providers"], ids=name_of)
def test_no_provider_is_named_outside_its_room(module: Path) -> None:
    names = set(CHANNELS) - DIALECT_WORDS
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value not in names, f"{name_of(module)}:{node.lineno} names {node.value}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.name != "__init__.py"], ids=name_of)
def test_a_module_has_its_test_module(module: Path) -> None:
    if module.name == "__main__.py":
        return
    relative = module.relative_to(PACKAGE)
    mirror = ROOT / "tests" / relative.parent / f"test_{relative.name}"
    assert mirror.exists(), f"{name_of(module)} has no {mirror.relative_to(ROOT)}"
