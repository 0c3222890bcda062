"""The arguments of row processing, checked when the DAG file is parsed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError, shown_at_the_call
from iam_watcher.walk.claim import function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST_ROWS = 5_000  # of a batch: a longer list of keys gains nothing
SHORTEST_CLAIM = timedelta(seconds=1)
LONGEST_IDLE_TIME = timedelta(days=1)
ATTEMPTS = 5

OF_A_CLAIM = ("claimed_at_column", "claimed_by_column")
CLAIMED_AT = "claimed_at"  # the column, if none is named


@shown_at_the_call
@dataclass(frozen=True, kw_only=True)
class RowProcessing:
    """Which rows are processed and how; see `ProcessRowsOperator` for each argument."""

    python_callable: Callable[..., Any]
    table: str
    state_column: str
    claim: str | int
    done: str | int
    failed: str | int
    working: str | int | None = None
    claimed_at_column: str | None = None
    claimed_by_column: str | None = None
    attempts_column: str | None = None
    retry_at_column: str | None = None
    error_column: str | None = None
    age_column: str | None = None
    columns: Sequence[str] | None = None
    per: function.Per = "row"
    batch: int = 100
    claim_timeout: timedelta = timedelta(minutes=5)
    max_attempts: int | None = None
    backoff: timedelta = timedelta(seconds=10)
    stop_after: int | None = 10
    max_idle_time: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        """Check every argument.

        Raises:
            JobArgumentError: one is not valid, or does not go with another.
        """
        arguments.one_of("per", self.per, get_args(function.Per))
        function.check(self.python_callable, self.per)
        self._check_columns()
        working = {} if self.working is None else {"working": self.working}
        check_states({"claim": self.claim, **working, "done": self.done, "failed": self.failed})
        check_claim_timeout(self.claim_timeout)
        arguments.duration("backoff", self.backoff)
        if _number("batch", self.batch) > MOST_ROWS:
            raise JobArgumentError(f"batch is {self.batch}; expected at most {MOST_ROWS}")
        if self.stop_after is not None:
            _number("stop_after", self.stop_after)
        self._check_attempts()
        self._check_idle_time()

    @property
    def holds(self) -> bool:
        """Whether the rows stay locked while the function works."""
        return self.working is None

    @property
    def attempts(self) -> int | None:
        """After how many attempts a row fails; None for no limit."""
        if self.attempts_column is None:
            return None
        return ATTEMPTS if self.max_attempts is None else self.max_attempts

    @property
    def further_columns(self) -> dict[str, str]:
        """The names of the columns besides the state, by argument."""
        names = {
            "claimed_at_column": self.claimed_at_column,
            "claimed_by_column": self.claimed_by_column,
            "attempts_column": self.attempts_column,
            "retry_at_column": self.retry_at_column,
            "error_column": self.error_column,
        }
        if not self.holds:
            names["claimed_at_column"] = self.claimed_at_column or CLAIMED_AT
            names["claimed_by_column"] = self.claimed_by_column or "claimed_by"
        return {argument: name for argument, name in names.items() if name is not None}

    def _check_columns(self) -> None:
        arguments.identifier("table", self.table)
        if self.age_column is not None:
            arguments.identifier("age_column", self.age_column)
        if self.columns is not None:
            arguments.listed_names("columns", self.columns)
        check_columns(self.state_column, self.further_columns)
        if self.holds:
            check_holding({argument: getattr(self, argument) for argument in OF_A_CLAIM})

    def _check_attempts(self) -> None:
        if self.max_attempts is None:
            return
        _number("max_attempts", self.max_attempts)
        if self.attempts_column is None:
            raise JobArgumentError(
                f"max_attempts is {self.max_attempts}, but there is no `attempts_column` to count them in; "
                "name the column, or remove max_attempts"
            )
        if self.max_attempts == 1 and self.batch > 1 and not self.holds:
            raise JobArgumentError(
                f"max_attempts is 1 and batch is {self.batch}: if a worker died, all rows of its batch would "
                "fail. Use max_attempts=2 or more, or batch=1"
            )

    def _check_idle_time(self) -> None:
        idle = self.max_idle_time
        if not isinstance(idle, timedelta) or not timedelta(0) <= idle <= LONGEST_IDLE_TIME:
            raise JobArgumentError(
                f"max_idle_time is {idle!r}; expected a timedelta from 0 to {LONGEST_IDLE_TIME}, such as "
                "timedelta(minutes=1)"
            )
        if idle and self.retry_at_column is None:
            raise JobArgumentError(
                f"max_idle_time is {idle}, but there is no `retry_at_column`: a run that waits for rows "
                "would try a row that fails again and again without a pause. Name the column, or remove "
                "max_idle_time"
            )


def check_states(states: Mapping[str, object]) -> None:
    """Check the states, each by the argument that gives it.

    Raises:
        JobArgumentError: one is no text and no whole number, or two are equal.
    """
    seen: dict[object, str] = {}
    for argument, value in states.items():
        if not isinstance(value, (str, int)) or isinstance(value, bool) or arguments.is_template(value):
            raise JobArgumentError(f"{argument} is {value!r}; expected a state, as a text or a number")
        if isinstance(value, Enum):
            raise JobArgumentError(f"{argument} is {value!r}; expected the Enum's value {value.value!r}")
        if value in seen:
            raise JobArgumentError(
                f"{argument} is {value!r}, and so is {seen[value]}; expected another state"
            )
        seen[value] = argument


def check_columns(state_column: str, further: Mapping[str, str]) -> None:
    """Check the names of the columns that row processing writes.

    Args:
        state_column: the column of the state.
        further: the others, by the arguments that name them.

    Raises:
        JobArgumentError: no column can have a name, or two arguments name one column.
    """
    arguments.identifier("state_column", state_column)
    taken = {state_column.lower(): "state_column"}
    for argument, name in further.items():
        arguments.identifier(argument, name)
        if (other := taken.setdefault(name.lower(), argument)) != argument:
            raise JobArgumentError(f"{argument} is {name!r}, and so is {other}; expected another column")


def check_holding(of_a_claim: Mapping[str, object]) -> None:
    """Check that no column of a claim is given where there is no `working` state.

    Raises:
        JobArgumentError: one is.
    """
    for argument, name in of_a_claim.items():
        if name is not None:
            raise JobArgumentError(
                f"{argument} is {name!r}, but there is no `working` state: the rows stay locked, and nothing "
                "is written when they are claimed. Give `working`, or remove it"
            )


def check_claim_timeout(value: timedelta) -> None:
    """Check the time after which a claim that was not renewed is taken over.

    Raises:
        JobArgumentError: it is no duration, or too short.
    """
    if arguments.duration("claim_timeout", value) < SHORTEST_CLAIM:
        raise JobArgumentError(f"claim_timeout is {value}; expected at least 1 second")


def _number(name: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise JobArgumentError(f"{name} is {value!r}; expected a whole number over 0")
    return value
