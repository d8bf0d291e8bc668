"""Writes a review as Markdown, for a pull request and for the terminal.

Texts of data and LLMs, and names and values of files, are put into code spans: there nothing is markup, no HTML is
run, nobody is mentioned and no address becomes a link.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from amalgam.report.phrases import format_count, format_difference, format_number, format_share, write_value
from amalgam.review.paired import PRIMARY, Comparison
from amalgam.review.revisions import Change
from amalgam.review.verdict import Review, phrase_ends

_SHOWN = 10  # flips of each kind, and twice as many of other changes; JSON holds all
_LONGEST = 240  # characters of a text
_PLAIN = re.compile(r"(?!.*(?:www\.|//))[\w .,;:()'`%+/\N{NO-BREAK SPACE}\N{MINUS SIGN}-]*", re.IGNORECASE)


def write_markdown(review: Review, *, folded: bool = True) -> str:
    """Write a review in GitHub's Markdown; long lists are folded by HTML, or not."""
    named = ((review.old, review.old_commit), (review.new, review.new_commit))
    names = [f"{name} ({commit[:7]})" if commit and not commit.startswith(name) else name for name, commit in named]
    kind, _, reason = clean_text(review.verdict.sentence, 4 * _LONGEST).partition(": ")
    # The reason may name a branch or a param, and these can be anything.
    shown = reason if _PLAIN.fullmatch(reason) else quote_code(reason, 4 * _LONGEST)
    blocks = [f"### {' → '.join(map(quote_code, names))}", f"**{kind}**: {shown}"]
    if comparison := review.comparison:
        if comparison.differences:
            head = ["measure", "before", "after", "change", f"{format_share(review.confidence)} interval", "p"]
            blocks += ["**Measures**", _write_table(head, _list_measures(comparison))]
        blocks.append(" ".join(_explain(comparison)))
    blocks.append(_list_changes("Params that changed", review.params))
    stages = [(stage.name, _join([*stage.params, *stage.deps] or stage.outs)) for stage in review.stages]
    blocks.append(_write_list("Stages that ran", "{}: {}", stages, len(stages)))
    if usage := list(_pair_usage(review)):
        head = ["work", "requests", "prompt tokens", "answer tokens", "US dollars"]
        blocks += ["**LLM**", _write_table(head, usage)]
    for title, is_right in (("Test rows that became wrong", False), ("Test rows that became right", True)):
        if found := [flip for flip in (comparison.flips if comparison else []) if (flip.new == flip.label) == is_right]:
            flips = [
                (
                    *(flip.id, flip.label),
                    f"{format_number(flip.old_probability, 2)} → {format_number(flip.new_probability, 2)}",
                    *(flip.old, flip.new),
                    f"{flip.question} / {flip.text}" if flip.question else flip.text,
                )
                for flip in found
            ]
            blocks.append(_write_list(title, "{} is {} ({}): {} → {}. {}", flips, _SHOWN, folded=folded))
    if review.metrics:
        blocks.append(_list_changes("Other numbers that changed", review.metrics, folded=folded))
    return "\n\n".join(blocks) + "\n"


def clean_text(text: str, longest: int = _LONGEST) -> str:
    """Put a text on one line, cut it, and drop what steers a terminal or turns the reading direction."""
    steering = ("Cc", "Cf", "Cs", "Zl", "Zp")
    signs = (" " if unicodedata.category(sign) in steering else sign for sign in text)
    line = re.sub(" +", " ", "".join(signs)).strip(" ")
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def quote_code(text: str, longest: int = _LONGEST) -> str:
    """Put a text into a code span that it cannot end, on one line."""
    line = clean_text(text, longest)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if not line or line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _write_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ("---", *["---:"] * (len(head) - 1))
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _write_list(
    title: str, pattern: str, rows: Sequence[Sequence[str]], shown: int = 2 * _SHOWN, *, folded: bool = False
) -> str:
    """Write the first rows as a list, each cell a code span, below a title that counts all."""
    counted = f"{title}: {shown} of {len(rows)}" if len(rows) > shown else f"{title}: {len(rows) or 'none'}"
    lines = "\n".join(f"- {pattern.format(*map(quote_code, row))}" for row in rows[:shown])
    if folded:
        return f"<details><summary>{counted}</summary>\n\n{lines}\n\n</details>"
    return f"**{counted}**\n\n{lines}".rstrip()


def _list_changes(title: str, changes: Sequence[Change], *, folded: bool = False) -> str:
    rows = [
        (
            change.name,
            *(
                "(none)" if change.kind == absent else clean_text(write_value(value), 80)
                for absent, value in (("added", change.old), ("removed", change.new))
            ),
        )
        for change in changes
    ]
    return _write_list(title, "{}: {} → {}", rows, folded=folded)


def _join(parts: Sequence[str]) -> str:
    return ", ".join(clean_text(part, 80) for part in parts[:_SHOWN]) + (", …" if len(parts) > _SHOWN else "")


def _list_measures(comparison: Comparison) -> Iterator[list[str]]:
    for one in comparison.differences:
        p = f"{one.corrected:.3f}" if one.corrected >= 0.001 else "< 0.001"
        numbers = [format_number(one.old), format_number(one.new), format_difference(one.change)]
        cells = [one.measure, *numbers, phrase_ends(one), p]
        yield [f"**{cell}**" for cell in cells] if one.measure == PRIMARY else cells


def _explain(comparison: Comparison) -> Iterator[str]:
    rows = f"{comparison.rows} test rows"
    if not comparison.rows == comparison.old_rows == comparison.new_rows:
        rows += f" that both have, of {comparison.old_rows} and {comparison.new_rows}"
    yield f"Before and after are means over seeds on the {rows}."
    if comparison.primary:
        yield f"The verdict rests on {PRIMARY} alone. It was chosen beforehand, so its p-value is not corrected."
    if others := len(comparison.differences) - (comparison.primary is not None):
        yield f"The p-values of the other measures ({others}) are corrected by Holm's method."
    if comparison.unchanged:
        yield f"The predictions of {', '.join(comparison.unchanged)} are the same."
    if comparison.left_out:
        yield f"Only one revision has {', '.join(comparison.left_out)}."


def _pair_usage(review: Review) -> Iterator[list[str]]:
    used = []
    for side in (review.old_usage, review.new_usage):
        counts = {
            one["work"]: [one[name] for name in ("requests", "prompt_tokens", "completion_tokens")] for one in side
        }
        costs = {one["work"]: "unknown" if one["cost_usd"] is None else f"{one['cost_usd']:.2f}" for one in side}
        used.append({work: [*map(format_count, counts[work]), costs[work]] for work in counts})
    for work in used[0] | used[1]:
        pairs = zip(*(side.get(work, ["none"] * 4) for side in used), strict=True)
        yield [work, *(before if before == after else f"{before} → {after}" for before, after in pairs)]
