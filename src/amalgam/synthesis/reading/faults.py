"""Faults of answers, as the person at the terminal is told of them: what most have in common, and what helps."""

from collections.abc import Mapping

_EXAMPLE = 70  # characters of an example
_HANDFUL = 5  # answers, fewer of which say nothing about the rest

_REASONING = (
    "turn off the reasoning of a model that reasons by `llm.body`, such as `{chat_template_kwargs: {enable_thinking: "
    "false}}` or `{reasoning_effort: low}`"
)
_WORDING = "take another model, or change the wording in `data/templates` or the task's `task.yaml`"
# What is the matter, and what helps. More rows never do.
_HELP = {
    "error": ("end with an error of the endpoint", "look into its log, or take another endpoint or model"),
    "refusal": ("are refused or filtered", _WORDING),
    "cut_off": ("are cut off", f"raise `synthesis.max_tokens`, or {_REASONING}"),
    "thinking": ("hold nothing but thinking", f"{_REASONING}, or raise `synthesis.max_tokens`"),
    "announcement": ("only announce a response", _WORDING),
    "empty": ("are empty", "look into the endpoint's log and chat template, or take another model"),
    "malformed": (
        "are not in the format that was asked for",
        "set `prompts.responses: 1` and `prompts.format: text`, or take another model",
    ),
}


def shorten_example(text: str) -> str:
    """Write the beginning of a text in quotation marks on one line, with escapes for what cannot be printed."""
    line = " ".join(text[: 4 * _EXAMPLE].split())
    return repr(line if len(line) <= _EXAMPLE else f"{line[:_EXAMPLE].rstrip()}…")


def phrase_main_fault(
    counts: Mapping[str, Mapping[str, int]], totals: Mapping[str, int], examples: Mapping[tuple[str, str], str]
) -> tuple[str, str]:
    """Say what is the matter with most answers, of all or of a label, or "" where it is not one thing.

    Args:
        counts: how many answers have a fault, by label and fault.
        totals: how many answers there are, by label.
        examples: the text of one answer, by label and fault.

    Returns:
        The fault, and half a sentence with one example and with what helps.
    """
    for labels in ([*counts], *([label] for label in counts)):
        total = sum(totals[label] for label in labels)
        faults = {fault for label in labels for fault in counts[label]}
        found = [(sum(counts[label].get(fault, 0) for label in labels), fault) for fault in sorted(faults)]
        count, fault = max(found, default=(0, ""))
        if count >= _HANDFUL and 2 * count > total:
            what, helps = _HELP[fault]
            texts = (examples.get((label, fault), "") for label in labels)
            text = next((text for text in texts if text), "")
            of = f" for label {labels[0]!r}" if len(labels) < len(counts) else ""
            such = f", such as {shorten_example(text)}" if text else ""
            return fault, f"{count} of {total} answers{of} {what}{such}: {helps}"
    return "", ""


def phrase_unread(who: str, rows: int, unread: int, text: str, fault: str) -> str:
    """Say that most of a grader's grades cannot be read, or "" where they can.

    Args:
        who: the grader.
        rows: how many it was asked to grade.
        unread: how many of the grades could not be read.
        text: an answer that could not be read.
        fault: what is wrong with the whole of it, if anything.
    """
    if 2 * unread <= rows:
        return ""
    found = f"no readable grade of {rows} rows" if unread == rows else f"{rows - unread} readable grades of {rows} rows"
    so = "it has no score" if unread == rows else "its score says little"
    such = f" (it answered {shorten_example(text)})" if text else ""
    more = f"{_REASONING}, or give it more tokens there, such as `{{max_tokens: 2000}}`"
    helps = more if fault in ("cut_off", "thinking") else "take another model"
    return f"{who} gave {found}{such}, so {so}: {helps}"
