"""Calls of code that is not ours: each in a thread of its own, which may hang for ever and takes nothing else with it.

Python cannot end a thread. A call that is not back by its deadline is given up, and its thread stays until it comes
back, if it ever does. Of one name at most `MOST_LATE` may be late: until one is back nothing of that name is called,
so that a system that hangs keeps a few threads and not all. Threads are daemons: the process ends without them.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from penchant.apps.arena.systems import GenerationError

Result = TypeVar("Result")

MOST_LATE = 2  # as a system is asked twice, so that a single lost answer does not take the second try


class Calls:
    """Who is being called, and who is late; of one event loop."""

    def __init__(self) -> None:
        self._late: Counter[str] = Counter()

    @property
    def unavailable(self) -> set[str]:
        """Names of which so many calls are late that nothing more is called."""
        return {name for name, count in self._late.items() if count >= MOST_LATE}

    async def __call__(self, name: str, work: Callable[..., Result], *given: Any, timeout: float) -> Result:
        """What some work comes to.

        Args:
            name: whose work it is.
            work: to be called in a thread.
            given: what it is called with.
            timeout: seconds until it is given up.

        Raises:
            GenerationError: too many calls of this name are late, or the work raised what is no ordinary error.
            TimeoutError: the call is late.
            Exception: whatever the work raised.
        """
        if name in self.unavailable:
            raise GenerationError(f"{MOST_LATE} calls of {name!r} have not come back; nothing more is asked of it.")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def settle(result: Result | None, error: BaseException | None) -> None:
            if done.cancelled():
                self._late[name] -= 1
            elif error is None:
                done.set_result(result)  # type: ignore[arg-type]
            elif isinstance(error, Exception) and not isinstance(error, StopIteration):
                done.set_exception(error)
            else:  # what no future takes, and what would end the loop
                done.set_exception(GenerationError(f"{name!r} raised {type(error).__name__}."))

        def run() -> None:
            result, error = None, None
            try:
                result = work(*given)
            except BaseException as raised:
                error = raised
            with suppress(RuntimeError):  # the arena has closed meanwhile
                loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=run, name=f"arena-{name}", daemon=True).start()
        try:
            return await asyncio.wait_for(done, timeout)
        except (TimeoutError, asyncio.CancelledError):
            if done.cancelled():
                self._late[name] += 1
            raise
