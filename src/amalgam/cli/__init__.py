"""The command `amalgam`: what DVC cannot do for a project. Each command imports what it needs when it runs."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from amalgam.errors import AmalgamError, explain_full_disk

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Mix human-coded and LLM-written responses, train a teacher, distil a student.\n\n"
    "The pipeline itself is DVC's: `dvc repro` runs what changed, `dvc exp run -S ratio=0.5` tries a value, "
    "`dvc metrics diff` compares.",
)
journal = typer.Typer(pretty_exceptions_enable=False)
app.add_typer(journal, name="journal")
study = typer.Typer(pretty_exceptions_enable=False, help="Follow the paper's experiments: `dvc repro study/dvc.yaml`.")
app.add_typer(study, name="study")
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of text.")]
_Column = Annotated[str | None, typer.Option(metavar="COLUMN", show_default=False)]


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the task will be called.")],
    source: Annotated[Path, typer.Option("--from", metavar="FILE", help="The table of coded responses.")],
    text: _Column = None,
    label: _Column = None,
    rater: Annotated[list[str] | None, typer.Option(help="A rater's column; again for the next.")] = None,
    question: _Column = None,
    group: _Column = None,
    time: _Column = None,
    sheet: Annotated[str | None, typer.Option(help="Of a workbook.")] = None,
    rubric: Annotated[
        Path | None, typer.Option(help="What each label means: `label: text` a line, or a table.")
    ] = None,
    above: Annotated[float | None, typer.Option(help="Scores above this are `high`, all others `low`.")] = None,
    merge_rare: Annotated[int, typer.Option(metavar="ROWS", help="Labels of fewer rows become `other`.")] = 0,
    drop_rare: Annotated[int, typer.Option(metavar="ROWS", help="Labels of fewer rows are left out.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the task of this name.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take the likeliest answer where several are possible.")] = False,
    json: Json = False,
) -> None:
    """Make a task of a table of coded responses, and set params.yaml to it.

    Finds out which column is what and shows it; the options --text to --time
    name columns, with an empty text for none. Where two answers are possible,
    it asks. What it writes runs without an edit.

    Example: amalgam new essays --from answers.xlsx
    """
    from amalgam.cli.new import Choice, run_new

    said = {"text": text, "label": label, "question": question, "group": group, "time": time}
    columns = {flag: [column] if column else [] for flag, column in said.items() if column is not None}
    columns |= {"rater": rater} if rater else {}
    choice = Choice(columns, sheet, rubric, above, merge_rare, drop_rare, force, yes, json)
    run_new(Path(), name, source, choice)


@app.command()
def check(name: Annotated[str, typer.Argument(metavar="NAME", help="A task.")], json: Json = False) -> None:
    """Say everything that may be wrong with a task, the worst first, with rows and what to do.

    Exit code 1 is for warnings, 2 for errors, with which no run begins.
    """
    from amalgam.cli.tasks import run_check

    run_check(Path(), name, as_json=json)


@app.command()
def preview(
    name: Annotated[str | None, typer.Argument(metavar="[TASK]", show_default="that of params.yaml")] = None,
    rows: Annotated[
        int | None, typer.Option("-n", min=1, help="Responses a label.", show_default="5, or what takes a minute")
    ] = None,
    json: Json = False,
) -> None:
    """Show the real prompts and some responses, and forecast the whole run.

    Sent are the first requests that a run with these params sends, to the LLM
    that they name. The journal keeps the answers, so the run that follows
    pays only for the rest. Everything that leaves this machine is like what
    is shown here.

    Example: amalgam preview my_task -n 3
    """
    from amalgam.cli.preview import run_preview

    run_preview(Path(), name, rows, as_json=json)


@app.command()
def estimate(json: Json = False) -> None:
    """Say what the next `dvc repro` would send to the LLM, and what that would cost.

    Nothing is sent. By stage: requests, those that are answered already,
    tokens and US dollars, live and in batches; then what has been spent, and
    whether a limit of params.yaml would stop the run. Prices are those of
    data/prices.yaml.
    """
    from amalgam.cli.estimate import run_estimate

    run_estimate(Path(), as_json=json)


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is installed and at hand, and what the next `dvc repro` would run and send."""
    from amalgam.cli.estimate import run_doctor

    run_doctor(Path(), as_json=json)


@app.command(name="next")
def list_next(
    target: Annotated[Path, typer.Argument(metavar="[TARGET]", help="The sheet to write: .xlsx or .csv.")] = Path(
        "to_code.xlsx"
    ),
    count: Annotated[int, typer.Option("-n", "--rows", min=1, help="Responses to write.")] = 20,
) -> None:
    """Write the uncoded responses whose codes would help most as a sheet to fill in.

    They are those that the student is least certain of, and unlike each
    other; the first ones help most. Before the first run, a classifier on
    frozen embeddings takes the student's place.

    Example: amalgam next -n 20
    """
    from amalgam.cli.coding import run_next

    run_next(Path(), target, count)


