"""`python -m tests.providers --port 0`: the fake provider as a process; it prints its address as one line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import ssl
import sys

from tests.providers.script import Script
from tests.providers.server import BASES, running_provider


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.providers", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--script", default="{}", help="the default script, as JSON: the attributes of Script by name")
    parser.add_argument("--certificate", help="serve TLS with this PEM file")
    parser.add_argument("--key", help="the certificate's private key, if it is in a file of its own")
    options = parser.parse_args()
    try:
        script = Script.from_json(json.loads(options.script))
    except (TypeError, ValueError) as error:
        parser.error(f"--script: {error}")
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(script, options.port, context))
    else:
        uvloop.run(serve(script, options.port, context))


async def serve(script: Script, port: int, context: ssl.SSLContext | None) -> None:
    """Run the provider until the process is asked to end."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_provider(script, port=port, ssl_context=context) as provider:
        line = {"url": provider.origin, "bases": BASES, "pid": os.getpid()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        await stop.wait()


main()
