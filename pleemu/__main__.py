"""``python -m pleemu`` and the command ``pleemu``."""

from __future__ import annotations

import sys

from pleemu.cli import main

if __name__ == "__main__":
    sys.exit(main())