@app.command()
def code(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The sheet of `amalgam next`, filled in.")],
) -> None:
    """Take the codes of a filled-in sheet back as human-coded rows.

    They are added to coded.csv in the task's folder; the next `dvc repro`
    trains with them, on top of `human_rows`. No other row moves.

    Example: amalgam code to_code.xlsx
    """
    from amalgam.cli.coding import run_code

    run_code(Path(), source)


@app.command()
def tasks(json: Json = False) -> None:
    """List the tasks of data/tasks: coded rows, labels, licence, and the AUC of the student of the last run.

    Rows are counted where they are on this machine. Results are those of the
    workspace, of HEAD, and of the experiments that began there.
    """
    from amalgam.cli.tasks import run_tasks

    run_tasks(Path(), as_json=json)


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Responses: .csv, .xlsx, .json, .parquet, …")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The same rows with labels; any of these formats.")],
    model: Annotated[Path, typer.Option(help="Folder of a shipped student.")] = Path("models/student"),
    text_column: Annotated[str, typer.Option(help="Column that holds the responses.")] = "text",
    question_column: Annotated[str, typer.Option(help="Column of the question, for models that read it.")] = "question",
    prefix: Annotated[str, typer.Option(help="Put before the names of the new columns.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="Processor threads; 0 takes every core.")] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="`cuda` needs `onnxruntime-gpu`.")] = "auto",
    json: Json = False,
) -> None:
    """Label a table of responses with the student.

    Rows keep their order and their columns. New are `label`, a probability
    `p_<label>` for each label, and `needs_human`: true where the model is not
    certain enough. Any number of rows fits into memory.

    Example: amalgam predict responses.csv labelled.csv
    """
    from amalgam.shipping.predict import run_predict

    names = {"text": text_column, "question": question_column, "prefix": prefix}
    run_predict(source, target, model, names, threads=threads, device=device, as_json=json)


@app.command()
def review(
    base: Annotated[
        str | None, typer.Argument(metavar="[BASE]", help="What the change is compared with.", show_default="main")
    ] = None,
    head: Annotated[
        str | None, typer.Argument(metavar="[HEAD]", help="What it leads to.", show_default="the workspace")
    ] = None,
    md: Annotated[bool, typer.Option("--md", help="Print Markdown for a pull request.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program: every row and number.")] = False,
    fail_if_worse: Annotated[
        str | None, typer.Option(metavar="MEASURE", help="Exit with code 1 if this became worse: student.auc.")
    ] = None,
) -> None:
    """Say what a change did, and whether it is more than chance.

    BASE and HEAD are branches, tags, commits or experiments of DVC. Compared
    are params, stages, and the predictions for every test row that both have:
    paired differences with intervals, and the rows that became right or wrong.
    Predictions that are not in DVC's cache are fetched from its remote.

    Example: amalgam review main --fail-if-worse student.auc
    """
    from amalgam.cli.review import run_review

    run_review(Path(), base, head, as_markdown=md, as_json=json, fail_if_worse=fail_if_worse)


@journal.callback(invoke_without_command=True)
def show(context: typer.Context, json: Json = False) -> None:
    """Say what the journal holds: by model the answers, tokens and cost.

    The journal, .cache/journal.sqlite, keeps every answer of an LLM, so that
    no request of this clone is paid for twice. "read in" counts answers that
    DVC brought from elsewhere, which this clone did not pay for. Batches that
    wait at an endpoint are listed below.
    """
    from amalgam.cli.status import run_journal

    if context.invoked_subcommand is None:
        run_journal(Path(), as_json=json)


@journal.command()
def forget(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="Its name, as `amalgam journal` prints it.")],
) -> None:
    """Give up a batch whose endpoint can no longer be asked.

    Its requests will be sent again, and paid for again.
    """
    from amalgam.cli.status import run_forget

    run_forget(Path(), batch)


@study.command()
def status(json: Json = False) -> None:
    """Say which cells of the study are done, running and failed, and how long it takes."""
    from amalgam.cli.status import run_status

    run_status(Path(), as_json=json)


@study.callback()
def follow() -> None:
    """Keep `status` a command of its own name."""


def print_table(rows: Sequence[Sequence[object]]) -> None:
    """Print rows, the first of which is the header, with all columns but the first aligned to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    first, *widths = (max(map(len, column)) for column in zip(*cells, strict=True))
    for name, *others in cells:
        print("  ".join([name.ljust(first), *map(str.rjust, others, widths)]).rstrip())


def main() -> None:
    """Run the command; a failure that the user can mend ends with one sentence and code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal can show every character
    try:
        app()
    except AmalgamError as error:
        print(f"amalgam: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:  # libraries' own, which have no type in common; all else goes on
        allow = f"`git config --global --add safe.directory {Path.cwd()}`"
        foreign = f"Git does not read a folder of another user: make it yours, or run {allow}"
        sentence = foreign if "not owned by current user" in str(error) else explain_full_disk(error)
        if not sentence:
            raise
        print(f"amalgam: {sentence}", file=sys.stderr)
        sys.exit(AmalgamError.exit_code)
