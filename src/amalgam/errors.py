"""What can go wrong in a way that a user can mend.

    AmalgamError
    ├── ParamsError     params.yaml: an unknown key, a wrong type, a value out of range
    ├── DataError       a task, its rows, or a file between two stages
    ├── ModelError      a base model that cannot be had or is not what was pinned
    ├── EndpointError   an LLM endpoint that refuses, fails or goes away
    ├── BudgetError     a limit on what is sent or spent is reached
    └── Interrupted     the user ended the run

The text of each is one sentence for the person at the terminal: what is wrong, where, what to do.
"""


class AmalgamError(Exception):
    """A failure that its reader can act on; shown without a traceback.

    Attributes:
        exit_code: what the process ends with.
    """

    exit_code = 2


class ParamsError(AmalgamError):
    """params.yaml holds something that no stage can use."""


class DataError(AmalgamError):
    """A task, its rows or a stage's input is not as it must be."""


class ModelError(AmalgamError):
    """A base model is missing, or its bytes are not the pinned ones."""


class EndpointError(AmalgamError):
    """An LLM endpoint gave an error that trying again does not mend."""


class BudgetError(AmalgamError):
    """`llm.budget_usd` or `llm.max_requests` does not allow another request."""


class Interrupted(AmalgamError):  # noqa: N818 - it is no error of anyone
    """The user ended the run before it was done; what had come is kept."""

    exit_code = 130
