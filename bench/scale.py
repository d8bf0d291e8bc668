"""Memory and speed of the stages after the answers, `curate` and `mix`, each in its own process.

Run `python -m bench.scale` for a million responses and a tenth of them, or `--responses 100000` for a quick try. It
makes up the responses of a finished `synthesize`: 2 % are nearly equal to an earlier one, 1 % equal, 3 % cut off. The
mix takes the whole pool. It prints a Markdown table. A million take some minutes and 2 GB of disk. Linux only, since
other systems count memory in other units.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from amalgam.files import read_json, write_json, write_rows
from amalgam.llm.request import write_answers

REPOSITORY = Path(__file__).resolve().parent.parent
TASK = "product_feedback"
LABELS = ("negative", "positive")
GRADED = 1000  # responses a label, as by default
HELD_OUT = 600  # rows
OTHERS = 10**12  # from this number on, texts are those of human rows
EQUAL, NEAR, CUT_OFF = 0.01, 0.02, 0.03  # shares of the responses
CLAUSES = [
    "the {thing} {verb} {how} after {time}",
    "I bought it for the {place}",
    "my {person} wanted one with a {thing}",
    "it {verb} as the {person} said",
    "nobody told me that the {thing} {verb}",
    "for {time} it {verb} {how}",
    "we use it {how} in the {place}",
    "the {place} is where it {verb}",
    "a {person} showed me the {thing}",
    "with the old {thing} it {verb} {how}",
    "since {time} the {thing} {verb}",
    "I would {how} give it to a {person}",
    "at this price a {thing} {verb}",
    "the manual says that the {thing} {verb}",
    "before {time} my {person} {verb} too",
    "in the {place} a {thing} matters",
    "the seller and his {person} answered {how}",
    "next to the {place} it {verb} {how}",
]
WORDS = {  # of each kind; `_` stands for a blank
    "thing": "battery lens screen case button menu strap cable charger speaker zoom flash antenna keypad display "
    "software memory viewfinder tripod remote disc player radio camera phone headset adapter sensor hinge cover",
    "verb": "works fails shines cracks lasts freezes helps hums scratches impresses surprises sticks annoys slips "
    "delivers drains overheats rattles improves disappoints holds wobbles survives beeps stutters fits shrinks",
    "how": "well badly quickly slowly reliably rarely often loudly quietly nicely poorly perfectly hardly easily "
    "gladly barely smoothly clumsily mostly always seldom twice everywhere indoors outside together again",
    "time": "a_week two_days one_month an_hour half_a_year the_holidays a_long_trip three_weeks the_first_charge "
    "a_summer many_tries one_evening the_update ten_minutes a_fall the_repair my_birthday lunch",
    "place": "kitchen garden office car train school church gym beach cellar hotel studio airport boat workshop "
    "library hospital theatre forest market stadium attic garage classroom museum desert harbour",
    "person": "brother mother daughter colleague neighbour friend teacher boss cousin uncle wife husband nephew "
    "student dentist grandfather roommate partner coach pilot nurse painter",
}
# A small process, because the peak of a process counts what its parent had when it was started.
_LAUNCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print("", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
CHOICES = {kind: [word.replace("_", " ") for word in words.split()] for kind, words in WORDS.items()}


@dataclass(frozen=True)
class Run:
    """The time and memory that a process took."""

    seconds: float
    peak: float  # MiB, resident


def make_text(number: int) -> str:
    """Make up the response with this number, about 150 characters; some equal an earlier one, or nearly."""
    draw = random.Random(number)
    kind = draw.random()
    if number and kind < EQUAL + NEAR:
        earlier = make_text(draw.randrange(number))
        return earlier if kind < EQUAL else f"{earlier} {draw.choice(CHOICES['how']).capitalize()}!"
    chosen = draw.sample(CLAUSES, 4)
    clauses = [clause.format_map({kind: draw.choice(words) for kind, words in CHOICES.items()}) for clause in chosen]
    return f"{'; '.join(clauses).capitalize()}."


def make_lines(responses: int) -> Iterator[dict[str, Any]]:
    """Yield the lines of `data/completions/`."""
    for number in range(responses):
        slot, place = divmod(number, len(LABELS))
        yield {
            "key": f"{number:064x}",
            "id": f"{LABELS[place]}-{slot:07d}",
            "attempt": 0,
            "label": LABELS[place],
            "sample": slot,
            "question": "",
            "attributes": {},
            "responses": 1,
            "format": "text",
            "text": make_text(number),
            "finish_reason": "length" if random.Random(f"cut off {number}").random() < CUT_OFF else "stop",
            "prompt_tokens": 300,
            "completion_tokens": 35,
            "cost_usd": 0.0,
        }


def set_up(folder: Path, responses: int) -> None:
    """Make a folder in which `synthesize` and `judge` have run."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params |= {"task": TASK, "ratio": 1.0}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    shutil.copytree(REPOSITORY / "data/tasks" / TASK, folder / "data/tasks" / TASK)
    human = [
        {"id": f"human-{number}", "text": make_text(OTHERS + number), "question": "", "label": LABELS[number % 2]}
        for number in range(HELD_OUT)
    ]
    for name, rows in (("train", human[:40]), ("validation", human[40:50]), ("test", human[50:])):
        write_rows(folder / f"data/prepared/{name}.csv", pd.DataFrame(rows))
    write_answers(folder / "data/completions", make_lines(responses))
    labelled = pd.DataFrame(columns=["id", "text", "question", "label", "soft"])
    write_rows(folder / "data/labelled/labelled.csv", labelled)
    took = dict.fromkeys(("asked_again", "prompt_tokens", "completion_tokens", "cost_usd"), 0)
    write_json(folder / "data/completions/summary.json", {"answers": responses, **took})
    graded = pd.DataFrame(make_lines(min(responses, GRADED * len(LABELS)))).query("finish_reason == 'stop'")
    judgements = graded[["id", "label"]].assign(judged=graded["label"])
    write_rows(folder / "data/judgements/judgements.csv", judgements)


def run_command(*command: str | Path, folder: Path) -> Run:
    """Run a command to its end, and end if it fails."""
    start = time.monotonic()
    launch: list[str | Path] = [sys.executable, "-c", _LAUNCH, *command]
    done = subprocess.run(launch, cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{command} failed with code {done.returncode}")
    return Run(time.monotonic() - start, int(done.stdout.split()[-1]) / 1024)


def measure_stages(responses: int, parent: Path | None) -> Iterator[str]:
    """Run the stages on that many responses; yield a line of the table for each."""
    with tempfile.TemporaryDirectory(dir=parent) as temporary:
        folder = Path(temporary)
        set_up(folder, responses)
        for name in ("curate", "mix"):
            run = run_command(sys.executable, REPOSITORY / f"stages/{name}.py", folder=folder)
            kept = read_json(folder / "data/curated/summary.json")["kept"]
            rate = responses / run.seconds
            yield f"| `{name}` | {responses} | {kept} | {run.seconds:.0f} | {rate:.0f} | {run.peak:.0f} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=1_000_000, help="how many; a tenth of it is measured first")
    parser.add_argument("--folder", type=Path, help="folder for the files, instead of the system's temporary folder")
    args = parser.parse_args()
    print("| stage | responses | kept | seconds | responses/s | peak memory, MiB |\n|---|---|---|---|---|---|")
    for count in (args.responses // 10, args.responses):
        for row in measure_stages(count, args.folder):
            print(row, flush=True)
