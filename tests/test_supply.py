"""What is installed is what is in the tree, and nothing that is known to be unsafe; an import only imports."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gproxy"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

SAFE_FROM = {
    "click": "8.3.1",
    "flask": "3.1.3",
    "h11": "0.16.0",
    "h2": "4.4.1",
    "hpack": "4.2.0",
    "httpcore": "1.0.9",
    "httpx": "0.28.1",
    "hypercorn": "0.18.0",
    "idna": "3.7",
    "jinja2": "3.1.6",
    "keyring": "25.7.0",
    "pip": "26.2.1",
    "pysqlite3": "0.6.1",
    "quart": "0.22.0",
    "sqlite-utils": "4.2.1",
    "tomlkit": "0.15.2",
    "typer": "0.29.2",
    "werkzeug": "3.1.6",
}
"""The oldest version of each without a fault that is known and would reach us."""

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")

PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)((?: ; [^\\]+)?) \\$")

ONLY_IMPORTS = """
import importlib, pkgutil, sys
def watch(event, given):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        raise SystemExit(f"{event} {given}")
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "pty.spawn"):
        raise SystemExit(f"{event} {given}")
    if event == "open" and given[1] and set(given[1]) & set("wax+") and "__pycache__" not in str(given[0]):
        raise SystemExit(f"{event} {given}")
    if event in ("os.mkdir", "os.rename", "os.remove") and "__pycache__" not in str(given[0]):
        raise SystemExit(f"{event} {given}")
sys.addaudithook(watch)
import gproxy
names = [each.name for each in pkgutil.walk_packages(gproxy.__path__, "gproxy.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


RUNS_TEXT = {"eval", "exec", "compile", "__import__", "system", "popen", "getstatusoutput", "getoutput"}
UNPACKS_CODE = {"pickle", "marshal", "shelve", "dill", "code", "codeop"}


def pinned(lock: str) -> dict[str, str]:
    """Name and version of every package of a lock file."""
    found = [PINNED.match(line) for line in (ROOT / lock).read_text().splitlines()]
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def test_an_import_opens_no_connection_starts_no_process_and_writes_nothing() -> None:
    done = subprocess.run(
        (sys.executable, "-B", "-W", "error", "-c", ONLY_IMPORTS), cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 200


@pytest.mark.parametrize("name", SAFE_FROM)
def test_no_version_with_a_known_fault_can_be_installed(name: str) -> None:
    asked = {
        canonicalize_name(each.name): each for each in map(Requirement, PROJECT["project"]["dependencies"])
    }
    least = [Version(each.version) for each in asked[name].specifier if each.operator == ">="]
    assert least >= [Version(SAFE_FROM[name])]
    for lock in LOCKS[:2]:
        assert Version(pinned(lock)[name]) >= Version(SAFE_FROM[name])


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_has_each_package_at_one_version_by_its_hashes(lock: str) -> None:
    entry: list[str] = []
    entries: list[list[str]] = []
    for line in (ROOT / lock).read_text().splitlines():
        if not line.startswith((" ", "#")):
            entry = [line]
            entries.append(entry)
        elif line.strip().startswith("--hash"):
            entry.append(line.strip())
    names = [match[1] for first, *_ in entries if (match := PINNED.match(first))]
    assert len(names) == len(entries) == len(set(names))
    for first, *hashes in entries:
        assert hashes, first
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}( \\)?", each) for each in hashes), first


def test_what_is_needed_is_locked() -> None:
    groups = {
        LOCKS[0]: PROJECT["project"]["dependencies"],
        LOCKS[1]: [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]],
        LOCKS[2]: PROJECT["dependency-groups"]["build"],
    }
    for lock, asked in groups.items():
        found = pinned(lock)
        for each in map(Requirement, asked):
            name = canonicalize_name(each.name)
            assert each.specifier.contains(found[name]) or each.marker, f"{lock}: {each}"


def files_of(folder: Path) -> dict[str, bytes]:
    """What belongs to the package below a folder, by its path from there."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive, made as an installer makes them."""
    folder = tmp_path_factory.mktemp("built")
    program = (
        f"from hatchling import build; build.build_wheel({str(folder)!r}); build.build_sdist({str(folder)!r})"
    )
    subprocess.run((sys.executable, "-c", program), cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_wheel_is_the_tree(built: Path) -> None:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        packed = {name: wheel.read(name) for name in wheel.namelist()}
    about = {name for name in packed if ".dist-info/" in name}
    modules = {name.removeprefix("gproxy/"): data for name, data in packed.items() if name not in about}
    assert modules == files_of(PACKAGE)
    assert "py.typed" in modules
    assert {name.partition("/")[2] for name in about} == {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"),
    }


def test_the_source_archive_is_the_tree_and_holds_nobody_s_configuration(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    packed: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            assert member.isfile(), member.name
            opened = archive.extractfile(member)
            assert opened is not None
            packed[member.name.partition("/")[2]] = opened.read()
    modules = {
        name.removeprefix("gproxy/"): data for name, data in packed.items() if name.startswith("gproxy/")
    }
    assert modules == files_of(PACKAGE)
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "gproxy.toml.example", *LOCKS):
        assert packed[name] == (ROOT / name).read_bytes()
    assert "gproxy.toml" not in packed
    assert not [name for name in packed if name.startswith(("data/", ".env", ".venv")) or ".db" in name]


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_runs_text_as_code_or_by_a_shell(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            owner = called.value if isinstance(called, ast.Attribute) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if owner is None or (
                isinstance(owner, ast.Name) and owner.id in ("builtins", "os", "subprocess")
            ):
                assert name not in RUNS_TEXT, f"{module}:{node.lineno}"
            assert all(each.arg != "shell" for each in node.keywords), f"{module}:{node.lineno}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            )
            assert not UNPACKS_CODE.intersection(name.partition(".")[0] for name in names), str(module)
