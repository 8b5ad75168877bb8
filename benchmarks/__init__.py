"""Makes `python -m benchmarks.NAME` find what its neighbours share, as `python benchmarks/NAME.py` does by itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
