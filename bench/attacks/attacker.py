"""The process of one attack: `python -m bench.attacks.attacker NAME PORT TLS CONTROL SECONDS`, niced."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from contextlib import suppress

from bench.attacks.attackers import ATTACKS
from bench.attacks.wire import Address


async def _attack(name: str, address: Address, seconds: float) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(ATTACKS[name](address), seconds)


def main() -> None:
    name, port, tls, control, seconds = sys.argv[1:]
    os.nice(19)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        asyncio.run(_attack(name, Address(int(port), tls == "tls", control), float(seconds)))
    finally:
        os._exit(0)  # the connections end with the process


if __name__ == "__main__":
    main()
