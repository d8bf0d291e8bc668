"""Which LLM output is worth most: written rows, labels of real texts, or both? Compare their teachers on test rows.

Run `python -m bench.sources LLM` after `python -m bench.pools FOLDER`. LLM is a folder like `models/base/llm`: this LLM
labels texts, and the pools hold what the default LLM wrote. All teachers share the member that learns the human rows by
contrast; the other member learns the human rows alone or with the rows of a source, in the same number of steps. The
predictions are kept in `.cache/bench`, so that an interrupted run resumes. Test rows are never labelled, nor are the
rows of the larger set of human rows, so that both sizes have the same texts.

The table has each teacher's AUC, and its gain over the human rows alone with a paired 95 % interval over seeds and test
rows; a source that the guard leaves out is in parentheses, and counts as no gain in the means. `LLM` is the AUC of the
labels on the human-coded rows. The last line has means over tasks (Student's t).
"""

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from amalgam.evaluation.bootstrap import encode_groups, encode_labels, estimate_models
from amalgam.files import read_json, read_rows, write_json, write_rows
from amalgam.params import Params, load_params
from amalgam.synthesis.labelling import add_labels, ask_for_labels, select_coded
from amalgam.synthesis.mix import count_synthetic, mix_rows
from amalgam.tasks.schema import load_task
from amalgam.training.embeddings import embed_rows, index_labels
from amalgam.training.guard import measure_label_auc, score_crosswise
from amalgam.training.loop import scale_steps
from amalgam.training.teacher import TeacherTrainer
from bench.differences import measure_gain
from bench.guarding import ask_about
from bench.pools import CACHE, TASKS, open_llm
from bench.variants import ENCODER, Setting, format_mean, ignore, soften

SOURCES = ("human", "write", "label", "both")
_LARGER = 200  # human rows of the larger set


