"""The command `amalgam`, for everything that DVC cannot do. Each subcommand imports what it needs when it runs."""

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
    "DVC runs the pipeline itself: `dvc repro` runs what changed, `dvc exp run -S ratio=0.5` tries a value, "
    "`dvc metrics diff` compares results.",
)
journal = typer.Typer(pretty_exceptions_enable=False)
app.add_typer(journal, name="journal")
study = typer.Typer(pretty_exceptions_enable=False, help="Follow the paper's experiments (`dvc repro study/dvc.yaml`).")
app.add_typer(study, name="study")
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of text.")]
_Column = Annotated[str | None, typer.Option(metavar="COLUMN", show_default=False)]


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new task.")],
    source: Annotated[Path, typer.Option("--from", metavar="FILE", help="Table of coded responses.")],
    text: _Column = None,
    label: _Column = None,
    rater: Annotated[list[str] | None, typer.Option(help="A rater's column; repeat the option for each rater.")] = None,
    question: _Column = None,
    group: _Column = None,
    time: _Column = None,
    sheet: Annotated[str | None, typer.Option(help="Sheet of a workbook.")] = None,
    rubric: Annotated[
        Path | None, typer.Option(help="Definitions of the labels: a table, or lines `label: text`.")
    ] = None,
    above: Annotated[float | None, typer.Option(help="Scores above this are `high`, all others `low`.")] = None,
    merge_rare: Annotated[int, typer.Option(metavar="ROWS", help="Labels with fewer rows become `other`.")] = 0,
    drop_rare: Annotated[int, typer.Option(metavar="ROWS", help="Labels with fewer rows are left out.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the task of this name if it exists.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take the most likely answer if several are possible.")] = False,
    json: Json = False,
) -> None:
    """Make a task from a table of coded responses, and set params.yaml to it.

    Finds out what each column holds and shows it. The options --text to --time
    name columns; an empty name means none. If two answers are possible, the
    command asks. The new task runs without further edits.

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
    """List everything that may be wrong with a task, worst first, with the rows and what to do.

    Exit code 1 means warnings; 2 means errors, which keep a run from starting.
    """
    from amalgam.cli.tasks import run_check

    run_check(Path(), name, as_json=json)


@app.command()
def preview(
    name: Annotated[str | None, typer.Argument(metavar="[TASK]", show_default="the one in params.yaml")] = None,
    rows: Annotated[
        int | None, typer.Option("-n", min=1, help="Responses per label.", show_default="5, or fewer within a minute")
    ] = None,
    json: Json = False,
) -> None:
    """Show the real prompts and some responses, and forecast the whole run.

    Sends the first requests of a run with these params to the LLM that they
    name. The journal keeps the answers, so the run that follows pays only for
    the rest. Everything that a run sends from this machine looks like what is
    shown here.

    Example: amalgam preview my_task -n 3
    """
    from amalgam.cli.preview import run_preview

    run_preview(Path(), name, rows, as_json=json)


@app.command()
def estimate(json: Json = False) -> None:
    """Show what the next `dvc repro` would send to the LLM, and what that would cost.

    Sends nothing. Shows for each stage its requests, how many are answered
    already, tokens and US dollars, live and in batches. Then shows what has
    been spent, and whether a limit in params.yaml would stop the run. Prices
    come from data/prices.yaml.
    """
    from amalgam.cli.estimate import run_estimate

    run_estimate(Path(), as_json=json)


@app.command()
def doctor(json: Json = False) -> None:
    """Show what is installed and available, and what the next `dvc repro` would run and send."""
    from amalgam.cli.estimate import run_doctor

    run_doctor(Path(), as_json=json)


@app.command(name="next")
def list_next(
    target: Annotated[Path, typer.Argument(metavar="[TARGET]", help="Sheet to write: .xlsx or .csv.")] = Path(
        "to_code.xlsx"
    ),
    count: Annotated[int, typer.Option("-n", "--rows", min=1, help="Responses to write.")] = 20,
) -> None:
    """Write a sheet to fill in, with the uncoded responses whose codes would help most.

    The student is least certain of these responses, and they differ from each
    other; the first ones help most. Before the first run, a classifier on
    frozen embeddings stands in for the student.

    Example: amalgam next -n 20
    """
    from amalgam.cli.coding import run_next

    run_next(Path(), target, count)


@app.command()
def code(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Filled-in sheet of `amalgam next`.")],
) -> None:
    """Import the codes of a filled-in sheet as human-coded rows.

    Adds them to coded.csv in the task's folder; the next `dvc repro` trains
    with them, on top of `human_rows`. No other row moves to another set.

    Example: amalgam code to_code.xlsx
    """
    from amalgam.cli.coding import run_code

    run_code(Path(), source)


@app.command()
def tasks(json: Json = False) -> None:
    """List the tasks in data/tasks: coded rows, labels, licence, and the AUC of the student.

    Rows are counted only if they are on this machine. Results come from the
    experiments that started at HEAD, else from the workspace, else from HEAD.
    """
    from amalgam.cli.tasks import run_tasks

    run_tasks(Path(), as_json=json)


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Responses: .csv, .xlsx, .json, .parquet, …")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The same rows with labels; any of these formats.")],
    model: Annotated[Path, typer.Option(help="Folder of a shipped student.")] = Path("models/student"),
    text_column: Annotated[str, typer.Option(help="Column that holds the responses.")] = "text",
    question_column: Annotated[str, typer.Option(help="Column of the question, if the model reads it.")] = "question",
    prefix: Annotated[str, typer.Option(help="Prefix for the names of the new columns.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="Processor threads; 0 uses every core.")] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="`cuda` needs `onnxruntime-gpu`.")] = "auto",
    json: Json = False,
) -> None:
    """Label a table of responses with the student.

    Rows keep their order and their columns. New columns are `label`, a
    probability `p_<label>` for each label, and `needs_human`: true if the
    model is not certain enough. Any number of rows fits into memory.

    Example: amalgam predict responses.csv labelled.csv
    """
    from amalgam.shipping.predict import run_predict

    names = {"text": text_column, "question": question_column, "prefix": prefix}
    run_predict(source, target, model, names, threads=threads, device=device, as_json=json)


@app.command()
def review(
    base: Annotated[
        str | None, typer.Argument(metavar="[BASE]", help="State before the change.", show_default="main")
    ] = None,
    head: Annotated[
        str | None, typer.Argument(metavar="[HEAD]", help="State after the change.", show_default="the workspace")
    ] = None,
    md: Annotated[bool, typer.Option("--md", help="Print Markdown for a pull request.")] = False,
    json: Json = False,
    fail_if_worse: Annotated[
        str | None, typer.Option(metavar="MEASURE", help="Exit with code 1 if it became worse, such as student.auc.")
    ] = None,
) -> None:
    """Show what a change did, and whether it is more than chance.

    BASE and HEAD are branches, tags, commits or DVC experiments. Compares
    params, stages, and the predictions for every test row that both have:
    paired differences with intervals, and the rows that became right or wrong.
    Predictions that are not in DVC's cache are fetched from its remote.

    Example: amalgam review main --fail-if-worse student.auc
    """
    from amalgam.cli.review import run_review

    run_review(Path(), base, head, as_markdown=md, as_json=json, fail_if_worse=fail_if_worse)


@journal.callback(invoke_without_command=True)
def show(context: typer.Context, json: Json = False) -> None:
    """Show what the journal holds: answers, tokens and cost by model.

    The journal, .cache/journal.sqlite, keeps every answer of an LLM, so that
    no request of this clone is paid for twice. "read in" counts answers that
    DVC brought from elsewhere, which this clone did not pay for. Batches that
    wait at an endpoint are listed below the table.
    """
    from amalgam.cli.status import run_journal

    if context.invoked_subcommand is None:
        run_journal(Path(), as_json=json)


@journal.command()
def forget(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="Name of the batch, as `amalgam journal` prints it.")],
) -> None:
    """Give up a batch whose endpoint can no longer be reached.

    Its requests will be sent again, and paid for again.
    """
    from amalgam.cli.status import run_forget

    run_forget(Path(), batch)


@study.command()
def status(json: Json = False) -> None:
    """Show which cells of the study are done, running or failed, and how much time is left."""
    from amalgam.cli.status import run_status

    run_status(Path(), as_json=json)


def print_table(rows: Sequence[Sequence[object]]) -> None:
    """Print rows, the header first, with all columns but the first aligned to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    first, *widths = (max(map(len, column)) for column in zip(*cells, strict=True))
    for name, *others in cells:
        print("  ".join([name.ljust(first), *map(str.rjust, others, widths)]).rstrip())


def main() -> None:
    """Run the command; a failure that the user can fix ends with one sentence and its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal can show every character
    try:
        app()
    except AmalgamError as error:
        print(f"amalgam: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:  # from libraries, which share no base class; all others propagate
        allow = f"`git config --global --add safe.directory {Path.cwd()}`"
        foreign = f"Git does not read a folder that another user owns: take ownership of it, or run {allow}"
        sentence = foreign if "not owned by current user" in str(error) else explain_full_disk(error)
        if not sentence:
            raise
        print(f"amalgam: {sentence}", file=sys.stderr)
        sys.exit(AmalgamError.exit_code)
