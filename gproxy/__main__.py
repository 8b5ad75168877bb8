"""Makes `python -m gproxy` the same as `gproxy`. Holds nothing else."""

import sys

from gproxy.cli.main import main

sys.exit(main())
