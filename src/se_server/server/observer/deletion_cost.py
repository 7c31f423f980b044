"""Tells Kubernetes which pods to remove first: `--pod-deletion-cost` writes the load to the pod's own annotation.

A ReplicaSet that shrinks removes the pods of the smallest `controller.kubernetes.io/pod-deletion-cost` first. The cost
is a bucket of the load, so that it rarely changes, and is written at most once a minute: the API server of a cluster is
not made for metrics.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from se_server.telemetry.families import Reading

logger = logging.getLogger("se_server.server.observer")

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
INTERVAL_S = 60.0
BUCKETS = 10
_TIMEOUT_S = 10.0


def cost_of(reading: Reading) -> int:
    """Return the cost: the tenth of the capacity that is in use; without a capacity, the magnitude of the load."""
    if reading.capacity is None:
        return reading.conversations.bit_length()
    return min(BUCKETS, -(-BUCKETS * reading.conversations // max(1, reading.capacity)))


class DeletionCost:
    """Writes the cost of this pod while it changes.

    Args:
        read: returns the figures of now.
        environ: names the API server (`KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT`) and the pod (`POD_NAME`, or
            `HOSTNAME`, which Kubernetes sets).
        account: the folder with the token, the namespace and the certificate of the API server.
        interval_s: seconds between two looks, and so at least between two writes.
    """

    def __init__(
        self,
        read: Callable[[], Reading],
        environ: Mapping[str, str] = os.environ,
        account: Path = ACCOUNT,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._read = read
        self._environ = environ
        self._account = account
        self._interval_s = interval_s
        self._written: int | None = None
        self._failed = ""

    async def run(self) -> None:
        """Write until cancelled. A failure is logged once, and tried again after the interval."""
        while True:
            try:
                await self._write_change()
            except (OSError, ssl.SSLError, httpx.HTTPError, LookupError) as error:
                self._note(str(error) or type(error).__name__)
            await asyncio.sleep(self._interval_s)

    async def _write_change(self) -> None:
        cost = cost_of(self._read())
        if cost == self._written:
            return
        # Read each time: the token is replaced every hour.
        token = (self._account / "token").read_text().strip()
        namespace = (self._account / "namespace").read_text().strip()
        environ = self._environ
        host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
        pod = environ.get("POD_NAME") or environ["HOSTNAME"]
        server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        trusted = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        async with httpx.AsyncClient(verify=trusted, timeout=_TIMEOUT_S, trust_env=False) as client:
            response = await client.patch(
                f"{server}/api/v1/namespaces/{namespace}/pods/{pod}",
                json={"metadata": {"annotations": {ANNOTATION: str(cost)}}},
                headers={"authorization": f"Bearer {token}", "content-type": "application/merge-patch+json"},
            )
        if response.status_code == httpx.codes.FORBIDDEN:
            self._note("the pod's service account may not patch pods: see deploy/kubernetes/poddeletioncost.yaml")
        elif response.is_error:
            self._note(f"the API server answered {response.status_code}")
        else:
            self._written, self._failed = cost, ""

    def _note(self, failure: str) -> None:
        if failure != self._failed:
            logger.warning("cannot write the deletion cost of this pod: %s", failure)
        self._failed = failure
