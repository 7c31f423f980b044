"""`se-server`, with Python's own setting of the garbage collector: `python -m bench.load.targets.collector_target WAY`.

`tuned` is the product as it is; in `untuned` the workers keep Python's setting of the collector. The other arguments
are those of `se-server`.
"""

from __future__ import annotations

import sys

from se_server.cli.server import main
from se_server.server.worker import worker

__all__ = ["WAYS"]

WAYS = ("untuned", "tuned")

if __name__ == "__main__":
    if sys.argv.pop(1) == "untuned":
        worker.tune_collector = lambda: None
    main()
