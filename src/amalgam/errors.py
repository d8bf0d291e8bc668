"""Errors that a user can fix, each with one sentence: what is wrong, where, and what to do."""


class AmalgamError(Exception):
    """A failure that the reader can act on, shown without a traceback; the process ends with `exit_code`."""

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


class Interrupted(AmalgamError):  # noqa: N818 - it is nobody's mistake
    """The user ended the run before it was done; the answers so far are kept."""

    exit_code = 130


_FULL = ("No space left on device", "Disk quota exceeded")  # in the words of the system


def explain_full_disk(error: Exception) -> str:
    """Return one sentence that says what helps if an error reports a full disk; "" for all others."""
    # The libraries that write weights raise their own exceptions, which quote the system's message.
    if not any(words in str(error) for words in _FULL):
        return ""
    return (
        "the disk is full, so this could not be written: free some space (`dvc gc --all-commits --all-experiments` "
        "deletes from DVC's cache what no commit and no experiment uses), then run the same command again"
    )
