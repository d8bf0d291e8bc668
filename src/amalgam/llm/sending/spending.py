"""What a run may still send: the budget in dollars and the number of requests."""

from amalgam.errors import BudgetError
from amalgam.llm.endpoint import Limits
from amalgam.llm.journal import Journal
from amalgam.llm.request import Request
from amalgam.llm.tokens import bound_tokens

_ROUNDING = 1e-9  # US dollars that a sum of many costs may be off
_AHEAD = 1.5  # times what is needed is put down at once, so that the journal is rarely written to


class Spending:
    """The account of a run.

    What a request may cost at most is set aside when it is sent, so that the answers in flight cannot pass the budget
    together; when it is over, what it did cost is counted instead. Where that stays unknown, since it failed or the
    answer does not say, the most counts. The journal has counted that before anything is sent, so that not even a run
    that is killed has spent more than it says.

    Attributes:
        sent: requests so far, each try counted.
    """

    def __init__(self, limits: Limits, journal: Journal) -> None:
        """Open the account with what the journal's answers have cost so far.

        Raises:
            BudgetError: there is a budget, but no price of the model.
        """
        if limits.budget_usd is not None and limits.price is None:
            raise BudgetError(
                "`llm.budget_usd` is set, but no price of `llm.model` is known: add it to data/prices.yaml, or set "
                "`llm.budget_usd: null`"
            )
        self._limits, self._journal = limits, journal
        self._spent = journal.read_spending()
        self._reserved = 0.0
        self._unknown = 0.0  # what may have been spent beside the cost of answers, at most
        self._put_down = 0.0  # of both, what the journal counts already
        self.sent = 0

    def find_obstacle(self, request: Request) -> str:
        """Say why a request may not be sent now, or return "" if it may."""
        limits = self._limits
        if limits.max_requests is not None and self.sent >= limits.max_requests:
            return f"`llm.max_requests: {limits.max_requests}` is reached: raise it, or run again to send as many more"
        most = self._bound_cost(request)
        if limits.budget_usd is not None and self._spent + self._reserved + most > limits.budget_usd + _ROUNDING:
            return (
                f"`llm.budget_usd: {limits.budget_usd:g}` is reached: {self._spent:.6f} US dollars are spent, and the "
                f"next request may cost {most:.6f}; raise it to go on"
            )
        return ""

    def reserve(self, request: Request) -> float:
        """Count a request that is sent; return what is set aside for it, in US dollars."""
        self.sent += 1
        most = self._bound_cost(request)
        self._reserved += most
        return most

    def secure(self) -> None:
        """Have the journal count what is set aside; before a request is sent.

        Raises:
            DataError: the journal cannot be written to.
        """
        needed = self._reserved + self._unknown
        if needed > self._put_down:
            self._put_down_to(_AHEAD * needed)

    def settle(self, reserved: float, cost: float | None) -> None:
        """Count what a request did cost instead of what was set aside; None where that is not known."""
        self._reserved -= reserved
        self._spent += reserved if cost is None else cost
        self._unknown += reserved if cost is None else 0.0

    def close(self) -> None:
        """Have the journal count only what remains set aside when all is over.

        Raises:
            DataError: the journal cannot be written to.
        """
        self._put_down_to(self._reserved + self._unknown)

    def _put_down_to(self, usd: float) -> None:
        if usd != self._put_down:
            self._journal.add_spending(usd - self._put_down)
            self._put_down = usd

    def _bound_cost(self, request: Request) -> float:
        return self._limits.price.cost(*bound_tokens(request)) if self._limits.price else 0.0
