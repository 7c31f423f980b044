"""The tasks of turns: the loop's batch runs their steps, and a turn that ends at once costs almost no task.

From Python 3.12 on, asyncio has tasks that start eagerly. Python 3.11 gets its own here. Its first step, and the one
after `asyncio.sleep(0)`, are the batch's, and need no handle of the loop; one that has ended in its first step was never
registered. That is a sixth of the instructions of a short turn.

Done with what asyncio documents for task implementations of others (docs.python.org, "Extending asyncio"). What a step
does is what `asyncio.tasks.Task` of Python 3.11 does; a test compares the two. What differs: `all_tasks()` shows a task
when it first waits, and who awaits one that was cancelled gets a new `CancelledError` with the same message.
"""

from cpython.dict cimport PyDict_DelItem, PyDict_SetDefault
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF

from se_server.conversation._batch cimport Batch, Due

import _asyncio
import asyncio
import sys
from asyncio import CancelledError, Future, Task
from asyncio.tasks import _register_task
from functools import partial
from types import GeneratorType

cdef extern from "Python.h":
    int PYGEN_RETURN
    int PYGEN_NEXT
    int PyIter_Send(object iterator, object value, PyObject** result) except -1
    object PyContext_Copy(object context)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

    ctypedef int (*initproc)(object, tuple, PyObject*) except -1

    ctypedef struct PyTypeObject:
        initproc tp_init
        object (*tp_new)(PyTypeObject*, tuple, PyObject*)

cdef object _set_result = Future.set_result
cdef object _set_exception = Future.set_exception
cdef object _cancel = Future.cancel

# By event loop; Python 3.14 keeps the current tasks elsewhere.
cdef dict _current = getattr(asyncio.tasks, "_current_tasks", {})
cdef bint _HAS_EAGER = sys.version_info >= (3, 12)
# Unless a library has replaced them, as nest_asyncio does.
cdef bint _HAS_OWN = sys.version_info[:2] == (3, 11) and Task is _asyncio.Task and Future is _asyncio.Future


cdef inline int enter(loop, task) except -1:
    """Make a task the current one. `asyncio._enter_task` does the same in three times as long."""
    current = <object>PyDict_SetDefault(_current, loop, task)
    if current is not task:
        raise RuntimeError(f"Cannot enter into task {task!r} while another task {current!r} is being executed.")
    return 0


cdef inline loop_of(future):
    try:
        return future.get_loop()
    except AttributeError:
        return future._loop


class EagerTask(Task):
    """A task of `start`. asyncio's own class never sees its coroutine; methods that need the coroutine are here."""

    __slots__ = ("_steps",)

    def cancel(self, msg=None):
        return (<Steps>self._steps).cancel(self, msg)

    def cancelling(self):
        return (<Steps>self._steps).cancels

    def uncancel(self):
        steps = <Steps>self._steps
        if steps.cancels > 0:
            steps.cancels -= 1
        return steps.cancels

    def get_coro(self):
        return (<Steps>self._steps).coroutine

    def get_name(self):
        return (<Steps>self._steps).name

    def set_name(self, value, /):
        (<Steps>self._steps).name = str(value)

    # asyncio looks at these to show a task, anyio to cancel one.

    @property
    def _coro(self):
        return (<Steps>self._steps).coroutine

    @property
    def _fut_waiter(self):
        return (<Steps>self._steps).waiter

    @property
    def _must_cancel(self):
        return bool((<Steps>self._steps).must_cancel)


