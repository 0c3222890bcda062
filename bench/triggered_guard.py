"""The cheapest guard in the triggerer, for bench/guard.py: a task that sends one command to Redis."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TaskSuccessEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.triggers.base import TriggerEvent

KEY = "triggered"


class TriggeredGuard(BaseOperator):
    """Sends one command to Redis, without a worker."""

    start_from_trigger = True

    def __init__(self, *, command: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=f"{__name__}.RedisCommand", next_method="execute", trigger_kwargs={"command": command}
        )


class RedisCommand(BaseTrigger):
    """Sends one command and ends the task as successful."""

    def __init__(self, command: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.command = command

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments with which a triggerer creates this trigger."""
        return f"{__name__}.RedisCommand", {"command": self.command}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Send the command in a thread, as a blocking client has to do it."""
        await asyncio.to_thread(self._send)
        yield TaskSuccessEvent(xcoms={"return_value": {"key": KEY}})

    def _send(self) -> None:
        from redis import Redis

        with Redis.from_url(os.environ["AIRFLOW_CONN_IAM_REDIS"]) as client:
            client.execute_command(
                self.command, KEY, *(["here", "EX", "60"] if self.command == "SET" else [])
            )
