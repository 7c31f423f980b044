"""`python -m se_server`: the command `se-server`, with the interpreter of one's choice."""

from __future__ import annotations

import sys

from se_server.cli.server import main

if __name__ == "__main__":
    sys.exit(main())
