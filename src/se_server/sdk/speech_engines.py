"""`client.speech_engine`: make, find, change and delete Speech Engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from se_server import errors
from se_server.sdk import calls
from se_server.sdk.calls import Dumpable, Setting
from se_server.sdk.models import OMIT, EngineConfig, EnginePage, EngineSummary, SpeechEngineConfig
from se_server.sdk.requests import RequestOptions
from se_server.sdk.resource import SpeechEngineResource

if TYPE_CHECKING:
    from se_server.sdk.transport import SyncTransport


class SpeechEngineClient:
    """Speech Engines over REST. A setting is a dict, or an object with `model_dump()`.

    Every call raises `ApiError` when the API refuses and `ApiConnectionError` when it is out of reach, and takes
    `request_options` (see `RequestOptions`).
    """

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        page_size: int | None = None,
        search: str | None = None,
        sort_direction: calls.SortDirection | None = None,
        sort_by: calls.SortBy | None = None,
        cursor: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> EnginePage:
        """Return one page of the Speech Engines.

        Args:
            page_size: how many at most, 1 to 100; the API's default is 30.
            search: part of a name.
            sort_direction: `asc` or `desc`.
            sort_by: `name`, `created_at`, `updated_at` or `call_count_7d`.
            cursor: `next_cursor` of the page before.

        Raises:
            ValueError: `page_size` is out of range.
        """
        call = calls.list_engines(
            page_size=page_size, search=search, sort_direction=sort_direction, sort_by=sort_by, cursor=cursor
        )
        return EnginePage(self._transport.send(call, request_options))

    def iter(
        self,
        *,
        page_size: int | None = None,
        search: str | None = None,
        sort_direction: calls.SortDirection | None = None,
        sort_by: calls.SortBy | None = None,
        request_options: RequestOptions | None = None,
    ) -> Iterator[EngineSummary]:
        """Go through all Speech Engines, fetching page after page; arguments as for `list`."""
        cursor: str | None = None
        while True:
            page = self.list(
                page_size=page_size,
                search=search,
                sort_direction=sort_direction,
                sort_by=sort_by,
                cursor=cursor,
                request_options=request_options,
            )
            yield from page.speech_engines
            following = next_cursor(page, cursor)
            if following is None:
                return
            cursor = following

    def create(
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
        """Make a Speech Engine and return it.

        Args:
            speech_engine: where your server is: a `SpeechEngineConfig`, or a dict with `ws_url`.
            name, language, tags: plain values.
            asr, tts, turn, vad, conversation, privacy, call_limits, auth, overrides: the engine's settings.
            cascade_timeout_seconds: how long the API waits for an answer before it asks again, 2 to 15.

        Raises:
            ValueError: `cascade_timeout_seconds` is out of range.
        """
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
        answer = self._transport.send(call, request_options)
        return self._resource(answer["speech_engine_id"], answer)

    def get(self, speech_engine_id: str, *, request_options: RequestOptions | None = None) -> SpeechEngineResource:
        """Return the Speech Engine of this id.

        Raises:
            NotFound: there is none.
        """
        answer = self._transport.send(calls.get_engine(speech_engine_id), request_options)
        return self._resource(speech_engine_id, answer)

    def update(
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
        """Change what is given of a Speech Engine, leave the rest, and return it; arguments as for `create`.

        Raises:
            ValueError: `cascade_timeout_seconds` is out of range.
        """
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
        return self._resource(speech_engine_id, self._transport.send(call, request_options))

    def duplicate(
        self,
        speech_engine_id: str,
        *,
        name: str | EllipsisType | None = OMIT,
        request_options: RequestOptions | None = None,
    ) -> SpeechEngineResource:
        """Make a copy of a Speech Engine and return the copy.

        Args:
            speech_engine_id: the engine to copy.
            name: the copy's name; left out, the API chooses it.
            request_options: see `RequestOptions`.

        Raises:
            NotFound: there is no such engine.
        """
        answer = self._transport.send(calls.duplicate_engine(speech_engine_id, name=name), request_options)
        return self._resource(answer["speech_engine_id"], answer)

    def delete(self, speech_engine_id: str, *, request_options: RequestOptions | None = None) -> None:
        """Delete the Speech Engine of this id.

        Raises:
            NotFound: there is none.
        """
        self._transport.send(calls.delete_engine(speech_engine_id), request_options)

    def _resource(self, engine_id: str, answer: dict[str, Any]) -> SpeechEngineResource:
        return SpeechEngineResource(engine_id, self._transport.wrapper, EngineConfig(answer))


def next_cursor(page: EnginePage, cursor: str | None) -> str | None:
    """Return the cursor of the page behind `page`, which `cursor` led to; None on the last page.

    Raises:
        ApiError: the API leads back to the same page.
    """
    if not page.get("has_more") or not page.next_cursor:
        return None
    if page.next_cursor == cursor:
        raise errors.ApiError("the API gave the same page of Speech Engines twice", status_code=200)
    return page.next_cursor
