"""The user's APP, an object with the handlers of conversations: made from what its module or file holds.

Each worker loads it after the fork, so that a new worker runs the code that is on disk at that time.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from se_server.conversation.handlers import HANDLER_NAMES, Handlers
from se_server.conversation.mistakes import accepts, check_callback
from se_server.errors import AppError
from se_server.server.config.doubts import misspelt_handlers, nearest_name, of_python
from se_server.server.config.importing import load_object
from se_server.server.config.lifespan import Lifespan, is_lifespan
from se_server.server.config.packages import modules_of
from se_server.server.config.web import kind_of_web_application, way_out
from se_server.types import Handler

DEMO_APP = "se_server.demo"
WARM_UP = "warm_up"
LIFECYCLE_NAMES = ("on_startup", "on_shutdown")
APP_NAMES = (*HANDLER_NAMES, *LIFECYCLE_NAMES)


@dataclass(frozen=True)
class App:
    """A loaded APP.

    Attributes:
        handlers: the callbacks of its conversations.
        on_startup: called once a worker before it takes conversations, plain or coroutine; or None.
        on_shutdown: called once a worker after its last conversation ended, plain or coroutine; or None.
        name: the APP as the user wrote it.
        api_keys: the keys that a `SpeechEngineServer` was made with; else none.
        options: the options that such a server was made with, by name.
        connect: such a server's own `handle_connection`, if it has one.
        doubt: a sentence about what is probably a mistake, or empty.
        routes: the names of the routes that it answers; none for a server's only one.
    """

    handlers: Handlers
    on_startup: Handler | None = None
    on_shutdown: Handler | None = None
    name: str = "demo"
    api_keys: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    connect: Callable[[Any], Any] | None = None
    doubt: str = ""
    routes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The APP in sentences, with its routes."""
        if not self.routes:
            return f"APP {self.name!r}"
        more = f" and {len(self.routes) - 1} more" if len(self.routes) > 1 else ""
        return f"route {self.routes[0]!r}{more}: APP {self.name!r}"


def load_app(spec: str | None) -> App:
    """Load an APP.

    Args:
        spec: `module`, `module:attr`, `file.py` or `file.py:attr`, looked up from the working directory; None for the
            demo agent.

    Raises:
        AppError: there is no such APP, or the object is not an APP; one sentence.
        AppCrashed: the APP's own code raised during its import.
    """
    if spec is None:
        return app_of(importlib.import_module(DEMO_APP), "demo")
    return app_of(load_object(spec), spec)


def app_of(found: object, spec: str) -> App:
    """Make an APP from a module, a mapping, a server, any object with handlers, or one transcript handler.

    Args:
        spec: the APP's name in errors.

    Raises:
        AppError: the object is not an APP; one sentence.
    """
    if isinstance(found, type):
        raise AppError(f"APP {spec!r} is a class: make an object of it in your module, and name that")
    kind = kind_of_web_application(found)
    if kind is not None:
        raise AppError(f"APP {spec!r} {way_out(kind)}")
    handlers = getattr(found, "handlers", None)
    if isinstance(handlers, Handlers):  # a SpeechEngineServer, which lives in a layer above
        return _of_server(found, handlers, spec)
    if isinstance(found, Mapping):
        named = {str(name): value for name, value in found.items()}
        unknown = [name for name in named if name not in (*APP_NAMES, WARM_UP)]
        if unknown:
            raise AppError(f"APP {spec!r} has an unknown handler {unknown[0]!r}{nearest_name(unknown[0], APP_NAMES)}")
    else:
        named = {name: getattr(found, name) for name in APP_NAMES if getattr(found, name, None) is not None}
    if not named:
        if not isinstance(found, ModuleType) and callable(found):
            return App(_handlers({"on_transcript": found}, spec), name=spec)
        raise AppError(_nothing_found(found, spec))
    if not isinstance(found, Mapping) and "on_transcript" not in named:
        _refuse_misspelt(found, spec)
    doubt = "" if isinstance(found, Mapping) else misspelt_handlers(found, APP_NAMES, named)
    lifecycle = {name: named.pop(name) for name in LIFECYCLE_NAMES if name in named}
    named.pop(WARM_UP, None)
    app = App(_handlers(named, spec), *_lifecycle(lifecycle, spec), spec)
    return replace(app, doubt=f"APP {spec!r} {doubt}") if doubt else app


def _of_server(server: object, handlers: Handlers, spec: str) -> App:
    lifecycle = {name: getattr(server, name, None) for name in LIFECYCLE_NAMES}
    connect = getattr(server, "own_connect", None)  # its sessions may have handlers of their own
    return App(
        handlers if connect is not None else _answering(handlers, spec),
        *_lifecycle(lifecycle, spec),
        spec,
        api_keys=tuple(getattr(server, "api_keys", ())),
        options=getattr(server, "options", {}),
        connect=connect,
    )


