"""The model card and the manifest of a shipped student."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from amalgam.shipping.card import build_card, hash_code
from amalgam.shipping.export import export_onnx, quantize_onnx
from amalgam.shipping.onnx import FLOAT, INTEGER, OnnxScorer
from amalgam.tasks.schema import Task
from amalgam.training.checkpoint import Config, read_config, save_checkpoint
from amalgam.training.classifier import add_pooling, load_classifier
from amalgam.training.encoding import encode_rows, load_tokenizer
from tests.pipeline.toy import LABELS

ROOT = Path(__file__).parents[2]
HOSTILE = "---\nlicense: mit\n---\n# <script>alert(1)</script> [x](http://y) | `code` ![z](w) @someone"
INTERVAL = {"auc": 0.873, "auc_low": 0.832, "auc_high": 0.905, "kappa": 0.573, "kappa_low": 0.481, "kappa_high": 0.652}
CALIBRATION = {"temperature": 1.0, "threshold": None, "ask_below": 0.9, "sentence": "10 rows do not show it."}
FIDELITY = {"texts": 851, "auc_loss": 0.00024, "allowed_auc_loss": 0.005, "max_difference": 0.14}
FIDELITY["decisions_changed"] = 0.0071
EXPORTED = {"seed": 2, "model": "model.int8.onnx", "calibration": CALIBRATION, "fidelity": FIDELITY}
ALONE = {"rows": 500, "coverage": 0.53, "agreement": 0.9547, "agreement_low": 0.9155, "agreement_high": 0.9762}
METRICS = {
    "models": {"student": INTERVAL, "teacher": INTERVAL},
    "summary": {"student": {"megabytes": 66.8, "rows_per_second": 550.0}},
    "selective": {"selective": ALONE},
    "data": {
        **{"rows": {"test": 500, "unlabelled": 800}, "held_out": 10},
        **{key: {"human": 41, "synthetic": 164} for key in ("mixed", "learned")},
    },
}
BASE = {
    "encoder": {"name": "mini", "licence": "Apache-2.0", "source": "owner/mini@1110a24"},
    "llm": {"name": "writer", "licence": "MIT", "source": "owner/writer@ab810cf"},
}


def split_card(task: Task, exported: dict = EXPORTED, **metrics: Any) -> tuple[dict, str]:
    """Build a card; return its front matter and its Markdown."""
    _, front, body = build_card(task, exported, METRICS | metrics, BASE, 128, 0.95).split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_front_matter_is_that_of_the_hub_and_tables_are_whole(task: Task) -> None:
    front, body = split_card(task)
    assert (front["library_name"], front["pipeline_tag"]) == ("transformers", "text-classification")
    assert (front["base_model"], front["license"]) == ("owner/mini", "other")
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"] == {"name": "toy", "type": "toy", "split": "test"}
    found = [(metric["type"], metric["value"]) for metric in result["metrics"]]
    assert found == [("roc_auc", 0.873), ("cohen_kappa", 0.573)]
    assert result["metrics"][0]["name"] == "AUC, mean of seeds, 95% interval 0.832 to 0.905"
    blocks = [block.splitlines() for block in body.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 3
    for block in blocks:
        assert (len({line.count("|") for line in block}), set(block[1]), len(block) > 2) == (1, {"|", "-"}, True)


def test_the_card_says_what_ships_and_what_it_rests_on(task: Task) -> None:
    _, body = split_card(task)
    words = " ".join(body.split())
    for text in (
        *(CALIBRATION["sentence"], "| CC0-1.0 |", "| Apache-2.0 |", "| MIT |", "0.0002 of AUC"),
        "| student, mean of all seeds | 0.873 [0.832, 0.905] | 0.573 [0.481, 0.652] |",
        'pipeline("text-classification", "models/student", truncation=True, max_length=128)',
        "53 % of the rows need no human, and the coders agree with 95.5 % [91.5, 97.6] of their labels.",
    ):
        assert text in words
    _, body = split_card(task, selective={"selective": {"rows": 500, "coverage": 0.0}})
    assert "every row needs a human.\n" in body
    assert "`model.onnx`" in split_card(task, EXPORTED | {"model": "model.onnx"})[1]


@pytest.mark.parametrize(
    ("learned", "made", "trained"),
    [
        ({"synthetic": 164}, "wrote responses with known labels, these were mixed", "164 synthetic ones, written by"),
        ({"synthetic": 164, "labelled": 82}, "labels and labelled real ones", "82 synthetic ones, written by writer"),
        ({"synthetic": 82, "labelled": 82}, "labelled real responses", "The guard left out 82 rows of the language"),
        ({"synthetic": 0}, "a teacher was trained on human-coded responses,", "41 human-coded rows. The guard left"),
    ],
)
def test_the_card_says_what_the_llm_did(learned: dict[str, int], made: str, trained: str, task: Task) -> None:
    data = METRICS["data"] | {"learned": {"human": 41} | learned}
    words = " ".join(split_card(task, data=data)[1].split())
    assert made in words
    assert trained in words
    assert ("synthetic" in words.lower()) == (learned["synthetic"] > learned.get("labelled", 0))


def test_text_of_the_rubric_is_no_markup(task: Task) -> None:
    hostile = dict.fromkeys(("title", "response", "licence", "citation"), HOSTILE)
    labels = [task.labels[0].model_copy(update={"definition": HOSTILE}), *task.labels[1:]]
    front, body = split_card(task.model_copy(update=hostile | {"labels": labels}))
    assert front["license"] == "other"
    assert not re.search(r"<script>|(?<!\\)\]\(|\n# \\<", body)
    assert front["model-index"][0]["results"][0]["task"]["name"] == " ".join(HOSTILE.split())


def test_code_has_the_ids_that_git_gives_it(tmp_path: Path) -> None:
    (tmp_path / "code/a").mkdir(parents=True)
    for name, text in {"code/a/x.py": "x = 1\n", "code/a.py": "", "code/b.py": "ä\n", "one.py": "1\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(tmp_path), *args], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init")
    git("add", "--all")
    tree = git("write-tree")
    (tmp_path / "code/__pycache__").mkdir()
    (tmp_path / "code/a/y.pyc").write_bytes(b"left behind")
    for name in ("code", "one.py"):
        assert hash_code(tmp_path / name) == git("rev-parse", f"{tree}:{name}")


def test_the_manifest_names_the_code_that_its_stage_depends_on_and_no_stage_that_ships_reads_a_test_row() -> None:
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["ship"]["deps"]
    export, ship = ((ROOT / f"stages/{stage}.py").read_text(encoding="utf-8") for stage in ("export", "ship"))
    (line,) = [line for line in ship.splitlines() if line.startswith("CODE = ")]
    named = {f"src/amalgam/{name}" for name in line.split('"')[3::2]}
    assert set() < named <= set(deps)
    assert "test.csv" not in export + ship


ODD_TEXTS = ["", "👍🏽", "שלום עולם", "cold " * 500, "x" * 2000, "rude", "\x00\r\n\t"]


def score_with_torch(folder: Path, rows: pd.DataFrame) -> np.ndarray:
    """Score in 32-bit floats, all rows in one batch."""
    config = read_config(folder)
    model = add_pooling(load_classifier(folder, config.labels), config.pooling).eval()
    encoded = encode_rows(load_tokenizer(folder), rows, config.max_length)
    with torch.inference_mode():
        logits = model(**encoded.pad(np.arange(len(rows))))["logits"]
    return torch.softmax(logits.double(), dim=1).numpy()


def make_texts(texts: list[str], question: str = "") -> pd.DataFrame:
    return pd.DataFrame({"text": texts, "question": question}, dtype=str)


def test_onnx_and_torch_agree_on_texts_of_any_kind(teacher: Path, shipped: Path, comments: pd.DataFrame) -> None:
    rng = np.random.default_rng(3)
    letters = list("abcdefgh ,.éß漢🙂\u202e")
    random = ["".join(rng.choice(letters, size=size)) for size in rng.integers(0, 80, size=60)]
    rows = make_texts([*comments["text"], *random, *ODD_TEXTS])
    expected = score_with_torch(teacher, rows)
    assert expected[:, 0].std() > 0.005  # else any scores would agree
    done: list[object] = []
    scored = OnnxScorer(shipped / FLOAT, teacher).score(rows, done.append)
    assert sorted(done) == list(range(len(rows)))  # each once, the longest first
    np.testing.assert_allclose(scored, expected, atol=1e-3)
    small = OnnxScorer(shipped / INTEGER, teacher).score(rows)
    np.testing.assert_allclose(small, expected, atol=0.15)
    assert np.abs(small - expected).mean() < 0.02
    assert (shipped / INTEGER).stat().st_size < 0.6 * (shipped / FLOAT).stat().st_size


def test_equal_weights_give_equal_bytes_and_other_ones_of_their_shape_are_exported_beside_them(
    teacher: Path, encoder: Path, shipped: Path, tmp_path: Path
) -> None:
    elsewhere, asked = shutil.copytree(teacher, tmp_path / "elsewhere"), tmp_path / "asked"
    torch.manual_seed(2)
    config = Config(list(LABELS), 24, True, "mean")
    save_checkpoint(load_classifier(encoder, list(LABELS)), load_tokenizer(encoder), asked, config)
    export_onnx({elsewhere: tmp_path / FLOAT, asked: asked / FLOAT})
    quantize_onnx(tmp_path / FLOAT, tmp_path / INTEGER)
    for name in (FLOAT, INTEGER):
        content = (tmp_path / name).read_bytes()
        assert content == (shipped / name).read_bytes()
        for path in (sys.prefix, str(tmp_path), "site-packages", str(Path.home())):
            assert path.encode() not in content
    # This one reads questions.
    rows = make_texts(["rude", "the coffee was cold " * 9, ""], "How was the coffee?")
    scores = OnnxScorer(asked / FLOAT, asked).score(rows)
    np.testing.assert_allclose(scores, score_with_torch(asked, rows), atol=1e-3)
    assert np.abs(scores - OnnxScorer(asked / FLOAT, asked).score(rows.assign(question="Cold?"))).max() > 1e-4


def test_scoring_needs_neither_torch_nor_transformers_nor_pandas(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\nthe bread is stale\n", encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from amalgam.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'pyarrow'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, "predict", str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]
    done = subprocess.run([*command, "--model", str(shipped)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
