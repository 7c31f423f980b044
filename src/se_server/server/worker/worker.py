"""A worker: one process with one event loop, the user's APP and a door. `run_worker` is called after the fork."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial

import uvloop

from se_server.conversation.recording import hide_headers
from se_server.errors import AppError, ConfigError
from se_server.forks import call_in_children, end_child, keep_from_children
from se_server.server.config.app import App
from se_server.server.config.config import Config
from se_server.server.config.crashes import AppCrashed
from se_server.server.config.scripts import Script, Serving
from se_server.server.door.door import Door
from se_server.server.door.place import Place
from se_server.server.listen.passing import receive_sockets
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Ask, Drain, Draining, Message, Ready, Reply, Serves, Stopped
from se_server.server.shared.exit_codes import EXIT_OK, leave
from se_server.server.shared.heartbeat import Heartbeat
from se_server.server.shared.scoreboard import Slot, State
from se_server.server.worker.debugger import may_hold
from se_server.server.worker.exit_hooks import end_children_with_worker, run_exit_hooks
from se_server.server.worker.guests import addresses_of, guests_of
from se_server.server.worker.loading import fail, load_engines, trace_turns
from se_server.server.worker.loops import end_with, run_through
from se_server.server.worker.replies import replies
from se_server.server.worker.script import run_script, serve_of, stop_on_sigterm
from se_server.server.worker.spec import WorkerSpec
from se_server.server.worker.watchdog import SEND_TIMEOUT_S, Watchdog
from se_server.telemetry.counters import Counters
from se_server.types import Handler

logger = logging.getLogger("se_server.server.worker")

SLOW_START_S = 10.0  # a longer on_startup is logged: the worker serves only after it
ON_SHUTDOWN_S = 10.0  # docs/deploy/operating.md states this bound
# Python's defaults are 700, 10, 10. A young collection of 5,000 objects takes 0.1 ms. A full collection takes 13 ms for
# the modules alone unless they are frozen, and with frozen modules 2 ms for 2,000 conversations.
COLLECTOR_THRESHOLDS = (5_000, 10, 10)
LEFT_OVER_S = 1.0  # for tasks of user code that ignore their cancellation
REPLY_S = 10.0  # se-ctl does not wait longer
REPLY_PAUSE_S = 0.01
ORPHAN_MARGIN_S = 20.0  # like the supervisor's EXIT_MARGIN_S: closing sessions, on_shutdown and left-over tasks


def run_worker(spec: WorkerSpec, slot: Slot, channel: ControlChannel) -> int:
    """Serve until ordered to stop; the main function of a worker, called in the forked child.

    Args:
        spec: describes the workers of this generation.
        slot: the slot of this worker on the scoreboard.
        channel: the worker's end of its control channel.

    Returns:
        The exit code. The caller must end the process with `os._exit`: threads and tasks of user code may still run.
    """
    with keep_from_children(lambda: (channel.fileno(), *(sock.fileno() for sock in spec.listen_sockets))):
        end_children_with_worker()
        code = _run_worker(spec, slot, channel)
        slot.state = State.STOPPED
        run_exit_hooks(spec.lifecycle.exit_timeout_s, partial(leave, code))
        return code


def _run_worker(spec: WorkerSpec, slot: Slot, channel: ControlChannel) -> int:
    slot.occupy()
    if spec.directory is not None:
        with suppress(OSError):  # a deploy may have redirected or removed the directory
            os.chdir(spec.directory)
    config = spec.config
    lifecycle = config.lifecycle
    end_s = lifecycle.drain_timeout_s + lifecycle.drain_turn_grace_s + ORPHAN_MARGIN_S + lifecycle.exit_timeout_s
    watchdog = Watchdog(
        channel,
        slot,
        hang_timeout_s=lifecycle.hang_timeout_s,
        end_s=end_s,
        log_file=spec.log_file,
        waits_for_debugger=may_hold(lifecycle.workers, config.program.reload),
    )
    watchdog.start()
    script = Script.of(config.program.app)
    if script is not None:
        return _run_script(script, spec, slot, channel, watchdog)
    loop = uvloop.new_event_loop() if config.program.loop == "uvloop" else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        # Before the loop runs: an APP may call asyncio.run while it is imported, and TERM still ends the process.
        pid = os.getpid()
        stats = slot.counters()
        engines = load_engines(config, slot, stats)
        if os.getpid() != pid:
            end_child()  # the APP has forked while it was imported
        place = Place(spec.listen_sockets, engines.routes, engines.access, spec.tls)
        ready = Ready(engines.path, engines.notice)
        worker = _Worker(config, engines.apps, [place], ready, slot, stats, channel, loop)
    except (AppError, ConfigError) as error:
        return fail(channel, error)
    asyncio.set_event_loop(loop)  # asyncio.run in the APP has removed it
    call_in_children(partial(end_with, loop))
    with keep_from_children(worker.descriptors, loop):
        return run_through(loop, loop.create_task(worker.run(watchdog), name="worker"))


def _run_script(script: Script, spec: WorkerSpec, slot: Slot, channel: ControlChannel, watchdog: Watchdog) -> int:
    """Run a program whose `serve()` serves this worker's share of the conversations."""
    config = spec.config

    def worker(servings: Sequence[Serving]) -> tuple[_Worker, Sequence[int]]:
        loop = asyncio.get_running_loop()
        sockets = spec.listen_sockets
        if spec.sockets_from is not None:
            channel.send(Serves(addresses_of(servings)), timeout_s=SEND_TIMEOUT_S)
            sockets = receive_sockets(spec.sockets_from)
        guests = guests_of(servings, script, config, sockets, spec.tls)
        is_open = any(route.verifier is None for place in guests.places for route in place.routes)
        if not config.route.disable_auth and is_open:
            logger.warning(
                "%s switches authentication off: anyone who reaches the port can hold conversations", script.file
            )
        call_in_children(partial(end_with, loop))
        ready = Ready("", guests.notice, list(guests.addresses))
        made = _Worker(
            guests.config, [guests.app], guests.places, ready, slot, slot.counters(), channel, loop, guest_of=watchdog
        )
        return made, guests.ports

    def leave_with(error: AppError | ConfigError | None) -> None:
        leave(EXIT_OK if error is None else fail(channel, error))

    use_uvloop = config.program.loop == "uvloop"
    error = run_script(script, serve_of(worker), use_uvloop=use_uvloop, leave=leave_with)
    return EXIT_OK if error is None else fail(channel, error)


