"""The terminal of se-chat: the user types a line, edited by prompt_toolkit, below the growing answer."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from typing import TextIO

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, WordCompleter, get_common_complete_suffix
from prompt_toolkit.data_structures import Size
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.layout import BufferControl, ConditionalContainer, FormattedTextControl, HSplit, Layout, Window
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.widgets import SearchToolbar

from se_server.cli.screen import AGENT, INTERRUPTED, Paint, printable, shown_s, write

_TOKENS = re.compile(r"\n|[^\S\n]+|\S+")
_INDENT = " " * len(AGENT)


class Console:
    """A terminal on which the user types below the growing answer.

    Complete rows of the answer are written above the line being typed; its last row, which further text may go on,
    belongs to the same drawing as that line. Use it as an asynchronous context manager while the user types; without
    that it shows a conversation only.

    Args:
        in_fd: the terminal, for reading.
        out: the same terminal, for writing.
        on_line: called with each line that the user enters.
        on_end: called when the user ends the input (Ctrl-D on an empty line), or the terminal is closed.
        history: earlier lines, the oldest first.
        commands: the words that Tab completes at the beginning of a line.
    """

    def __init__(
        self,
        in_fd: int,
        out: TextIO,
        on_line: Callable[[str], None],
        on_end: Callable[[], None],
        history: Sequence[str] = (),
        commands: Sequence[str] = (),
    ) -> None:
        self._fd = in_fd
        self._out = out
        self._on_line = on_line
        self._on_end = on_end
        self._commands = commands
        self._paint = Paint(out)
        self._is_prompting = False
        self._in_answer = False
        self._lead = ""  # before the answer's last row: its name, or blanks
        self._row = ""  # the answer's last row, which further text may go on
        self._is_row_drawn = False
        self._is_suspended = False
        self._buffer = Buffer(multiline=False, history=InMemoryHistory(list(history)), accept_handler=self._accept)
        self._app: Application[None] | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Console:
        self._in = open(self._fd, closefd=False)  # noqa: ASYNC230, SIM115  it is open; __aexit__ closes the object
        self._app = self._make_app()
        self._finish_row()
        self._running = asyncio.create_task(self._run(self._app))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._app is not None
        assert self._running is not None
        if self._app.is_running:
            self._app.exit()
        else:
            self._running.cancel()
        await asyncio.wait([self._running])
        self._app = None
        self._in.close()
        self._show(())
        self.rest()

    async def _run(self, app: Application[None]) -> None:
        try:
            await app.run_async(handle_sigint=False, set_exception_handler=False)
        except (EOFError, OSError):  # the terminal is closed
            self._on_end()

    def _suspend(self) -> None:
        assert self._app is not None
        self._is_suspended = True
        self._app.suspend_to_background()  # it draws again when it goes on

    def resume(self) -> None:
        """Set the terminal's modes again, and draw: another program has stopped this one, and it goes on (SIGCONT)."""
        if self._is_suspended:
            self._is_suspended = False
        elif self._app is not None and self._app.is_running:
            self._app.input.raw_mode().__enter__()
            self._app.renderer.reset()
            self._app.invalidate()

    # --- showing ----------------------------------------------------------------------------------------------------

    def heard(self, text: str) -> None:
        if not self._in_answer and not text.strip():
            return  # a blank stands for an answer without words
        if not self._in_answer:
            self._begin_answer()
        *rows, self._row = wrapped(self._row + printable(text), self._columns() - 1 - len(AGENT))
        leads = [self._lead, *[_INDENT] * len(rows)]
        self._lead = leads[-1]
        self._show([lead + row.rstrip() for lead, row in zip(leads, rows, strict=False)])

    def answered(self, first_text_s: float | None = None) -> None:
        rows = []
        if not self._in_answer:
            self._begin_answer()
            self._row = self._paint("(no answer)", dim=True)
        elif first_text_s is not None:
            shown = f"  {shown_s(first_text_s)}"
            if len(AGENT) + width(self._row + shown) >= self._columns():
                rows.append(self._lead + self._row.rstrip())
                self._lead, self._row = _INDENT[2:], ""
            self._row += self._paint(shown, dim=True)
        self._show([*rows, self._end_answer()])

    def said(self, text: str, *, interrupts: bool) -> None:
        rows = []
        if interrupts:
            if not self._in_answer:
                self._begin_answer()
            self._row += self._paint(INTERRUPTED, fg="yellow")
            rows.append(self._end_answer())
        self._is_prompting = False
        self._show([*rows, self._paint.you() + text])

    def note(self, text: str, kind: str = "note", **details: object) -> None:
        answer = [self._end_answer()] if self._in_answer else []
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        rows = textwrap.wrap(printable(text), self._columns() - 1, subsequent_indent=indent) or [""]
        self._show([*answer, *(self._paint(row, dim=True) for row in rows)])

    def prompt(self) -> None:
        self._is_prompting = True
        self._show(())

    def rest(self) -> None:
        """Move the cursor to the beginning of a line for the next writer."""
        self._finish_row()

    def _begin_answer(self) -> None:
        self._in_answer, self._lead, self._row = True, self._paint.agent(), ""

    def _end_answer(self) -> str:
        self._in_answer = False
        return self._lead + self._row

    def _show(self, rows: Sequence[str]) -> None:
        """Write rows above the answer's last row and the line being typed, and draw those again."""
        text = "".join(f"{row}\n" for row in rows)
        if self._app is not None:
            if text:
                if self._app.is_running:
                    self._app.renderer.erase()
                write(self._out, text)
            self._app.invalidate()
            return
        row = self._lead + self._row if self._in_answer else ""
        write(self._out, ("\r\x1b[K" if self._is_row_drawn else "") + text + row)
        self._is_row_drawn = bool(row)

    def _finish_row(self) -> None:
        if self._is_row_drawn:
            write(self._out, "\n")
            self._is_row_drawn = self._in_answer = False

    def _columns(self) -> int:
        return int(_size(self._out).columns)

    # --- typing -----------------------------------------------------------------------------------------------------

    def _make_app(self) -> Application[None]:
        search = SearchToolbar()
        answer = Window(FormattedTextControl(lambda: ANSI(self._lead + self._row)), height=1, dont_extend_height=True)
        line = Window(
            BufferControl(
                self._buffer,
                input_processors=[BeforeInput(lambda: ANSI(self._paint.you() if self._is_line_shown() else ""))],
                search_buffer_control=search.control,
            ),
            wrap_lines=True,
            dont_extend_height=True,
        )
        out = self._out
        return Application(
            Layout(
                HSplit([ConditionalContainer(answer, Condition(lambda: self._in_answer)), line, search]),
                focused_element=line,
            ),
            key_bindings=self._keys(),
            erase_when_done=True,
            input=Vt100Input(self._in),
            # Not all terminals report the cursor's position, and none has to.
            output=Vt100_Output(out, lambda: _size(out), term=os.environ.get("TERM"), enable_cpr=False),
        )

    def _is_line_shown(self) -> bool:
        return bool(self._buffer.text) or (self._is_prompting and not self._in_answer)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        is_empty = Condition(lambda: not self._buffer.text)
        keys.add("c-d", filter=is_empty)(lambda event: self._on_end())
        keys.add("tab")(lambda event: self._complete())
        # A terminal in raw mode sends no signals.
        keys.add("c-c")(lambda event: os.kill(os.getpid(), signal.SIGINT))
        keys.add("c-\\")(lambda event: os.kill(os.getpid(), signal.SIGQUIT))
        keys.add("c-z")(lambda event: self._suspend())
        return keys

    def _complete(self) -> None:
        document = self._buffer.document
        if not document.text_before_cursor.startswith("/"):
            self._buffer.insert_text(" ")
            return
        completer = WordCompleter(list(self._commands), sentence=True)
        found = list(completer.get_completions(document, CompleteEvent()))
        self._buffer.insert_text(get_common_complete_suffix(document, found))

    def _accept(self, buffer: Buffer) -> bool:
        for line in buffer.text.splitlines() or [""]:  # several were pasted
            self._on_line(line)
        return False


def wrapped(text: str, room: int) -> list[str]:
    """Return the rows of a text, wrapped between words; the last one may be empty. A word wider than a row is split."""
    rows, row = [], ""
    for token in _TOKENS.findall(text):
        if token == "\n":
            rows.append(row)
            row = ""
            continue
        if width(row + token) > room and row.strip():
            rows.append(row)
            row = ""
            if token.isspace():
                continue
        for char in token:
            if row and width(row + char) > room:
                rows.append(row)
                row = ""
            row += char
    return [*rows, row]


def width(text: str) -> int:
    """Return the number of columns of a text: two for wide letters and emoji, none for combining characters."""
    columns = 0
    for char in text:
        if unicodedata.category(char) in ("Mn", "Me", "Cf", "Cc"):
            continue
        columns += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return columns


def _size(out: TextIO) -> Size:
    try:
        found = os.get_terminal_size(out.fileno())
    except OSError:
        return Size(rows=24, columns=80)
    # Some pseudo-terminals report 0 columns; below this minimum nothing can be drawn.
    return Size(rows=found.lines or 24, columns=max(found.columns or 80, 2 * len(AGENT)))
