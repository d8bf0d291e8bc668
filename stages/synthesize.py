"""Send the requests that have no answer yet, and write all answers as received."""

from pathlib import Path

from runtime import read_answering, run_stage

from amalgam.files import read_json
from amalgam.params import Params
from amalgam.synthesis.asking import Rounds, collect_answers, read_prompts, write_completions


def main(params: Params, root: Path) -> None:
    """Read data/prompts.jsonl, write data/completions/."""
    answering = read_answering(params.llm, root)
    model = read_json(answering.folder / "identity.json")["model"]
    rounds = Rounds(read_prompts(Path("data/prompts.jsonl")), model, params.synthesis, params.llm.body)
    collect_answers(rounds, answering)
    write_completions(Path("data/completions"), rounds)


if __name__ == "__main__":
    run_stage("synthesize", main)
