"""What can go wrong in a way that a user can mend.

The text of each is one sentence for the person at the terminal: what is wrong, where, what to do.
"""


class AmalgamError(Exception):
    """A failure that its reader can act on; shown without a traceback. `exit_code` is what the process ends with."""

    exit_code = 2


class ParamsError(AmalgamError):
    """params.yaml: an unknown key, a wrong type, a value out of range."""


class DataError(AmalgamError):
    """A task, its rows, or a file between two stages."""


class ModelError(AmalgamError):
    """A base model is missing, or its bytes are not the pinned ones."""


class EndpointError(AmalgamError):
    """An LLM endpoint refuses, fails or goes away, and trying again does not help."""


class BudgetError(AmalgamError):
    """`llm.budget_usd` or `llm.max_requests` does not allow another request."""


class Interrupted(AmalgamError):  # noqa: N818 - it is no error of anyone
    """The user ended the run before it was done; what had come is kept."""

    exit_code = 130


_FULL = ("No space left on device", "Disk quota exceeded")  # as the system says it


def explain_full_disk(error: Exception) -> str:
    """Say in one sentence what helps where an error tells of a full disk; "" for all others.

    By its text: the libraries that write weights raise exceptions of their own, with what the system said inside.
    """
    if not any(words in str(error) for words in _FULL):
        return ""
    return (
        "the disk is full, so this could not be written: free some space (`dvc gc --all-commits --all-experiments` "
        "deletes from DVC's cache what no commit and no experiment names), then run the same command again"
    )
