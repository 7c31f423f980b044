"""`elevenlabs.client`: the REST clients by the name of their module in the published SDK."""

from __future__ import annotations

from se_server.sdk.client import AsyncElevenLabs, ElevenLabs

__all__ = ["AsyncElevenLabs", "ElevenLabs"]
