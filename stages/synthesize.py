"""Send the requests that have no answer yet, and write all answers as they came."""

from pathlib import Path

from runtime import read_answering, run_stage

from amalgam.files import read_json, read_jsonl
from amalgam.llm.answering import answer_requests
from amalgam.params import Params
from amalgam.synthesis.completions import build_requests, write_completions


def main(params: Params, root: Path) -> None:
    """Read data/prompts.jsonl, write data/completions/."""
    answering = read_answering(params.llm, root)
    prompts = list(read_jsonl(Path("data/prompts.jsonl")))
    model = read_json(answering.folder / "identity.json")["model"]
    requests = build_requests(prompts, model, params.synthesis)
    answers = answer_requests(requests, answering, "synthesize")
    write_completions(Path("data/completions"), prompts, requests, answers)


if __name__ == "__main__":
    run_stage("synthesize", main)
