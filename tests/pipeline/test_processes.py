"""Several processes train one model."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from amalgam.files import write_rows
from amalgam.training.teacher import TeacherTrainer
from tests.pipeline.toy import LABELS, make_rows, write_encoder
from tests.unit.training import TEACHER

_SCRIPT = """
import json, os, sys
from pathlib import Path
from amalgam.params import Teacher
from amalgam.files import read_rows
from amalgam.training.teacher import TeacherTrainer
folder = Path(sys.argv[1])
rows = read_rows(folder / "rows.csv")
params = Teacher.model_validate_json((folder / "params.json").read_text())
trainers = {
    "cross_entropy": TeacherTrainer(folder / "encoder", rows, rows, sys.argv[2:], params),
    "contrastive": TeacherTrainer(folder / "encoder", rows, None, sys.argv[2:], params, contrastive=True),
}
for name, trainer in trainers.items():
    trainer.train(1, folder / "together" / name, lambda item: None)
(folder / f"was-here-{os.environ['RANK']}-of-{os.environ['WORLD_SIZE']}").touch()
"""


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    config = tmp_path / "encoder/config.json"  # dropout draws other masks for other parts of a batch
    config.write_text(config.read_text().replace('_dropout_prob": 0.1', '_dropout_prob": 0.0'))
    rows = pd.DataFrame(make_rows(40)).assign(question="", origin="human")
    write_rows(tmp_path / "rows.csv", rows)
    params = TEACHER.model_copy(update={"steps": 10, "learning_rate": 1e-3})
    (tmp_path / "params.json").write_text(params.model_dump_json())
    trainer = TeacherTrainer(tmp_path / "encoder", rows, rows, list(LABELS), params)
    trainer.train(1, tmp_path / "alone", lambda _item: None)

    (tmp_path / "script.py").write_text(_SCRIPT)
    # What `accelerate launch` starts for several GPUs; without a GPU it leaves that to torchrun.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "script.py"), str(tmp_path), *LABELS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert {path.name for path in tmp_path.glob("was-here-*")} == {"was-here-0-of-2", "was-here-1-of-2"}
    names = ("alone", "together/cross_entropy", "together/contrastive")
    alone, together, contrastive = (load_file(tmp_path / name / "model.safetensors") for name in names)
    base = load_file(tmp_path / "encoder/model.safetensors")
    for name, weight in alone.items():
        if name.endswith("key.bias"):  # attention does not depend on it: its gradient is only rounding
            continue
        # Weights are kept in bfloat16: the last of its bits may differ.
        torch.testing.assert_close(together[name], weight, atol=2e-3, rtol=2**-7)
    moved = "bert.encoder.layer.0.attention.self.query.weight"
    for weights in (alone, contrastive):  # so that equality means something; pairs differ with the parts of a batch
        assert (weights[moved] - base[moved.removeprefix("bert.")]).abs().max() > 4e-3
