"""gproxy: the LLM API proxy for one machine. This file owns the version and imports nothing."""

__version__ = "0.1.0"
