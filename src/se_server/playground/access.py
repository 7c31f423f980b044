"""Access to the page: a token in every path, and the checks of the operators' page behind it."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import tempfile
from collections.abc import Sequence

from se_server.server.observer.access import App, Guard, Receive, Scope, Send

TOKEN_BYTES = 18
_WHERE = "this is not the whole address: use the one that se-server has printed"


class TokenPath:
    """Passes on requests whose path begins with the token, without it.

    The token is in the path because a browser sends it with everything that the page asks for, the stream included, and
    with nothing that another page asks for. Host and Origin are checked as well: see `Guard`.

    Args:
        app: the application.
        token: the token.
    """

    def __init__(self, app: App, token: str) -> None:
        self._app = Guard(app, tokens=(token,), is_local=True)
        self._token = token.encode()
        self._authorization = (b"authorization", b"Bearer " + self._token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given, slash, rest = scope["path"].removeprefix("/").partition("/")
        is_known = hmac.compare_digest(given.encode(), self._token)
        headers = [header for header in scope["headers"] if header[0] != b"authorization"]
        if is_known and slash:
            inner = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode(), "headers": headers}
            inner["headers"] = [*headers, self._authorization]
            await self._app(inner, receive, send)
            return
        # Without the token even the guard's refusals are the same for all paths.
        location = [(b"location", b"/" + self._token + b"/")] if is_known else []
        body = _WHERE.encode() + b"\n"
        size = (b"content-length", str(len(body)).encode())
        kind = (b"content-type", b"text/plain; charset=utf-8")
        start = {"type": "http.response.start", "status": 307 if is_known else 404}
        await send({**start, "headers": [kind, size, *location]})
        await send({"type": "http.response.body", "body": body})


def kept_token(port: int, environ: Sequence[str] = ("XDG_RUNTIME_DIR",)) -> str:
    """Return the token of the page at a port: the one of the last server there, so that an open page finds the next.

    It is kept in a file that only this user can read. Where that is not possible, the token is a new one.

    Args:
        port: the page's port.
        environ: variables of the environment that name a folder for it, before the temporary directory.
    """
    folder = next((os.environ[name] for name in environ if os.environ.get(name)), tempfile.gettempdir())
    name = os.path.join(folder, f"se-server-playground-{os.getuid()}-{port}")
    fresh = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return fresh
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
            return fresh
        found = os.read(descriptor, 64).decode("ascii", "replace")
        if len(found) == len(fresh) and found.replace("-", "").replace("_", "").isalnum():
            return found
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, fresh.encode(), 0)
        return fresh
    except OSError:
        return fresh
    finally:
        os.close(descriptor)
