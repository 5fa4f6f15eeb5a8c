"""What a child process has to do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

Place = tuple[int, str]
"""Position of a case in the plan, and the key of a kernel."""

MEMORY_PASS = 0


@dataclass(frozen=True)
class Orders:
    """What one child process has to do.

    Attributes:
        plan: The run.
        pass_: Number of the pass, from 1; 0 measures memory instead of time.
        deadline: On the system's monotonic clock, when the pass should be over.
        allowance: Seconds of the budget for one pass, the same for all: what is too slow in one is so in each.
        budget: As the person wrote it, for messages.
        done: What need not be done (again).
        alone: The one thing to do, if there is one: where a process was lost, and nothing else may be to blame.
        max_bytes: Memory that the process may have; None for no limit.
    """

    plan: str
    pass_: int
    deadline: float
    allowance: float
    budget: str
    done: tuple[Place, ...] = ()
    alone: Place | None = None
    max_bytes: int | None = None

    def wants(self, case: int, kernel: str) -> bool:
        """Whether a kernel is to be measured on a case."""
        place = (case, kernel)
        return place == self.alone if self.alone else place not in self.done

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Orders:
        """What `dumps` wrote."""
        values = json.loads(text)
        done = tuple((case, kernel) for case, kernel in values.pop("done"))
        alone = values.pop("alone")
        return cls(**values, done=done, alone=(alone[0], alone[1]) if alone else None)
