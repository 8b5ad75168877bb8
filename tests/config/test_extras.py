import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from gproxy.config.extras import SERVICE_ACCOUNTS, YAML, remedy

ROOT = Path(__file__).parents[2]


def test_the_packages_are_those_of_the_project_file() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra: tuple(Requirement(text).name for text in texts) for extra, texts in extras.items()}
    assert named == {"vertex": SERVICE_ACCOUNTS, "litellm": YAML}


def test_the_remedy_is_a_command_that_needs_no_index_of_ours() -> None:
    assert (
        remedy(SERVICE_ACCOUNTS)
        == "`pip install google-auth cryptography` in the environment that gproxy is in"
    )
