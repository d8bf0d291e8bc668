"""Send the requests that have no answer yet, and write all answers as they came."""

from functools import partial
from pathlib import Path

from runtime import read_answering, run_stage

from amalgam.files import read_json, read_jsonl
from amalgam.params import Params
from amalgam.synthesis.asking import collect_completions, iterate_asked
from amalgam.synthesis.completions import build_lines, write_completions


def main(params: Params, root: Path) -> None:
    """Read data/prompts.jsonl, write data/completions/."""
    answering = read_answering(params.llm, root)
    model = read_json(answering.folder / "identity.json")["model"]
    prompts = partial(read_jsonl, Path("data/prompts.jsonl"))
    tally = collect_completions(prompts, model, params.synthesis, answering)
    asked = iterate_asked(prompts, tally, model, params.synthesis, answering)
    write_completions(Path("data/completions"), build_lines(asked))


if __name__ == "__main__":
    run_stage("synthesize", main)
