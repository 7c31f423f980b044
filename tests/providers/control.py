"""The provider as a process: paths by which another process scripts it and reads what it noted."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.providers.script import Json, Script

if TYPE_CHECKING:
    from tests.providers.server import Provider

PREFIX = "/_provider"
ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 30.0


def add_control(app: web.Application, provider: Provider) -> None:
    """Add the paths to an application.

    `PUT scripts/NAME` sets a script (`default`: of all requests that choose none), `GET requests` lists what came,
    `GET totals` counts it, `GET idle?timeout_s=N` answers once no response is open, `POST reset` forgets.
    """

    async def put_script(http: web.Request) -> web.Response:
        try:
            script = Script.from_json(await http.json())
        except (TypeError, ValueError) as error:
            return web.Response(status=400, text=str(error))
        name = http.match_info["name"]
        if name == "default":
            provider.default = script
        else:
            provider.scripts[name] = script
        return web.Response(status=204)

    async def requests(http: web.Request) -> web.Response:
        return web.json_response([request.as_json() for request in provider.requests])

    async def totals(http: web.Request) -> web.Response:
        return web.json_response(totals_of(provider))

    async def idle(http: web.Request) -> web.Response:
        try:
            await provider.idle(float(http.query.get("timeout_s", "20")))
        except AssertionError as error:
            return web.Response(status=504, text=str(error))
        return web.json_response(totals_of(provider))

    async def reset(http: web.Request) -> web.Response:
        provider.reset()
        return web.Response(status=204)

    app.router.add_put(f"{PREFIX}/scripts/{{name}}", put_script)
    app.router.add_get(f"{PREFIX}/requests", requests)
    app.router.add_get(f"{PREFIX}/totals", totals)
    app.router.add_get(f"{PREFIX}/idle", idle)
    app.router.add_post(f"{PREFIX}/reset", reset)


def totals_of(provider: Provider) -> Json:
    """Count what a provider noted."""
    requests = provider.requests
    return {
        "requests": len(requests),
        "open": len(provider.open),
        "connections": provider.connections,
        "tokens": provider.tokens,
        "disconnected": sum(request.disconnected_s is not None for request in requests),
        "lag_s": max((request.lag_s for request in requests), default=0.0),
    }


class RemoteProvider:
    """A provider in another process, by its control paths. All methods block."""

    def __init__(self, origin: str, bases: Json, pid: int) -> None:
        self.origin = origin
        self.pid = pid
        self._bases = bases

    def base_url(self, api: str) -> str:
        """Return the base URL that an SDK of this API is to have."""
        return f"{self.origin}/{api}{self._bases[api]}"

    def script(self, name: str = "default", **script: Any) -> None:
        """Set the script of that name or model; `default` answers all that choose none."""
        self._send("PUT", f"scripts/{name}", script)

    def requests(self) -> list[Json]:
        """Return what came, with the time of each token."""
        listed: list[Json] = self._send("GET", "requests")
        return listed

    def totals(self) -> Json:
        """Return the counts of requests, open ones, connections, tokens, disconnects, and the largest lag."""
        totals: Json = self._send("GET", "totals")
        return totals

    def idle(self, timeout_s: float = 20.0) -> Json:
        """Wait until no response is open, and return the totals."""
        totals: Json = self._send("GET", f"idle?timeout_s={timeout_s}")
        return totals

    def reset(self) -> None:
        """Forget all requests and all scripts but the default."""
        self._send("POST", "reset")

    def _send(self, method: str, path: str, body: Json | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.origin}{PREFIX}/{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            content = response.read()
        return json.loads(content) if content else None


@contextmanager
def provider_process(*options: str) -> Iterator[RemoteProvider]:
    """Run `python -m tests.providers` and wait for its address.

    Raises:
        RuntimeError: it did not start.
    """
    command = [sys.executable, "-m", "tests.providers", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
            line = process.stdout.readline() if ready else b""
            if not line:
                raise RuntimeError("the fake provider did not start; its error is above")
            address = json.loads(line)
            yield RemoteProvider(address["url"], address["bases"], address["pid"])
        finally:
            process.send_signal(signal.SIGTERM)