cdef class Steps(Due):
    """Drives the coroutine of one task, called by the batch and by the futures that it awaits."""

    cdef object task            # None when it is done
    cdef Batch batch
    cdef object coroutine
    cdef object context
    cdef object waiter          # the future that is awaited
    cdef object cancel_message
    cdef str name
    cdef Py_ssize_t cancels     # requested, and not taken back
    cdef bint must_cancel       # at the next step
    cdef bint is_registered     # asyncio shows it, and says so when it is lost

    cdef int run(self) except -1:
        """Take the first step, or one after a pause."""
        task = self.task
        PyContext_Enter(self.context)
        try:
            self.step(None)
        finally:
            PyContext_Exit(self.context)
            if self.task is not None and not self.is_registered:
                self.is_registered = True
                _register_task(task)
                task._log_destroy_pending = True
        return 0

    def __call__(self, future):
        """Take the next step, after an awaited future is done."""
        error = None
        try:
            future.result()
        except BaseException as its_error:
            error = its_error
        self.step(error)

    cdef step(self, error):
        """Take a step, in the task's context."""
        task = self.task
        if self.must_cancel:
            self.must_cancel = False
            if not isinstance(error, CancelledError):
                error = task._make_cancelled_error()
        self.waiter = None
        enter(self.batch.loop, task)
        try:
            self.advance(task, error)
        finally:
            PyDict_DelItem(_current, self.batch.loop)

    cdef cancel(self, task, message):
        task._log_traceback = False
        if self.task is None:
            return False
        self.cancels += 1
        if self.waiter is not None and self.waiter.cancel(msg=message):
            return True
        self.must_cancel = True
        self.cancel_message = task._cancel_message = message
        return True

    cdef advance(self, task, error):
        cdef PyObject* result = NULL
        cdef bint returned
        try:
            if error is None:
                returned = PyIter_Send(self.coroutine, None, &result) == PYGEN_RETURN
                value = <object>result
                Py_XDECREF(result)
            else:
                try:
                    value = self.coroutine.throw(error)
                    returned = False
                except StopIteration as stop:
                    value = stop.value
                    returned = True
            if not returned:
                self.wait(task, value)
            elif self.must_cancel:  # cancelled right before its end
                self.must_cancel = False
                self.task = None
                _cancel(task, self.cancel_message)
            else:
                self.task = None
                _set_result(task, value)
        except CancelledError as cancelled:
            self.task = None
            _cancel(task, cancelled.args[0] if cancelled.args else None)
        except (KeyboardInterrupt, SystemExit) as leaving:
            self.task = None
            _set_exception(task, leaving)
            raise
        except BaseException as failure:
            self.task = None
            _set_exception(task, failure)

    cdef wait(self, task, awaited):
        """Arrange the next step for when the awaited object is done."""
        if awaited is None:  # asyncio.sleep(0)
            self.batch.add(self)
            return
        blocking = getattr(awaited, "_asyncio_future_blocking", None)
        if blocking is None:
            if isinstance(awaited, GeneratorType):
                self.fail(f"yield was used instead of yield from for generator in task {task!r} with {awaited!r}")
            else:
                self.fail(f"Task got bad yield: {awaited!r}")
        elif loop_of(awaited) is not self.batch.loop:
            self.fail(f"Task {task!r} got Future {awaited!r} attached to a different loop")
        elif not blocking:
            self.fail(f"yield was used instead of yield from in task {task!r} with {awaited!r}")
        elif awaited is task:
            self.fail(f"Task cannot await on itself: {task!r}")
        else:
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(self, context=self.context)
            self.waiter = awaited
            if self.must_cancel and awaited.cancel(msg=self.cancel_message):
                self.must_cancel = False

    cdef fail(self, str why):
        """Raise in the coroutine, at its next step, that it awaits an object that cannot be awaited."""
        self.batch.loop.call_soon(_throw, self, RuntimeError(why), context=self.context)


def _throw(Steps steps not None, error):
    steps.step(error)


cdef class Beginning(Due):
    """A task of asyncio that has not started."""

    cdef object make

    cdef int run(self) except -1:
        self.make()
        return 0


def start(coroutine, loop, Batch batch, str name not None, job, context):
    """Start a coroutine as a task, in the loop's next step.

    Args:
        coroutine: what to run.
        loop: the running event loop; in debug mode tasks have to note where they were made, and these do not.
        batch: of the loop; None if it has none.
        name: the task's.
        job: its attribute `task` becomes the task; where asyncio's own start eagerly, the coroutine has to see to that.
        context: the `contextvars.Context` that the task gets a copy of.
    """
    cdef Steps steps
    cdef Beginning beginning
    if batch is None:
        job.task = make_task(coroutine, loop, name, context)
    elif _HAS_OWN:
        steps = Steps.__new__(Steps)
        task = (<PyTypeObject*>EagerTask).tp_new(<PyTypeObject*>EagerTask, (), NULL)
        (<PyTypeObject*>Future).tp_init(task, (), NULL)
        task._steps = steps
        job.task = steps.task = task
        steps.batch = batch
        steps.coroutine = coroutine
        steps.context = PyContext_Copy(context)
        steps.name = name
        batch.add(steps)
    elif _HAS_EAGER:
        beginning = Beginning.__new__(Beginning)
        own = PyContext_Copy(context)
        beginning.make = partial(Task, coroutine, loop=loop, name=name, context=own, eager_start=True)
        batch.add(beginning)
    else:
        job.task = make_task(coroutine, loop, name, context)


cdef make_task(coroutine, loop, name, context):
    """Make a task of asyncio, which copies the current context."""
    return PyContext_Copy(context).run(partial(Task, coroutine, loop=loop, name=name))
