"""One pass: child processes until every kernel has its row of every case."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import says_exhausted
from gradkernels.bench.isolation.heartbeat import UNKNOWN, Turn
from gradkernels.bench.isolation.limits import Limits
from gradkernels.bench.run.order import MEMORY_PASS, Orders, Place
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.supervisor import KILLED, Event, WorkerDied, follow
from gradkernels.key import Key
from gradkernels.record import Measurement, Status

TRIES = 2
"""Children that may be lost at one case in no kernel's turn, none getting further, before something is made of it."""

KILLS = 3
"""The same of children that someone killed while one kernel was alone in them."""

STARTS = 5
"""The same of children that are lost at their start."""


@dataclass(frozen=True)
class Quarantine:
    """Why a kernel is not tried again in this run: it ended a process, or hung.

    Attributes:
        n: Where; smaller sizes are still tried.
        status: For its rows.
        reason: Likewise.
    """

    n: int
    status: str
    reason: str


@dataclass
class Pass:
    """One pass.

    A child that is lost costs at most the kernel that is to blame. The one whose turn it was may be a victim, of
    another's stray pointer or greed for memory, or of a person with `kill`: so it is tried again alone, when the
    others are through, and what happens then is its own doing. So is each kernel of a case in which children are lost
    between turns. Only a hang is taken for its own at once.

    Attributes:
        plan: The run.
        orders: For a child that has all to do.
        limits: Of each child.
        over: Case and name of what has its row.
        strikes: Of the run so far, by kernel; more are added.
        hear: Called with the events of this pass, and with the outcomes that lost children leave.
        suspects: To be tried alone.
        lost: Children lost, by case and kernel whose turn it was, since one got further.
    """

    plan: Plan
    orders: Orders
    limits: Limits
    over: set[Place]
    strikes: dict[str, Quarantine]
    hear: Callable[[Event], None]
    suspects: deque[Place] = field(default_factory=deque)
    lost: Counter[tuple[int, int]] = field(default_factory=Counter)

    def go(self) -> None:
        """Do all of it.

        Raises:
            OSError: Children are lost again and again, and no kernel is to blame.
        """
        self._tell_strikes()
        self._children(None)
        while self.suspects:
            self.lost.clear()
            self._children(self.suspects[0])
            self.suspects.popleft()

    def _children(self, alone: Place | None) -> None:
        """Start children until one gets to the end, or there is nothing left to do."""
        variables = {**environment.child_environment(self.plan.threads)}
        if self.orders.pass_ == MEMORY_PASS:
            variables |= environment.memory_environment()
        inherit = (self.plan.data,) if isinstance(self.plan.data, int) else ()
        while alone not in self.over if alone else set(self._left()) - set(self.suspects):
            try:
                follow(self._orders(alone), variables, self.limits.timeout, self._hear, inherit)
                return
            except WorkerDied as end:
                self._blame(end, alone)

    def _orders(self, alone: Place | None) -> Orders:
        done = sorted(self.over | set(self.suspects))
        return replace(self.orders, done=tuple(done), alone=alone)

    def _left(self) -> list[Place]:
        """What has no row yet."""
        places = ((i, kernel.key) for i, case in enumerate(self.plan.cases) for kernel in self.plan.kernels_of(case))
        return [place for place in places if place not in self.over]

    def _hear(self, event: Event) -> None:
        place = event["case"], event["kernel"]
        if place[0] < 0:
            raise ValueError(f"there is no case {place[0]}")
        # The control is in every child's race, but a case and pass have one row of it.
        if place not in self.over:
            self.hear(event)
            self.over.add(place)
            self.lost.clear()

    def _blame(self, end: WorkerDied, alone: Place | None) -> None:
        """Draw the consequences of a lost child."""
        index, position = self._at_work(end.turn)
        self.lost[index, position] += 1
        times = self.lost[index, position]
        if position >= 0 and end.status == "timeout":
            self._strike((index, self.plan.kernels[position]), end)
        elif alone and times >= (KILLS if end.reason == KILLED else 1 if position >= 0 else TRIES):
            self._strike(alone, end)
        elif position >= 0 and not alone:
            self.suspects.append((index, self.plan.kernels[position]))
        elif index >= 0 and not alone and times >= TRIES:
            self.suspects.extend(place for place in self._left() if place[0] == index and place not in self.suspects)
        elif times >= STARTS:
            raise OSError(f"a measuring process could not do its work: {self._said(end)}")

    def _at_work(self, turn: Turn) -> tuple[int, int]:
        """Positions of the case and the kernel; of the first case that is left if a kernel wrote over the page."""
        if -1 <= turn.case < len(self.plan.cases) and UNKNOWN <= turn.kernel < len(self.plan.kernels):
            return turn.case, turn.kernel
        return next((index for index, _ in self._left()), -1), UNKNOWN

    def _strike(self, place: Place, end: WorkerDied) -> None:
        index, kernel = place
        self.strikes[kernel] = Quarantine(self.plan.cases[index].n, end.status, self._said(end))
        self._tell_strikes()

    def _said(self, end: WorkerDied) -> str:
        limited = says_exhausted(end.reason) and self.limits.max_bytes is not None
        return end.reason + (f" (--max-bytes {self.limits.max_bytes})" if limited else "")

    def _tell_strikes(self) -> None:
        """Give what is not tried again its outcome."""
        for index, kernel in self._left():
            n, strike = self.plan.cases[index].n, self.strikes.get(kernel)
            if strike and strike.n <= n:
                reason = strike.reason if strike.n == n else f"not tried, since at n = {strike.n} {strike.reason}"
                measurement = Measurement(kernel, Key.parse(kernel).backend, Status(strike.status), reason)
                self._hear({"event": "outcome", "case": index, **asdict(measurement)})