def _handlers(named: dict[str, object], spec: str) -> Handlers:
    try:
        handlers = Handlers.of(named)
    except TypeError as error:
        raise AppError(f"APP {spec!r}: {error}") from None
    return _answering(handlers, spec)


def _answering(handlers: Handlers, spec: str) -> Handlers:
    if handlers.may_answer():
        return handlers
    given = [name for name in HANDLER_NAMES if getattr(handlers, name) is not None]
    raise AppError(
        f"APP {spec!r} has {', '.join(given) or 'no handler'} and nothing that answers: define `async def "
        "on_transcript(transcript, session)`, or register a handler in on_init by session.on('user_transcript', ...)"
    )


def _lifecycle(named: Mapping[str, object], spec: str) -> tuple[Handler | None, Handler | None]:
    """Check `on_startup` and `on_shutdown`; an `on_startup` that yields is both."""
    start, stop = (
        None if named.get(name) is None else check_function(named[name], name, spec) for name in LIFECYCLE_NAMES
    )
    if start is not None:
        lifespan = Lifespan(start, stop)
        return lifespan.start, lifespan.stop
    return start, stop


def check_function(value: object, name: str, spec: str) -> Handler:
    """Return a function of an APP that is called without arguments.

    Raises:
        AppError: it is none.
    """
    if not callable(value):
        raise AppError(f"APP {spec!r}: {name} must be a function, not {type(value).__name__}")
    function = value
    if name == "on_startup" and is_lifespan(value):
        function = inspect.unwrap(value)
        if accepts(function, 0):
            return value
    try:
        check_callback(function, name, ())
    except TypeError as error:
        raise AppError(f"APP {spec!r}: {error}") from None
    return value


def _refuse_misspelt(found: object, spec: str) -> None:
    # Without on_transcript no turn is answered: look for a function with nearly that name.
    for name in dir(found):
        if difflib.get_close_matches(name, ["on_transcript"], cutoff=0.7) and callable(getattr(found, name)):
            raise AppError(f"APP {spec!r} has no on_transcript, but {name}; did you mean on_transcript?")


def _nothing_found(found: object, spec: str) -> str:
    what = f"looked for {', '.join(APP_NAMES)}"
    if not isinstance(found, ModuleType):
        return f"APP {spec!r} is a {type(found).__name__} with no handler: {what}"
    if hint := of_python(found):
        return f"APP {spec!r} {hint}"
    public = {name: value for name, value in vars(found).items() if not name.startswith("_")}
    for name, value in public.items():
        kind = kind_of_web_application(value)
        if kind is not None:
            return f"APP {spec!r} has no handler, and its {name} {way_out(kind)}"
    # A server comes first, then an object: the functions are probably their handlers.
    named = [name for name, value in public.items() if isinstance(getattr(value, "handlers", None), Handlers)]
    named += [name for name, value in public.items() if not isinstance(value, type) and _may_answer(value)]
    functions = [name for name, value in public.items() if _is_function_of(value, found)]
    if not named:
        for name in functions:
            if difflib.get_close_matches(name, APP_NAMES, n=1, cutoff=0.7):
                return f"APP {spec!r} has no handler: {what}{nearest_name(name, APP_NAMES)}"
        for name, value in public.items():
            if isinstance(value, type) and value.__module__ == found.__name__ and _may_answer(value):
                instance = name.lower() if name.lower() != name else f"my_{name}"
                return (
                    f"APP {spec!r} has no handler, and its {name} is a class: add the line `{instance} = {name}(...)`,"
                    f" and write {spec}:{instance}"
                )
    own = named + functions
    inside = modules_of(found)
    if inside and not own:
        return f"APP {spec!r} has no handler, and is a package: write one of its modules, such as {inside[0]}"
    hint = f"; to use one of its own names, write {spec}:{own[0]}" if own else ""
    return f"APP {spec!r} has no handler: {what}{hint}"


def _may_answer(value: object) -> bool:
    """Whether a value has an on_transcript of its own; attributes that are made on demand do not count."""
    if isinstance(value, Mapping):
        return "on_transcript" in value
    own = value if isinstance(value, type) else type(value)
    return hasattr(own, "on_transcript") or "on_transcript" in getattr(value, "__dict__", ())


def _is_function_of(value: object, module: ModuleType) -> bool:
    plain = value.func if isinstance(value, functools.partial) else value
    return inspect.isfunction(plain) and plain.__module__ == module.__name__
