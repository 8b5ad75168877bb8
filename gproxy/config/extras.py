"""What not everybody needs and is not installed with gproxy: what to say where it is missing.

gproxy is in no index of packages, and where its checkout is nobody knows here: so the packages themselves are named.
"""

SERVICE_ACCOUNTS = ("google-auth", "cryptography")
YAML = ("pyyaml",)
"""The packages of each extra of `pyproject.toml`."""


def remedy(packages: tuple[str, ...]) -> str:
    """What to do where one of these packages is missing, as the end of a message."""
    return f"`pip install {' '.join(packages)}` in the environment that gproxy is in"
