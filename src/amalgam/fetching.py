"""Fetching from DVC's default remote the answers that are named here and that the cache lacks."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from amalgam.dvc_cache import Cache, find_cache

# The outputs that hold raw answers.
FOLDERS = ("data/completions", "data/judgements", "data/baselines")


def fetch_answers(project: Path, workspace: Path, cache: Cache, notify: Callable[[str], None]) -> None:
    """Bring the answers that dvc.lock or a record of a run names into the cache, as far as the remote has them.

    Args:
        project: the top folder.
        workspace: the folder of the dvc.lock that counts.
        cache: the project's.
        notify: is told in one sentence what is fetched, and in one what is missing still.
    """
    locked = _list_named(_read_locks(workspace))
    wanted = locked | _list_named(_read_runs(cache)) if cache.remote else locked
    missing = _select_missing(wanted, cache)
    if cache.remote and missing:
        notify(f"fetching answers that were had before ({_phrase(missing)}) from DVC's remote `{cache.remote}`")
        # A process of its own: DVC prints while it fetches, and a remote's library raises whatever it likes.
        command = [sys.executable, "-m", "amalgam.fetching", *sorted(tree for _, tree in missing)]
        subprocess.run(command, cwd=project, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if missing := _select_missing(locked, cache):
        folders = _phrase(missing)
        reason = f"`dvc pull {folders}` says why" if cache.remote else "DVC has no default remote here"
        notify(
            f"the answers that dvc.lock names in {folders} are not here and could not be fetched ({reason}), so the "
            "LLM is asked for those that are needed"
        )


def _read_locks(workspace: Path) -> list[bytes]:
    """Read dvc.lock: the file, that of the last commit, and that of the branch that is being merged.

    Whoever settles a conflict of the file takes one side, and should pay for neither.
    """
    locks = {_show_lock(workspace, revision) for revision in ("HEAD", "MERGE_HEAD")}
    if (path := workspace / "dvc.lock").is_file():
        locks.add(path.read_bytes())
    return sorted(locks)


def _read_runs(cache: Cache) -> Iterator[bytes]:
    for path in cache.list_runs():
        with suppress(FileNotFoundError):  # another process's temporary name
            yield path.read_bytes()


def _show_lock(workspace: Path, revision: str) -> bytes:
    command = ["git", "show", f"{revision}:./dvc.lock"]
    try:
        return subprocess.run(command, cwd=workspace, capture_output=True, check=False).stdout
    except OSError:  # no Git on this machine
        return b""


def _list_named(texts: Iterable[bytes]) -> set[tuple[str, str]]:
    """Return each folder of answers and its hash, as dvc.lock or records of runs name them among their outputs."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # twenty times as fast, where PyYAML was built with it
    named = set()
    for text in texts:
        if not any(folder.encode() in text for folder in FOLDERS):
            continue
        try:
            content = yaml.load(text, loader)
        except yaml.YAMLError:  # with the marks of a conflict
            continue
        for stage in content["stages"].values() if "stages" in content else [content]:
            for out in stage.get("outs", []):
                if out["path"] in FOLDERS and str(out.get("md5")).endswith(".dir"):
                    named.add((out["path"], out["md5"]))
    return named


def _select_missing(named: set[tuple[str, str]], cache: Cache) -> list[tuple[str, str]]:
    return sorted((folder, tree) for folder, tree in named if not cache.has_answers(tree))


def _phrase(missing: list[tuple[str, str]]) -> str:
    return " ".join(sorted({folder for folder, _ in missing}))


def _pull(trees: list[str]) -> None:
    """Fetch folders' lists of files, then their shards of answers; what the remote lacks is passed over."""
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo

    cache = find_cache(Path())
    assert cache
    with Repo() as repo:
        repo.cloud.pull([HashInfo("md5", tree) for tree in trees])
        shards = {shard for tree in trees for shard in cache.read_tree(tree) or []}
        if shards:
            repo.cloud.pull([HashInfo("md5", shard) for shard in sorted(shards)])


if __name__ == "__main__":
    _pull(sys.argv[1:])