class _Worker:
    """The part of a worker that runs on its loop."""

    def __init__(
        self,
        config: Config,
        apps: Sequence[App],
        places: Sequence[Place],
        ready: Ready,
        slot: Slot,
        stats: Counters,
        channel: ControlChannel,
        loop: asyncio.AbstractEventLoop,
        guest_of: Watchdog | None = None,
    ) -> None:
        self._apps = apps
        self._starting = apps[0]
        self._guest_of = guest_of  # the loop is a program's: its tasks and its hooks are left alone
        self._is_open: Callable[[], None] | None = None
        self._ready = ready
        self._channel = channel
        self._slot = slot
        self._clock = config.session.clock
        self._drain_timeout_s = config.lifecycle.drain_timeout_s
        self._drain_by = math.inf  # on the loop's clock
        self._notice_by = math.inf
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()  # set when the drain time has changed
        self._loop = loop
        trace_turns(config.tracing, stats.ring)
        for access in (config.access, *(route.access for place in places for route in place.routes)):
            hide_headers(set() if access is None else access.secret_headers)
        self._heartbeat = Heartbeat(loop, slot)
        self._door = Door(
            places,
            stats,
            capacity=config.capacity,
            lifecycle=config.lifecycle,
            slot=slot,
        )

    def descriptors(self) -> Iterator[int]:
        """Return the descriptors that children of user code must not have."""
        return self._door.descriptors()

    async def run_as_guest(self, is_ready: Callable[[], None]) -> None:
        """Serve on the loop of a program until ordered to stop; `is_ready` is called when it serves."""
        assert self._guest_of is not None
        self._is_open = is_ready
        with keep_from_children(self.descriptors, self._loop):
            await self.run(self._guest_of)

    def end(self, timeout_s: float | None = None) -> None:
        """Drain within a time; None is the configured one."""
        self._drain_within(self._drain_timeout_s if timeout_s is None else timeout_s)

    async def run(self, watchdog: Watchdog) -> int:
        if self._guest_of is None:
            self._loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        else:
            stop_on_sigterm(partial(self._loop.call_soon_threadsafe, self._stop.set))
        self._heartbeat.start()
        watchdog.attach(self._loop, self._take)
        try:
            return await self._live()
        finally:
            self._heartbeat.stop()

    async def _live(self) -> int:
        boot = asyncio.create_task(self._start_apps(), name="on_startup")
        slow = self._loop.call_later(SLOW_START_S, self._report_slow_start)
        stop = asyncio.create_task(self._stop.wait(), name="wait for the order to stop")
        await asyncio.wait((boot, stop), return_when=asyncio.FIRST_COMPLETED)
        slow.cancel()
        stop.cancel()
        if not boot.done():
            await self._end_left_overs()  # on_startup among them
            return EXIT_OK
        crash = boot.result()
        if crash is not None:
            await self._end_left_overs()
            return fail(self._channel, crash)
        tune_collector()
        # The loop would register every async generator for `shutdown_asyncgens`, which is never called here. The other
        # hook stays: it closes unfinished generators.
        if self._guest_of is None:
            sys.set_asyncgen_hooks(firstiter=None)
        self._door.open()
        self._slot.state = State.READY
        self._channel.send(self._ready, timeout_s=SEND_TIMEOUT_S)
        if self._is_open is not None:
            self._is_open()
        while not self._stop.is_set():
            try:
                await self._stop.wait()
            except asyncio.CancelledError:
                if self._guest_of is None:  # a program may cancel all tasks: it ends by that, and serve() with it
                    logger.error("user code has cancelled tasks that it did not make: the worker goes on")
        await self._drain()
        return EXIT_OK

    async def _start_apps(self) -> AppCrashed | None:
        for app in self._apps:
            self._starting = app
            try:
                await _call(app.on_startup)
            except BaseException as error:
                return AppCrashed.of(f"{app.title}: on_startup", error)
        return None

    def _report_slow_start(self) -> None:
        logger.warning("on_startup of %s has taken %g s so far", self._starting.name, SLOW_START_S)

    def _take(self, message: Message | None) -> None:
        """Handle a message of the supervisor, passed on by the watchdog."""
        if isinstance(message, Drain):
            self._drain_within(message.timeout_s, message.notice_s)
        elif isinstance(message, Ask):
            pages = replies(message, self._door.sessions, self._clock())
            self._reply(pages, self._loop.time() + REPLY_S)
        elif message is None:
            if not self._stop.is_set():
                logger.error("the supervisor is gone: draining")
            self._drain_within(self._drain_timeout_s)

    def _reply(self, pages: Iterator[Reply], until: float) -> None:
        """Send a page in each step of the loop, as fast as the supervisor reads; give up after a time."""
        if self._channel.has_unsent:
            self._channel.flush()
        if not self._channel.has_unsent:
            page = next(pages, None)
            if page is not None and self._channel.send(page):
                self._loop.call_soon(self._reply, pages, until)
        elif self._loop.time() < until:
            self._loop.call_later(REPLY_PAUSE_S, self._reply, pages, until)

    def _drain_within(self, timeout_s: float, notice_s: float = 0.0) -> None:
        """Begin a drain, or shorten it: of several orders, the one that ends first counts."""
        notice_by = self._loop.time() + notice_s
        self._notice_by = min(self._notice_by, notice_by)
        self._drain_by = min(self._drain_by, notice_by + timeout_s)
        self._hurry.set()
        self._stop.set()

    async def _drain(self) -> None:
        self._slot.state = State.DRAINING
        if self._drain_by == math.inf:  # SIGTERM from another process, without a time
            self._drain_within(self._drain_timeout_s)
        await self._give_notice()
        self._door.stop_accepting()
        live = len(self._door.sessions)
        self._channel.send(Draining(live), timeout_s=SEND_TIMEOUT_S)
        drained = False
        while not drained:
            self._hurry.clear()
            left_s = max(0.0, self._drain_by - self._loop.time())
            drained = await self._unless_hurried(self._door.drain(left_s))
        await self._door.close()
        for app in reversed(self._apps):
            await self._shut_down(app)
        await self._end_left_overs()
        self._slot.state = State.STOPPED
        self._channel.send(Stopped(), timeout_s=SEND_TIMEOUT_S)

    async def _give_notice(self) -> None:
        """Go on serving for the notice time, so that balancers see that this server is not ready."""
        while (left_s := self._notice_by - self._loop.time()) > 0:
            self._hurry.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), left_s)

    async def _unless_hurried(self, draining: Coroutine[object, object, None]) -> bool:
        """Await a drain. Cancel it and return False if its time has changed meanwhile."""
        drain = asyncio.create_task(draining, name="drain")
        hurry = asyncio.create_task(self._hurry.wait(), name="wait for another drain time")
        await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if drain.done():
            drain.result()
            return True
        drain.cancel()
        await asyncio.wait((drain,))
        return False

    async def _shut_down(self, app: App) -> None:
        # wait_for would wait for a task that ignores its cancellation.
        task = asyncio.create_task(_call(app.on_shutdown), name="on_shutdown")
        done, _ = await asyncio.wait((task,), timeout=ON_SHUTDOWN_S)
        if not done:
            logger.error(
                "on_shutdown of %s takes longer than %g s: the worker ends without waiting for it",
                app.name,
                ON_SHUTDOWN_S,
            )
        elif not task.cancelled() and task.exception() is not None:
            logger.error("on_shutdown of %s failed", app.name, exc_info=task.exception())

    async def _end_left_overs(self) -> None:
        if self._guest_of is not None:
            return
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, deaf = await asyncio.wait(tasks, timeout=LEFT_OVER_S)
        if deaf:
            names = ", ".join(sorted(task.get_name() for task in deaf))
            logger.warning("%d tasks ignore their cancellation and end with the process: %s", len(deaf), names)


def tune_collector() -> None:
    """Adapt the garbage collector to a worker that has started: first modules, then thousands of conversations.

    All objects that exist now live as long as the process, so the collector skips them from now on. The supervisor has
    done the same before the fork; this adds the APP. The collector is never disabled: several LLM SDKs stop an
    abandoned request only when it runs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


async def _call(function: Handler | None) -> None:
    """Call user code, plain or coroutine."""
    if function is not None:
        result = function()
        if inspect.isawaitable(result):
            await result
