"""Fetch the base models: the encoder that is fine-tuned and, if it is served here, the language model."""

from pathlib import Path

from runtime import run_stage

from amalgam.base_models import check_layers, describe_remote_llm, fetch_encoder, fetch_llm
from amalgam.files import write_json
from amalgam.params import Params

BASE = Path("models/base")


def main(params: Params, root: Path) -> None:
    downloads = root / ".cache" / "downloads"
    fetch_encoder(params.teacher.model, BASE / "encoder", downloads)
    student = params.distillation.student
    if student == "layers":
        write_json(BASE / "student" / "amalgam.json", {"name": student})
    else:
        fetch_encoder(student, BASE / "student", downloads)
    check_layers(BASE / ("encoder" if student == "layers" else "student"), params.distillation.layers)
    if params.llm.endpoint == "embedded":
        fetch_llm(params.llm.model, BASE / "llm", downloads)
    else:
        describe_remote_llm(params.llm.model, BASE / "llm")


if __name__ == "__main__":
    run_stage("models", main)