@dataclass(frozen=True)
class Sources:
    """One task, and where its predictions are kept."""

    setting: Setting
    params: Params
    llm: Path
    most: int  # texts that are labelled

    @property
    def folder(self) -> Path:
        """The folder for the results of this LLM's labels."""
        name = read_json(self.llm / "identity.json")["model"][-8:]
        return CACHE / f"{self.setting.task}-{self.setting.size}" / f"sources-{name}-{self.most}"

    @cached_property
    def human(self) -> pd.DataFrame:
        """All human-coded rows: so few validation rows teach too."""
        return self.setting.read_human()

    def label(self) -> pd.DataFrame:
        """Return real texts with the LLM's labels, asked for once."""
        path = self.folder / "labelled.csv"
        if not path.is_file():
            task, train = load_task(Path("bench/tasks") / self.setting.task), self.setting.read("train")
            larger = Setting(self.setting.task, _LARGER)
            kept = larger.read_human()["id"]
            texts = self.setting.read("unlabelled").loc[lambda rows: ~rows["id"].isin(kept)].head(self.most)
            coded = select_coded(task, train, self.setting.read("validation"))
            model, answering = open_llm(self.params, self.llm)
            logits, _ = ask_for_labels(task, pd.concat([coded, texts], ignore_index=True), train, model, answering)
            vectors = embed_rows(ENCODER, pd.concat([self.human, texts]), max_length=self.params.teacher.max_length)
            own, others = score_crosswise(
                self.human, vectors[: len(self.human)], vectors[len(self.human) :], self.setting.labels
            )
            own, labels = own[self.human["id"].isin(coded["id"])], self.setting.labels
            llm, said = logits[: len(coded)], logits[len(coded) :]
            write_rows(path, add_labels(texts, labels, [said, others], [llm, own], index_labels(coded, labels)))
            write_json(path.with_suffix(".json"), {"auc": measure_label_auc(coded, labels, llm)})
        return read_rows(path)

    def mix(self, source: str) -> pd.DataFrame:
        """Return the rows that the teacher of a source learns."""
        if source in ("human", "write"):
            return self.setting.mix(self.human, self.params.ratio if source == "write" else 0.0)
        texts, wanted = self.label(), count_synthetic(self.params.ratio, len(self.human))
        texts = texts.head(wanted if source == "label" else wanted // 2)
        pool = read_rows(CACHE / self.setting.task / "synthetic.csv")
        count = len(texts) if source == "label" else min(wanted, len(texts) + len(pool) // 2)
        ratio, none = count / (count + len(self.human)), pd.DataFrame(columns=["label", "reason"])
        return mix_rows(self.human, pool, none, ratio, self.setting.labels, texts)

    def is_let_in(self, source: str) -> bool:
        """Ask the guard about the rows of a source."""
        path = self.folder / f"guard-{source}.json"
        if not path.is_file():
            auc = read_json(self.folder / "labelled.json")["auc"] if source in ("label", "both") else None
            found = ask_about(self.human, self.mix(source), self.setting.labels, self.params, 1, grading=auc)
            write_json(path, found.to_dict() if found else {"helps": 1})
        return bool(read_json(path)["helps"])

    def score(self, source: str, seeds: list[int]) -> np.ndarray:
        """Return probabilities [seeds, rows, classes] of the test rows by the teacher of a source."""
        return np.asarray((self._score("contrast", seeds) + self._score(source, seeds)) / 2)

    def _score(self, member: str, seeds: list[int]) -> np.ndarray:
        shared = self.folder.parent / "sources" if member in ("contrast", "human", "write") else self.folder
        path = shared / f"{member}.safetensors"
        found = load_file(path) if path.is_file() else {}
        if missing := [seed for seed in seeds if f"{seed}" not in found]:
            contrastive = member == "contrast"
            learned = self.mix("human" if contrastive else member)
            params = scale_steps(self.params.teacher, self.setting.size)
            trainer = TeacherTrainer(ENCODER, learned, None, self.setting.labels, params, contrastive=contrastive)
            path.parent.mkdir(parents=True, exist_ok=True)
            for seed in missing:
                found[f"{seed}"] = soften(trainer.train_and_score(seed, self.setting.read("test"), ignore))
                save_file(found, path)
        return np.stack([found[f"{seed}"] for seed in seeds])


def main(args: argparse.Namespace) -> None:
    """Print a line for each task as it is measured, then the means."""
    params = load_params(Path("params.yaml"))
    sources = [name for name in SOURCES if name in args.sources or name == "human"]
    print(f"| task | LLM | {' | '.join(sources)} | {' | '.join(f'{name} minus human' for name in sources[1:])} |")
    print("|---|---|" + "---|" * (2 * len(sources) - 1))
    gains: dict[str, list[float]] = {name: [] for name in sources[1:]}
    for task in args.tasks:
        one = Sources(Setting(task, args.size), params, args.llm, args.texts)
        labels = bool({"label", "both"} & {*sources})
        if labels:
            one.label()  # first: threads of the LLM and of torch disturb each other
        test = one.setting.read("test")
        actual, groups = encode_labels(test, one.setting.labels, "the test rows"), encode_groups(test)
        found = {
            name: estimate_models(actual, groups, {name: one.score(name, args.seeds)}, ordinal=False)[name]["auc"]
            for name in sources
        }
        cells = [f"{read_json(one.folder / 'labelled.json')['auc']:.3f}" if labels else ""]
        cells += [f"{estimate.value:.3f}" for estimate in found.values()]
        for name in sources[1:]:
            gain, lets_in = measure_gain(found[name], found["human"], params.evaluation.confidence), one.is_let_in(name)
            gains[name].append(gain.value if lets_in else 0.0)
            cells.append(f"{gain}" if lets_in else f"({gain})")
        print(f"| {task} | {' | '.join(cells)} |", flush=True)
    means = [format_mean(np.array(values)) for values in gains.values()]
    print(f"| mean, guarded | | {' | ' * len(sources)}{' | '.join(means)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llm", type=Path, help="folder of the LLM that labels, with model.gguf and identity.json")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--size", type=int, default=51)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=SOURCES)
    parser.add_argument("--texts", type=int, default=204, help="real texts that are labelled")
    main(parser.parse_args())
