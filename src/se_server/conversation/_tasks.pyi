from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Protocol

from typing_extensions import disjoint_base  # type checkers know it without the package

from se_server.conversation._batch import Batch, Due

class EagerTask(Task[Any]):
    """A task of `start`. asyncio's own class never sees its coroutine, so all that would look for it is here."""

@disjoint_base
class Steps(Due):
    """Drives the coroutine of one task, called by the batch and by the futures that it awaits."""
    def __call__(self, future: Future[Any]) -> None:
        """Take the next step: a future is done."""

@disjoint_base
class Beginning(Due):
    """A task of asyncio's that is to start."""

class _Job(Protocol):
    task: Task[Any] | None

def start(
    coroutine: Coroutine[Any, Any, Any],
    loop: AbstractEventLoop,
    batch: Batch | None,
    name: str,
    job: _Job,
    context: Context,
) -> None:
    """Start a coroutine as a task, in the loop's next step.

    Args:
        coroutine: what to run.
        loop: the running event loop; in debug mode tasks have to note where they were made, and these do not.
        batch: of the loop; None if it has none.
        name: the task's.
        job: its attribute `task` becomes the task; where asyncio's own start eagerly, the coroutine has to see to that.
        context: the `contextvars.Context` that the task gets a copy of.
    """
