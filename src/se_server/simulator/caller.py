"""A simulated caller on a real socket: the API's model driven over picows."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager

from se_server.auth import AUTHORIZATION_HEADER, sign_token
from se_server.simulator.connection import Link, LinkEvents, OnEvent
from se_server.simulator.conversation import Conversation
from se_server.simulator.habits import Habits
from se_server.simulator.link import SocketLink, open_websocket
from se_server.simulator.model import ApiModel
from se_server.simulator.recording import Recording


class Caller(Conversation):
    """One conversation with a server over a real socket, from the API's side. Create one with `Caller.connect`."""

    _links: list[SocketLink]

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        api_key: str | None,
        headers: Mapping[str, str] | None = None,
        conversation_id: str | None = None,
        habits: Habits | None = None,
        ids: Iterator[int] | None = None,
        connect_timeout_s: float = 5.0,
        reply_timeout_s: float = 30.0,
        on_event: OnEvent | None = None,
        recording: Recording | None = None,
        first_message: str = "",
        ssl_context: ssl.SSLContext | None = None,
    ) -> AsyncGenerator[Caller, None]:
        """Connect, authenticate and begin a conversation; leaving the context ends it as the API does.

        Args:
            url: a `ws://` or `wss://` address.
            api_key: the key that signs the token; None sends no token.
            headers: further headers of the upgrade request.
            conversation_id: the id to announce; a fresh one by default.
            habits: the API's habits; polite by default.
            ids: an iterator of increasing event ids; the model's own by default.
            connect_timeout_s: the longest wait for the connection, and again for the upgrade, in seconds.
            reply_timeout_s: the longest silence before a complete answer, in seconds.
            on_event: called synchronously with each event, and last with the conversation's `Ended`.
            recording: receives everything that goes over the wire.
            first_message: the words with which the API begins on the agent's behalf.
            ssl_context: how a `wss://` server is verified; by its certificate and name by default.

        Raises:
            CallerError: the network or the server refused the connection.
        """
        model = ApiModel(conversation_id or f"conv_{secrets.token_hex(10)}", habits=habits, ids=ids)
        model.first_message = first_message

        links: list[SocketLink] = []

        async def dial(events: LinkEvents) -> Link:
            sent = dict(headers or {})
            if api_key is not None:
                sent[AUTHORIZATION_HEADER] = sign_token(api_key)
            link = await open_websocket(url, sent, connect_timeout_s, events, model.habits, ssl_context)
            links[:] = [*links[-1:], link]  # the previous link may still be closing
            return link

        caller = cls(dial, model, reply_timeout_s=reply_timeout_s, on_event=on_event, recording=recording, name=url)
        caller._links = links
        try:
            await caller.open()
            yield caller
        finally:
            await caller.close()
            for link in links:
                await link.wait_gone()

    def change_habits(self, habits: Habits) -> None:
        """Show other habits from now on, those of the wire included."""
        self.model.habits = habits
        for link in self._links[-1:]:
            link.change_habits(habits)

    def cut_short(self, heard_chars: int) -> None:
        """Let the user stop the newest answer, of which only this many characters were spoken.

        The API shortens its history to that part, as it does when the user interrupts an answer that has arrived whole
        and is still being spoken.
        """
        self.model.cut_short(heard_chars, now=self.now)
