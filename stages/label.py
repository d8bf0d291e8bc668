"""Let the LLM label real, uncoded texts, if `synthesis.source` says so."""

from pathlib import Path
from typing import Any

from runtime import read_answering, run_stage

import pandas as pd

from amalgam.files import read_json, read_rows, write_json, write_rows
from amalgam.llm.request import sum_answers, write_answers
from amalgam.params import Params
from amalgam.synthesis.labelling import add_labels, ask_for_labels, select_coded, select_texts
from amalgam.tasks.schema import Task, load_task
from amalgam.training.embeddings import embed_rows, index_labels
from amalgam.training.guard import measure_label_auc, score_crosswise
from amalgam.training.transfer import assign_roles

PREPARED = Path("data/prepared")
ENCODER = Path("models/base/encoder")
TARGET = Path("data/labelled")
COLUMNS = ["id", "text", "question", "label", "soft"]


def main(params: Params, root: Path) -> None:
    """Read the human rows and the unlabelled texts, write data/labelled/."""
    task = load_task(Path("data/tasks") / params.task)
    train, validation, texts = (read_rows(PREPARED / f"{name}.csv") for name in ("train", "validation", "unlabelled"))
    teach, _ = assign_roles(train, validation, least=params.teacher.min_validation_rows)
    texts = select_texts(task, texts, params.synthesis.source, params.ratio, len(teach))
    summary: dict[str, Any] = {"rows": len(texts)}
    if len(texts):
        texts, found = label_texts(task, texts, train, validation, params, root)
        summary |= found
    write_rows(TARGET / "labelled.csv", texts.reindex(columns=COLUMNS))
    write_json(TARGET / "summary.json", summary)


def label_texts(
    task: Task, texts: pd.DataFrame, train: pd.DataFrame, validation: pd.DataFrame, params: Params, root: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the texts with their labels, and a summary of the requests; answers go to files."""
    answering, labels = read_answering(params.llm, root), task.label_names
    model = read_json(answering.folder / "identity.json")["model"]
    coded, human = select_coded(task, train, validation), pd.concat([train, validation], ignore_index=True)
    asked = pd.concat([coded, texts], ignore_index=True)
    logits, lines = ask_for_labels(task, asked, train, model, answering)
    write_answers(TARGET / "answers", lines)
    llm = logits[: len(coded)], logits[len(coded) :]
    vectors = embed_rows(ENCODER, pd.concat([human, texts]), max_length=params.teacher.max_length)
    own, others = score_crosswise(human, vectors[: len(human)], vectors[len(human) :], labels)
    own = own[human["id"].isin(coded["id"])]
    texts = add_labels(texts, labels, [llm[1], others], [llm[0], own], index_labels(coded, labels))
    auc = measure_label_auc(coded, labels, llm[0])
    return texts, {"requests": len(lines), "coded": len(coded), "auc": round(auc, 4), **sum_answers(lines)}


if __name__ == "__main__":
    run_stage("label", main)
