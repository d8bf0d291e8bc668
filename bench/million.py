"""Memory and speed of the stage `synthesize` on very many requests, as `dvc repro` runs it.

Run `python -m bench.million --requests 20000` for a quick try, or without the option for a million, which takes most of
an hour and some 2 GB of disk. It copies the project into a temporary folder, configures it for a tiny task and a stub
endpoint that answers at once, and prints a Markdown table with the peak memory of each stage. Linux only.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from amalgam.files import read_json
from bench.stub_endpoint import run_stub
from tests.pipeline.project import Project, make_project

LABELS = 2  # of the tiny task
INTERVAL = 0.2  # seconds between looks at the processes
NOTICE = 30  # seconds between notices
# Different for each label: equal requests would be paid once.
TEMPLATE = "{% call user() %}Write one comment: {{ label.name }}.{% endcall %}\n"


@dataclass
class Watch:
    """Peak resident memory in MiB, and the seconds between the first and the last sighting, by script."""

    peaks: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def look(self, folder: Path, starts: dict[str, float]) -> None:
        """Record the processes that run in a folder."""
        now = time.monotonic()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").readlink() != folder:
                    continue
                words = (process / "cmdline").read_text().split("\0")
                # VmHWM is the peak since the process began, so nothing is missed between looks.
                peak = next(line for line in (process / "status").read_text().splitlines() if "VmHWM" in line)
            except (OSError, StopIteration):  # it has ended
                continue
            name = next((word for word in words if word.startswith("stages/") or word.endswith("/dvc")), "")
            if name:
                name = "dvc" if name.endswith("/dvc") else name
                self.peaks[name] = max(self.peaks.get(name, 0.0), int(peak.split()[1]) / 1024)
                self.seconds[name] = now - starts.setdefault(name, now)


@contextmanager
def watch_processes(folder: Path) -> Iterator[Watch]:
    """Watch the processes in a folder until the block ends."""
    watch, end = Watch(), Event()
    thread = Thread(target=_watch, args=(watch, folder.resolve(), end))
    thread.start()
    try:
        yield watch
    finally:
        end.set()
        thread.join()


def set_up(folder: Path, url: str, requests: int) -> Project:
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
    return project


def measure_stages(requests: int, latency: float, parent: Path | None) -> list[str]:
    """Run `dvc repro synthesize`; return the lines of the table.

    Raises:
        SystemExit: not every request was answered exactly once.
    """
    with tempfile.TemporaryDirectory(dir=parent) as temporary, run_stub(latency) as stub:
        folder = Path(temporary) / "project"
        project = set_up(folder, stub.url, requests)
        with watch_processes(folder) as watch:
            start = time.monotonic()
            project.repro("synthesize")
            seconds = time.monotonic() - start
        sent = stub.report()
        kept = read_json(folder / "data/completions/summary.json")["answers"]
        if not sent["answered"] == kept == requests:
            raise SystemExit(f"{sent['answered']:.0f} answers were sent and {kept} kept, not {requests}")
        journal = sum(path.stat().st_size for path in (folder / ".cache").glob("journal.sqlite*"))
        completions = sum(path.stat().st_size for path in (folder / "data/completions").iterdir())
    lines = ["| process | peak memory, MiB | seconds |", "|---|---|---|"]
    lines += [f"| `{name}` | {watch.peaks[name]:.0f} | {watch.seconds[name]:.0f} |" for name in sorted(watch.peaks)]
    return [
        *lines,
        "",
        f"{requests} requests, {seconds:.0f} s for all of `dvc repro synthesize`; {sent['rate']:.0f} requests/s while "
        f"sending, {sent['most_in_flight']:.0f} in flight at most; journal {journal / 2**20:.1f} MiB, "
        f"`data/completions/` {completions / 2**20:.1f} MiB.",
    ]


def _watch(watch: Watch, folder: Path, end: Event) -> None:
    starts: dict[str, float] = {}
    noticed = time.monotonic()
    while not end.wait(INTERVAL):
        watch.look(folder, starts)
        if time.monotonic() - noticed > NOTICE:
            noticed = time.monotonic()
            peaks = ", ".join(f"{name} {peak:.0f} MiB" for name, peak in sorted(watch.peaks.items()))
            print(f"peaks so far: {peaks}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="number of requests, even")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds from a request to its answer")
    parser.add_argument("--folder", type=Path, help="folder for the copy, instead of the system's temporary folder")
    args = parser.parse_args()
    print("\n".join(measure_stages(args.requests, args.latency, args.folder)))
