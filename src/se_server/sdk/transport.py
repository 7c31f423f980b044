"""Sends prepared requests over httpx, plainly and on an event loop. Imported when a client is made, not before."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from se_server import errors
from se_server.sdk import replies
from se_server.sdk.requests import Call, ClientWrapper, Prepared, RequestOptions

# No idle connection outlives a call: none crosses a fork, none stays bound to an event loop that has ended, and a
# client that nobody closes leaks no socket. These calls are rare; a TLS handshake each is what it costs.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)


class SyncTransport:
    """Sends calls and waits in the calling thread.

    Args:
        wrapper: address, key and timeout.
        client: the HTTP client to use, which stays its maker's to close; None makes one of our own.
    """

    def __init__(self, wrapper: ClientWrapper, client: httpx.Client | None) -> None:
        self.wrapper = wrapper
        self._client = client or httpx.Client(limits=_LIMITS)
        self._owned = client is None

    def send(self, call: Call, options: RequestOptions | None) -> dict[str, Any]:
        """Send a call, repeat it where that is safe, and return the answer's JSON object.

        Raises:
            ApiError: the API refused; ApiTimeout, ApiConnectionError: there was no answer.
        """
        prepared = self.wrapper.prepare(call, options)
        retries = 0
        while True:
            response = self._exchange(prepared)
            delay_s = replies.retry_delay_s(prepared, response.status_code, response.headers, retries)
            if delay_s is None:
                return replies.result_of(prepared, response.status_code, response.headers, response.content)
            time.sleep(delay_s)
            retries += 1

    def _exchange(self, prepared: Prepared) -> httpx.Response:
        failure: errors.ApiConnectionError
        try:
            return self._client.request(**_arguments(prepared))
        except httpx.TimeoutException:
            failure = replies.timeout_of(prepared)
        except httpx.RequestError as error:
            failure = replies.connection_error_of(prepared, self.wrapper.host, error)
        # Raised out here, so that httpx's exception, which holds the request with its key, is not a context of ours.
        raise failure

    def close(self) -> None:
        """Close the HTTP client, if it is our own."""
        if self._owned:
            self._client.close()


class AsyncTransport:
    """Sends calls on the running event loop.

    Args:
        wrapper: address, key and timeout.
        client: the HTTP client to use, which stays its maker's to close; None makes one of our own.
    """

    def __init__(self, wrapper: ClientWrapper, client: httpx.AsyncClient | None) -> None:
        self.wrapper = wrapper
        self._client = client or httpx.AsyncClient(limits=_LIMITS)
        self._owned = client is None

    async def send(self, call: Call, options: RequestOptions | None) -> dict[str, Any]:
        """Send a call, repeat it where that is safe, and return the answer's JSON object.

        Raises:
            ApiError: the API refused; ApiTimeout, ApiConnectionError: there was no answer.
        """
        prepared = self.wrapper.prepare(call, options)
        retries = 0
        while True:
            response = await self._exchange(prepared)
            delay_s = replies.retry_delay_s(prepared, response.status_code, response.headers, retries)
            if delay_s is None:
                return replies.result_of(prepared, response.status_code, response.headers, response.content)
            await asyncio.sleep(delay_s)
            retries += 1

    async def _exchange(self, prepared: Prepared) -> httpx.Response:
        failure: errors.ApiConnectionError
        try:
            return await self._client.request(**_arguments(prepared))
        except httpx.TimeoutException:
            failure = replies.timeout_of(prepared)
        except httpx.RequestError as error:
            failure = replies.connection_error_of(prepared, self.wrapper.host, error)
        raise failure  # out here for the reason given in SyncTransport

    async def aclose(self) -> None:
        """Close the HTTP client, if it is our own."""
        if self._owned:
            await self._client.aclose()


def _arguments(prepared: Prepared) -> dict[str, Any]:
    return {
        "method": prepared.method,
        "url": prepared.url,
        "params": prepared.params,
        "headers": prepared.headers,
        "content": prepared.content,
        "timeout": httpx.USE_CLIENT_DEFAULT if prepared.timeout_s is None else prepared.timeout_s,
        # Overrides the client's own setting: the key is sent to its own address only.
        "follow_redirects": False,
    }
