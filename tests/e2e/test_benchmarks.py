"""Every benchmark can be started, by its path and as a module; what they measure is told by their own first lines."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.gateway import ROOT

FOLDER = Path(ROOT) / "benchmarks"
SCRIPTS = [
    path.stem
    for path in sorted(FOLDER.glob("*.py"))
    # The baseline is started by the comparison, with a Python that has uvicorn.
    if '__name__ == "__main__"' in path.read_text() and path.stem != "baseline"
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_answers_help_by_its_path_and_as_a_module(name: str, tmp_path: Path) -> None:
    for command, folder in (([f"{FOLDER}/{name}.py"], tmp_path), (["-m", f"benchmarks.{name}"], Path(ROOT))):
        done = subprocess.run(
            [sys.executable, *command, "--help"], cwd=folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize(
    ("options", "written"),
    [((), "RESULTS.md"), (("--quick",), "None"), (("--quick", "--output", "x.md"), "x.md")],
)
def test_a_quick_comparison_writes_no_file_unless_it_is_told_to(
    options: tuple[str, ...], written: str
) -> None:
    program = "import compare; print(compare._arguments().output)"
    command = [sys.executable, "-c", program, *options]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=60, check=True)
    assert Path(done.stdout.strip()).name == written


def test_the_page_names_every_benchmark() -> None:
    page = (FOLDER / "README.md").read_text()
    assert [name for name in SCRIPTS if f"`{name}.py`" not in page] == []
