"""`client.speech_engine` of `AsyncElevenLabs`: the calls of `SpeechEngineClient`, on asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from se_server.sdk import calls
from se_server.sdk.calls import Dumpable, Setting
from se_server.sdk.models import OMIT, EngineConfig, EnginePage, EngineSummary, SpeechEngineConfig
from se_server.sdk.requests import RequestOptions
from se_server.sdk.resource import SpeechEngineResource
from se_server.sdk.speech_engines import next_cursor

if TYPE_CHECKING:
    from se_server.sdk.transport import AsyncTransport


class AsyncSpeechEngineClient:
    """Speech Engines over REST, on asyncio. A setting is a dict, or an object with `model_dump()`.

    Every call raises `ApiError` when the API refuses and `ApiConnectionError` when it is out of reach, and takes
    `request_options` (see `RequestOptions`).
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(
        self,
        *,
        page_size: int | None = None,
        search: str | None = None,
        sort_direction: calls.SortDirection | None = None,
        sort_by: calls.SortBy | None = None,
        cursor: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> EnginePage:
        """Return one page of the Speech Engines: see `SpeechEngineClient.list`."""
        call = calls.list_engines(
            page_size=page_size, search=search, sort_direction=sort_direction, sort_by=sort_by, cursor=cursor
        )
        return EnginePage(await self._transport.send(call, request_options))

    async def iter(
        self,
        *,
        page_size: int | None = None,
        search: str | None = None,
        sort_direction: calls.SortDirection | None = None,
        sort_by: calls.SortBy | None = None,
        request_options: RequestOptions | None = None,
    ) -> AsyncIterator[EngineSummary]:
        """Go through all Speech Engines, fetching page after page; arguments as for `list`."""
        cursor: str | None = None
        while True:
            page = await self.list(
                page_size=page_size,
                search=search,
                sort_direction=sort_direction,
                sort_by=sort_by,
                cursor=cursor,
                request_options=request_options,
            )
            for engine in page.speech_engines:
                yield engine
            following = next_cursor(page, cursor)
            if following is None:
                return
            cursor = following

    async def create(
        self,
        *,
        speech_engine: SpeechEngineConfig | Mapping[str, Any] | Dumpable,
        name: str | EllipsisType | None = OMIT,
        asr: Setting = OMIT,
        tts: Setting = OMIT,
        turn: Setting = OMIT,
        vad: Setting = OMIT,
        conversation: Setting = OMIT,
        privacy: Setting = OMIT,
        call_limits: Setting = OMIT,
        auth: Setting = OMIT,
        language: str | EllipsisType | None = OMIT,
        tags: Sequence[str] | EllipsisType | None = OMIT,
        overrides: Setting = OMIT,
        cascade_timeout_seconds: float | EllipsisType | None = OMIT,
        request_options: RequestOptions | None = None,
    ) -> SpeechEngineResource:
        """Make a Speech Engine and return it: see `SpeechEngineClient.create`."""
        call = calls.create_engine(
            speech_engine=speech_engine,
            name=name,
            asr=asr,
            tts=tts,
            turn=turn,
            vad=vad,
            conversation=conversation,
            privacy=privacy,
            call_limits=call_limits,
            auth=auth,
            language=language,
            tags=tags,
            overrides=overrides,
            cascade_timeout_seconds=cascade_timeout_seconds,
        )
        answer = await self._transport.send(call, request_options)
        return self._resource(answer["speech_engine_id"], answer)

    async def get(
        self, speech_engine_id: str, *, request_options: RequestOptions | None = None
    ) -> SpeechEngineResource:
        """Return the Speech Engine of this id.

        Raises:
            NotFound: there is none.
        """
        answer = await self._transport.send(calls.get_engine(speech_engine_id), request_options)
        return self._resource(speech_engine_id, answer)

    async def update(
        self,
        speech_engine_id: str,
        *,
        speech_engine: SpeechEngineConfig | Setting = OMIT,
        name: str | EllipsisType | None = OMIT,
        asr: Setting = OMIT,
        tts: Setting = OMIT,
        turn: Setting = OMIT,
        vad: Setting = OMIT,
        conversation: Setting = OMIT,
        privacy: Setting = OMIT,
        call_limits: Setting = OMIT,
        auth: Setting = OMIT,
        language: str | EllipsisType | None = OMIT,
        tags: Sequence[str] | EllipsisType | None = OMIT,
        overrides: Setting = OMIT,
        cascade_timeout_seconds: float | EllipsisType | None = OMIT,
        request_options: RequestOptions | None = None,
    ) -> SpeechEngineResource:
        """Change what is given of a Speech Engine, and return it: see `SpeechEngineClient.update`."""
        call = calls.update_engine(
            speech_engine_id,
            speech_engine=speech_engine,
            name=name,
            asr=asr,
            tts=tts,
            turn=turn,
            vad=vad,
            conversation=conversation,
            privacy=privacy,
            call_limits=call_limits,
            auth=auth,
            language=language,
            tags=tags,
            overrides=overrides,
            cascade_timeout_seconds=cascade_timeout_seconds,
        )
        return self._resource(speech_engine_id, await self._transport.send(call, request_options))

    async def duplicate(
        self,
        speech_engine_id: str,
        *,
        name: str | EllipsisType | None = OMIT,
        request_options: RequestOptions | None = None,
    ) -> SpeechEngineResource:
        """Make a copy of a Speech Engine and return the copy: see `SpeechEngineClient.duplicate`."""
        answer = await self._transport.send(calls.duplicate_engine(speech_engine_id, name=name), request_options)
        return self._resource(answer["speech_engine_id"], answer)

    async def delete(self, speech_engine_id: str, *, request_options: RequestOptions | None = None) -> None:
        """Delete the Speech Engine of this id.

        Raises:
            NotFound: there is none.
        """
        await self._transport.send(calls.delete_engine(speech_engine_id), request_options)

    def _resource(self, engine_id: str, answer: dict[str, Any]) -> SpeechEngineResource:
        return SpeechEngineResource(engine_id, self._transport.wrapper, EngineConfig(answer))
