"""Memory and speed of the stages up to `synthesize` on very many requests, each in its own process.

Run `python -m bench.million --requests 20000` for a quick try, or without the option for a million, which takes most of
an hour and some 2 GB of disk. It copies the project into a temporary folder, configures it for a tiny task and a stub
endpoint that answers at once, and prints a Markdown table with the peak memory of each stage. Linux only.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from amalgam.files import read_json
from bench.scale import run_command
from bench.stub_endpoint import run_stub
from tests.pipeline.project import make_project

LABELS = 2  # of the tiny task
# Different for each label: equal requests would be paid once.
TEMPLATE = "{% call user() %}Write one comment: {{ label.name }}.{% endcall %}\n"


def set_up(folder: Path, url: str, requests: int) -> None:
    """Make the copy: tiny prompts without shots, and no row requested twice."""
    project = make_project(folder, url)
    template = folder / "data/tasks/toy/templates/tiny.j2"
    template.parent.mkdir()
    template.write_text(TEMPLATE, encoding="utf-8")
    project.set_params(
        prompts__template="tiny",
        prompts__shots=0,
        synthesis__rows=requests // LABELS,
        llm__concurrency=64,
        llm__timeout=120.0,
    )


def measure_stages(requests: int, latency: float, parent: Path | None) -> Iterator[str]:
    """Run the stages up to `synthesize`; yield the lines of the table.

    Raises:
        SystemExit: not every request was answered exactly once.
    """
    with tempfile.TemporaryDirectory(dir=parent) as temporary, run_stub(latency) as stub:
        folder = Path(temporary) / "project"
        set_up(folder, stub.url, requests)
        yield "| stage | peak memory, MiB | seconds |"
        yield "|---|---|---|"
        for name in ("models", "prepare", "prompts", "synthesize"):
            run = run_command(sys.executable, f"stages/{name}.py", folder=folder)
            yield f"| `{name}` | {run.peak:.0f} | {run.seconds:.0f} |"
        sent = stub.report()
        kept = read_json(folder / "data/completions/summary.json")["answers"]
        if not sent["answered"] == kept == requests:
            raise SystemExit(f"{sent['answered']:.0f} answers were sent and {kept} kept, not {requests}")
        journal = sum(path.stat().st_size for path in (folder / ".cache").glob("journal.sqlite*"))
        completions = sum(path.stat().st_size for path in (folder / "data/completions").iterdir())
    yield ""
    yield (
        f"{requests} requests; {sent['rate']:.0f} requests/s while sending, {sent['most_in_flight']:.0f} in flight at "
        f"most; journal {journal / 2**20:.1f} MiB, `data/completions/` {completions / 2**20:.1f} MiB."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="number of requests, even")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds from a request to its answer")
    parser.add_argument("--folder", type=Path, help="folder for the copy, instead of the system's temporary folder")
    args = parser.parse_args()
    for line in measure_stages(args.requests, args.latency, args.folder):
        print(line, flush=True)
