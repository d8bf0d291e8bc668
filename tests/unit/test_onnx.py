import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from amalgam.errors import ModelError
from amalgam.shipping.export import FLOAT, INTEGER, export_onnx, quantize_onnx
from amalgam.shipping.onnx import OnnxScorer, decide
from amalgam.training.checkpoint import Config, read_config, save_checkpoint
from amalgam.training.classifier import add_pooling, load_classifier
from amalgam.training.encoding import encode_rows, load_tokenizer
from tests.pipeline.toy import LABELS

ODD_TEXTS = ["", "👍🏽", "שלום עולם", "cold " * 500, "x" * 2000, "rude", "\x00\r\n\t"]


def score_with_torch(folder: Path, rows: pd.DataFrame) -> np.ndarray:
    """Score in 32-bit floats, all rows in one batch."""
    config = read_config(folder)
    model = add_pooling(load_classifier(folder, config.labels), config.pooling).eval()
    encoded = encode_rows(load_tokenizer(folder), rows, config.max_length)
    with torch.inference_mode():
        logits = model(**encoded.pad(np.arange(len(rows)))).logits
    return torch.softmax(logits.double(), dim=1).numpy()


def make_rows(texts: list[str], question: str = "") -> pd.DataFrame:
    return pd.DataFrame({"text": texts, "question": question}, dtype=str)


def test_onnx_and_torch_agree_on_texts_of_any_kind(teacher: Path, shipped: Path, comments: pd.DataFrame) -> None:
    rng = np.random.default_rng(3)
    letters = list("abcdefgh ,.éß漢🙂\u202e")
    random = ["".join(rng.choice(letters, size=size)) for size in rng.integers(0, 80, size=60)]
    rows = make_rows([*comments["text"], *random, *ODD_TEXTS])
    expected = score_with_torch(teacher, rows)
    assert expected[:, 0].std() > 0.005  # else any scores would agree
    scored = OnnxScorer(shipped / FLOAT, teacher, batch_size=7).score(rows)
    np.testing.assert_allclose(scored, expected, atol=1e-3)
    small = OnnxScorer(shipped / INTEGER, teacher).score(rows)
    np.testing.assert_allclose(small, expected, atol=0.15)
    assert np.abs(small - expected).mean() < 0.02
    assert (shipped / INTEGER).stat().st_size < 0.6 * (shipped / FLOAT).stat().st_size


def test_questions_and_mean_pooling_are_exported_too(encoder: Path, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = load_classifier(encoder, list(LABELS))
    tokenizer = load_tokenizer(encoder)
    save_checkpoint(model, tokenizer, tmp_path, Config(list(LABELS), 24, True, "mean"))
    export_onnx({tmp_path: tmp_path / FLOAT})
    rows = make_rows(["rude", "the coffee was cold " * 9, ""], "How was the coffee?")
    scores = OnnxScorer(tmp_path / FLOAT, tmp_path).score(rows)
    np.testing.assert_allclose(scores, score_with_torch(tmp_path, rows), atol=1e-3)
    assert np.abs(scores - OnnxScorer(tmp_path / FLOAT, tmp_path).score(rows.assign(question="Cold?"))).max() > 1e-4


def test_the_same_weights_give_the_same_bytes_and_no_paths(teacher: Path, shipped: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(teacher, tmp_path / "elsewhere")
    export_onnx({elsewhere: tmp_path / FLOAT})
    quantize_onnx(tmp_path / FLOAT, tmp_path / INTEGER)
    for name in (FLOAT, INTEGER):
        content = (tmp_path / name).read_bytes()
        assert content == (shipped / name).read_bytes()
        for path in (sys.prefix, str(tmp_path), "site-packages", str(Path.home())):
            assert path.encode() not in content


def test_a_decision_is_the_likeliest_label_or_that_of_the_threshold() -> None:
    probabilities = np.array([[0.6, 0.4], [0.4, 0.6], [0.7, 0.3]])
    for threshold, classes, certainty in ((None, [0, 1, 0], [0.6, 0.6, 0.7]), (0.4, [1, 1, 0], [0.4, 0.6, 0.7])):
        assert [found.tolist() for found in decide(probabilities, threshold)] == [classes, certainty]


def test_a_model_that_cannot_be_read_gives_one_sentence(teacher: Path, shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing: run `dvc repro`"):
        OnnxScorer(tmp_path / "none.onnx", teacher)
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not a model that ONNX Runtime can read"):
        OnnxScorer(tmp_path / "broken.onnx", teacher)


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
