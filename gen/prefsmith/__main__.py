"""`python -m prefsmith` is the command `prefsmith`."""

from __future__ import annotations

import sys

from prefsmith.cli import main

if __name__ == "__main__":
    sys.exit(main())
