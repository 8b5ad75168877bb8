#!/usr/bin/env python3
"""Sets up a virtual environment from the hash-checked lock files and runs the demo, or every check, in it.

    python3 scripts/dev.py demo     serve the offline demo
    python3 scripts/dev.py setup    only set up what `check` and the benchmarks need
    python3 scripts/dev.py check    ruff, mypy and the tests (some nine minutes): what has to pass for a change
    python3 scripts/dev.py lock     write the lock files anew (needs `uv`)
    python3 scripts/dev.py audit    look what is locked up in PyPI's list of known faults (needs the network)

Needs Python 3.11 or later and nothing else. The environment is `.venv` beside the README, or `GPROXY_VENV`.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("GPROXY_VENV", ROOT / ".venv"))
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LOCKS = {
    "demo": "requirements.lock",
    "setup": "requirements-dev.lock",
    "check": "requirements-dev.lock",
}


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in (*LOCKS, "lock", "audit"):
        print(__doc__, file=sys.stderr)
        return 2
    if sys.version_info < (3, 11):  # noqa: UP036 - run by whatever Python there is
        print("gproxy needs Python 3.11 or later.", file=sys.stderr)
        return 1
    task = arguments[0]
    if task in ("lock", "audit"):
        return lock() if task == "lock" else audit()
    prepare(LOCKS[task])
    if task == "setup":
        return 0
    return demo() if task == "demo" else check()


def prepare(lock_file: str) -> None:
    """Make the environment hold exactly what the lock file says; nothing is done if it already does."""
    wanted = ["requirements-build.lock", lock_file]
    files = [ROOT / name for name in (*wanted, "pyproject.toml")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = VENV / f"installed-{lock_file}"
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"Setting up {VENV} from {lock_file} …", file=sys.stderr, flush=True)
    venv.create(VENV, with_pip=True)
    pip = [str(BIN / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    for name in wanted:
        run([*pip, "--require-hashes", "-r", str(ROOT / name)])
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    stamp.write_text(digest)


def demo() -> int:
    command = [str(BIN / "gproxy"), "serve", "--demo"]
    if os.name == "nt":
        return subprocess.run(command, check=False).returncode
    os.execv(command[0], command)


def check() -> int:
    python = str(BIN / "python")
    # One more than there are processors: tests of time wait more than they work.
    workers = str((os.cpu_count() or 1) + 1)
    steps: list[list[str]] = [
        [python, "-m", "ruff", "format", "--check", "."],
        [python, "-m", "ruff", "check", "."],
        [python, "-m", "mypy"],
        # In the order they stand: by the number of their tests, the longest of all would come last and alone.
        [python, "-m", "pytest", "-q", "-n", workers, "--dist", "loadfile", "--no-loadscope-reorder"],
    ]
    # Every server that a test starts would else compile all of it anew.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for step in steps:
        print("+", " ".join(step[1:]), flush=True)
        code = subprocess.run(step, cwd=ROOT, check=False, env=environment).returncode
        if code:
            return code
    return 0


def lock() -> int:
    base = ["uv", "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11"]
    base += ["--generate-hashes", "--no-header", "--quiet", "--upgrade"]
    run([*base, "--output-file", "requirements.lock"])
    run([*base, "--group", "dev", "--output-file", "requirements-dev.lock"])
    group = ["uv", "pip", "compile", "--group", "build", *base[4:]]
    run([*group, "--output-file", "requirements-build.lock"])
    return 0


def audit() -> int:
    """`pip-audit`, in an environment of its own: what it brings is none of ours. 0: nothing is known against us."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / BIN.name / "python")
        run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "pip-audit"])
        command = [python, "-m", "pip_audit", "--strict", "--require-hashes", "--disable-pip"]
        codes = [
            subprocess.run([*command, "--requirement", name], cwd=ROOT, check=False).returncode
            for name in ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
        ]
    return max(codes)


def run(command: Sequence[str]) -> None:
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
