"""The command `amalgam`: what DVC cannot do for a project. Each command imports what it needs when it runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from amalgam.errors import AmalgamError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Mix human-coded and LLM-written responses, train a teacher, distil a student.\n\n"
    "The pipeline itself is DVC's: `dvc repro` runs what changed, `dvc exp run -S ratio=0.5` tries a value, "
    "`dvc metrics diff` compares.",
)


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of text.")] = False,
) -> None:
    """Say what is installed and at hand, and what the next `dvc repro` would run and send."""
    from amalgam.cli.doctor import run_doctor

    run_doctor(Path(), as_json=json)


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(metavar="IN.csv", help="Responses, one a row, with a header.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The same rows with `label` and probabilities.")],
    model: Annotated[Path, typer.Option(help="Folder of a trained model.")] = Path("models/student"),
    text_column: Annotated[str, typer.Option(help="Column that holds the responses.")] = "text",
    question_column: Annotated[str, typer.Option(help="Column that holds the question, for models that read it.")] = (
        "question"
    ),
) -> None:
    """Label the responses in a CSV file with the student.

    Example: amalgam predict --model models/student responses.csv labelled.csv
    """
    from amalgam.cli.predict import run_predict

    run_predict(source, target, model, text_column=text_column, question_column=question_column)


def main() -> None:
    """Run the command; a failure that the user can mend ends with one sentence and code 2."""
    try:
        app()
    except AmalgamError as error:
        print(f"amalgam: {error}", file=sys.stderr)
        sys.exit(2)
