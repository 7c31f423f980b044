"""The server's side of a turn: its events, and the parts of the time to its first text, asked of the observer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import httpx

TIMEOUT_S = 2.0
# An event of the ring, and the mark of the texts that it tells of.
_SENT = {"texts sent": "", "filler sent": "filler", "failure text sent": "failure"}


class Ledger:
    """Asks the observer of the server about conversations.

    Args:
        url: the observer's address; ignored with a Unix socket.
        uds: the path of its Unix socket; empty for the address.
        token: the token of operators.
    """

    def __init__(self, *, url: str, uds: str, token: str) -> None:
        transport = httpx.AsyncHTTPTransport(uds=uds) if uds else httpx.AsyncHTTPTransport()
        self._client = httpx.AsyncClient(
            transport=transport,
            base_url="http://localhost" if uds else url,
            headers={"authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    async def conversations(self, conversation_id: str) -> list[dict[str, Any]]:
        """Return what the server knows of a conversation, one entry for each connection, the newest first.

        An observer that is not there, or knows nothing, gives an empty list: the page shows its own times then.
        """
        try:
            found = await self._get(f"/api/conversations?find={quote(conversation_id)}")
            keys = [row["key"] for row in found["rows"] if row["id"] == conversation_id]
            return [await self._get(f"/api/conversations/{key}") for key in keys[:4]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return []

    async def _get(self, path: str) -> Any:
        response = await self._client.get(path)
        response.raise_for_status()
        return response.json()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def turn_of(conversation: dict[str, Any], event_ids: Collection[int]) -> dict[str, Any] | None:
    """Return the server's side of one utterance, whose transcripts had these ids; None if it has not ended there.

    The events begin with the arrival of the first transcript, at 0 s, and end before the next utterance. `marks` has
    one entry for each text that was sent: empty, `filler` or `failure`.
    """
    rows = [row for row in conversation["turns"] if row["event_id"] in event_ids]
    if not rows:
        return None
    events: list[list[Any]] = []
    is_ours = False
    arrived: list[Any] | None = None
    for (at_s, kind, _), payload in zip(conversation["events"], conversation["payloads"], strict=True):
        if kind == "arrived":
            arrived = [at_s, kind, payload]
            continue
        if kind == "transcript":
            is_ours = payload in event_ids
            if is_ours and arrived is not None:
                events.append(arrived)
            arrived = None
        # The rest of an older turn comes between: it ends, and its handler is gone.
        if is_ours or (events and kind == "transcript again" and payload in event_ids):
            events.append([at_s, kind, payload])
    if not events:
        return None
    start_s = events[0][0]
    marks: list[str] = []
    for _, kind, payload in events:
        if kind in _SENT:
            marks += [_SENT[kind]] * (int(payload) if kind == "texts sent" else 1)
    row = rows[-1]
    return {
        "outcome": row["outcome"],
        "parts": row["parts"],
        "first_text_s": row["first_text_s"],
        "duration_s": row["duration_s"],
        "blocked_by": row["blocked_by"],
        "turn_at_s": round(row["at_s"] - start_s, 6),
        "events": [[round(at_s - start_s, 6), kind, payload] for at_s, kind, payload in events],
        "marks": marks,
        "pid": conversation["pid"],
    }
