"""Split the tasks of the study, and get what the LLMs write for it: all requests at once, each paid once."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

from runtime import read_answering, run_stage

from amalgam.files import read_json
from amalgam.llm.answering import Answering
from amalgam.params import Params
from amalgam.study.grid import expand_grid, load_study, name_llm
from amalgam.study.pools import Pools
from amalgam.training.embeddings import embed_rows

MODELS, TARGET = Path("study/models"), Path("study/rows")


def main(_: Params, root: Path) -> None:
    study, params = load_study(Path())

    def open_llm(llm: str) -> tuple[str, Answering]:
        answering = read_answering(params.llm.model_copy(update={"model": llm}), root)
        folder = MODELS / "llm" / name_llm(llm)
        return read_json(folder / "identity.json")["model"], replace(answering, folder=folder)

    shutil.rmtree(TARGET, ignore_errors=True)
    embed = partial(embed_rows, MODELS / "encoder", max_length=params.teacher.max_length)
    pools = Pools(params, Path("data"), root / ".cache/downloads", TARGET, open_llm, embed)
    pools.write(list(expand_grid(study, params)))


if __name__ == "__main__":
    run_stage("study/dvc.yaml:rows", main)
