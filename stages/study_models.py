"""Fetch the base models of the study: the encoder, and each LLM that is served here."""

from pathlib import Path

from runtime import run_stage

from amalgam.base_models import describe_remote_llm, fetch_encoder, fetch_llm
from amalgam.params import Params
from amalgam.study.grid import load_study, name_llm

TARGET = Path("study/models")


def main(_: Params, root: Path) -> None:
    study, params = load_study(Path())
    downloads = root / ".cache" / "downloads"
    fetch_encoder(params.teacher.model, TARGET / "encoder", downloads)
    for llm in study.llms:
        folder = TARGET / "llm" / name_llm(llm)
        if params.llm.endpoint == "embedded":
            fetch_llm(llm, folder, downloads)
        else:
            describe_remote_llm(llm, folder)


if __name__ == "__main__":
    run_stage("study/dvc.yaml:models", main)
