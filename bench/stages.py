"""Seconds of the stages that train and score, and how much of each is startup: imports, and preparing the GPU.

Run `python -m bench.stages` in the project's folder after `dvc repro evaluate`, with nothing else on the machine. The
stages run as `dvc repro` runs them, one process each (see stages/starting.py), in a copy of the folder, so the outputs
stay unchanged.
`--random` puts an encoder of bert-base's and mpnet's size with random weights in place of the real one: its results are
meaningless, its speed is not. `--all`, after `quality: fast`, is the whole benchmark of a GPU in one run: these stages,
bench.training and bench.scoring with what they made, then the stages with `--random`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = "human_only", "baselines", "teacher", "transfer", "distill", "export", "evaluate"
# Runs a stage, and prints when its `main` begins; the GPU is prepared before, as that is not the stage's work.
RUN = """
import runpy, sys, time
import runtime
run = runtime.run_stage
def timed(name, main):
    import torch
    import transformers.modeling_utils  # which AutoModel imports only at the first model
    if torch.cuda.is_available():
        torch.zeros(1, device="cuda") @ torch.zeros(1, device="cuda")
    print("main begins at", time.time(), flush=True)
    run(name, main)
runtime.run_stage = timed
runpy.run_path(f"stages/{sys.argv[1]}.py", run_name="__main__")
"""


def copy_project(target: Path) -> None:
    """Copy what the stages read; base models are linked."""
    for name in ("stages", "src", "metrics", "data"):
        shutil.copytree(name, target / name)
    (target / "stages/timed.py").write_text(RUN)
    (target / "models").mkdir()
    shutil.copytree("models/base", target / "models/base", copy_function=os.link)
    shutil.copy2("params.yaml", target)


def run_stage(stage: str, folder: Path) -> tuple[float, float]:
    """Return the seconds that a stage takes, and those of its startup."""
    path = f"{folder / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"DVC_ROOT": str(folder), "PYTHONPATH": path}
    start = time.time()
    command = [sys.executable, "stages/timed.py", stage]
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    end = time.time()
    if found.returncode:
        sys.exit(f"{stage}: {found.stdout[-500:]}{found.stderr[-3000:]}")
    begun = next(float(line.split()[-1]) for line in found.stdout.splitlines() if line.startswith("main begins at"))
    return end - start, begun - start


def randomise(encoder: Path) -> None:
    """Replace the encoder in a folder with one of bert-base's size and random weights; the tokenizer stays."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    size = len(AutoTokenizer.from_pretrained(encoder))
    (encoder / "model.safetensors").unlink()  # linked from the project
    (encoder / "config.json").unlink()
    BertModel(BertConfig(vocab_size=size)).save_pretrained(encoder)


def measure(quality: str | None, random: bool, peers: bool = False) -> None:
    """Print a row of the table as each stage ends; with `peers`, compare the trained models with other tools, too."""
    import torch
    import yaml

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        folder.mkdir()
        copy_project(folder)
        params = yaml.safe_load((folder / "params.yaml").read_text())
        params["quality"] = quality or params["quality"]
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        if random:
            randomise(folder / "models/base/encoder")
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
        weights = "random weights of bert-base's size, " if random else ""
        print(f"\nquality {params['quality']}, {weights}{device}, torch {torch.__version__}\n")
        print("| stage | seconds | startup |\n|---|---|---|", flush=True)
        taken = []
        for stage in STAGES:
            taken.append(run_stage(stage, folder))
            print(f"| {stage} | {taken[-1][0]:.1f} | {taken[-1][1]:.1f} |", flush=True)
        print("| all | {:.1f} | {:.1f} |".format(*map(sum, zip(*taken, strict=True))))
        summary = json.loads((folder / "metrics/summary.json").read_text())
        areas = ", ".join(f"{model} {summary[model]['auc']:.3f}" for model in ("human_only", "teacher", "student"))
        print(f"\nAUC: {areas}\n", flush=True)
        if peers:
            run_stage("ship", folder)
            environment = os.environ | {"PYTHONPATH": f"{folder / 'src'}{os.pathsep}{Path.cwd()}"}
            for call in ("training --epochs 5 --copies 8 --rounds 1", "scoring --rows 300 --rounds 1"):
                command = [sys.executable, "-m", *f"bench.{call}".split()]
                subprocess.run(command, cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", help="as in params.yaml")
    parser.add_argument("--random", action="store_true", help="random weights in place of the encoder's")
    parser.add_argument("--all", action="store_true", help="the whole benchmark of a GPU")
    args = parser.parse_args()
    begin = time.time()
    measure("fast" if args.all else args.quality, args.random, peers=args.all)
    if args.all:
        measure("best", random=True)
    print(f"{(time.time() - begin) / 60:.1f} minutes in all")
