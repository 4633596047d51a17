"""Runs requests together that came together.

While the model runs, requests gather; what is there when it is done is its next run. Nobody waits for company: a run
takes along what the same turn of the event loop has read, up to a bound. Many rows at a time run in a thread, so that
they hold up nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np

from pipeline.serving.runtime import Runtime
from pipeline.serving.signature import Rows

T = TypeVar("T")
# Rows, and who is told of their predictions.
Waiting = tuple[Rows, Callable[[np.ndarray | Exception], None]]
# A run of so many rows delays whoever comes meanwhile by some milliseconds; more go to the thread.
TOGETHER_ROWS = 512
# Below this gain a run of several costs as much as several runs, and a request had better not share one.
WORTH_IT = 1.5


class Runner:
    """Predicts for the requests of one process. `ran()` is told of each run of the model."""

    def __init__(self, runtime: Runtime, batching: str, ran: Callable[[], None]) -> None:
        """`batching` is on, off, or auto: on where a measurement at the start says that it helps."""
        self._runtime, self._ran = runtime, ran
        self.together = batching == "on" or (batching == "auto" and runtime.gains_together() >= WORTH_IT)
        self._waiting: list[Waiting] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="many-rows")

    async def predict(self, rows: Rows) -> np.ndarray:
        """Predictions, float64 (rows,)."""
        if len(rows) > TOGETHER_ROWS:
            self._ran()
            return await self.aside(self._runtime.predict, rows)
        answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self.soon(rows, partial(_settle, answer))
        return await answer

    def soon(self, rows: Rows, told: Callable[[np.ndarray | Exception], None]) -> None:
        """Tells the predictions of at most TOGETHER_ROWS rows, or what went wrong, before the loop's next turn."""
        self._waiting.append((rows, told))
        if not self.together:
            self._run()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._run)

    async def aside(self, work: Callable[..., T], *given: Any) -> T:
        """What takes long, in the one thread for it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        while waiting:
            count = rows = 0
            while count < len(waiting) and (count == 0 or rows + len(waiting[count][0]) <= TOGETHER_ROWS):
                rows += len(waiting[count][0])
                count += 1
            self._run_one(waiting[:count])
            waiting = waiting[count:]

    def _run_one(self, asked: list[Waiting]) -> None:
        self._ran()
        try:
            predictions = self._runtime.predict(_joined([rows for rows, _ in asked]))
        except Exception as error:
            # Whatever it is, it is every request's answer, and the server goes on.
            for _, told in asked:
                told(error)
            return
        at = 0
        for rows, told in asked:
            told(predictions[at : at + len(rows)])
            at += len(rows)


def _settle(answer: asyncio.Future[np.ndarray], ran: np.ndarray | Exception) -> None:
    if answer.done():
        return
    if isinstance(ran, Exception):
        answer.set_exception(ran)
    else:
        answer.set_result(ran)


def _joined(several: list[Rows]) -> Rows:
    if len(several) == 1:
        return several[0]
    numbers = np.concatenate([rows.numbers for rows in several])
    return Rows(numbers, np.concatenate([rows.texts for rows in several]), (), ())
