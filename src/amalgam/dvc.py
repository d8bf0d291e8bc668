"""Everything that this project needs from DVC. No other module uses DVC's internals.

The cache is read as files, in the layout that DVC documents (user guide, "Internal directories and files"): no function
of DVC reads objects that the workspace does not name, such as the answers of another branch.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amalgam.errors import DataError
from amalgam.llm.request import Answer, parse_stored

if TYPE_CHECKING:
    from dvc.repo import Repo

FOLDERS = ("data/completions", "data/judgements", "data/labelled", "data/baselines")  # outputs that hold raw answers
_SHARDS = r"(?:.*/)?\d+\.jsonl"  # the files of raw answers in them
# Such an output in dvc.lock or in the record of a run. Not parsed as YAML, because dvc.lock may hold a conflict.
_NAMED = re.compile(
    rf"outs:\n(?:[ -]+\w+: .*\n)*?[ -]+path: ({'|'.join(FOLDERS)})\n(?: +\w+: .*\n)*? +md5: ([0-9a-f]{{32}}\.dir)\b"
)

Notify = Callable[[str], None]  # takes one sentence for the person at the terminal


@contextmanager
def open_repo(folder: Path) -> Iterator["Repo"]:
    """Open the DVC project in a folder; a DataError reports what DVC cannot read."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(folder)) as repo:
            yield repo
    except LockError as error:
        raise DataError("DVC is at work in this project: wait until `dvc` has ended") from error
    except DvcException as error:
        raise DataError(f"DVC cannot read the project ({error}): run `dvc status` in its top folder") from error


def list_stages_to_run(folder: Path) -> list[str]:
    """List the stages that `dvc repro` would run, in order: those that changed, and at most all that depend on them."""
    import networkx

    with open_repo(folder) as repo:
        status, graph = repo.status(), repo.index.graph.reverse(copy=True)  # edges lead to what depends on a stage
        changed = {stage for stage in graph if stage.addressing in status}
        run = changed.union(*(networkx.descendants(graph, stage) for stage in changed))
        names = [stage.addressing for stage in networkx.topological_sort(graph) if stage in run]
        return [name for name in names if "dvc.yaml:" not in name]  # the study runs only by its own name


def restore_outputs(stage: str) -> None:
    """Put back the outputs that DVC removed before it ran a stage, as it last saved them."""
    with open_repo(Path()) as repo:
        file, _, name = stage.rpartition(":")
        for output in repo.stage.load_one(file or None, name).outs:
            # DVC's run cache holds outputs without `cache` too; Git tracks those, so they must not be links.
            output.use_cache = True
            output.cache.cache_types = ["copy"]
            if not output.persist and not output.changed_cache():
                output.checkout(force=True)


def find_commit(repo: "Repo", name: str) -> str:
    """Return the full hash of a branch, tag, commit or experiment; empty if there is none."""
    from dvc.scm import SCMError, resolve_rev

    try:
        return str(resolve_rev(_get_git(repo), name))
    except SCMError:
        return ""


def list_experiments(repo: "Repo") -> list[str]:
    """List the commits of the experiments that started at HEAD, oldest first."""
    git = _get_git(repo)
    commits = [commit for found in repo.experiments.ls().values() for _, commit in found]
    return sorted(commits, key=lambda commit: git.resolve_commit(commit).commit_time)


def open_files(repo: "Repo", commit: str) -> tuple[Any, str]:
    """Return an fsspec file system of a commit, or of the workspace for `""`, and the project's folder in it."""
    from dvc.fs import localfs

    if not commit:
        return localfs, repo.root_dir
    git = _get_git(repo)
    return git.get_fs(commit), Path(repo.root_dir).relative_to(git.root_dir).as_posix()


def parse_yaml(text: str, path: str) -> Any:
    """Parse YAML as DVC does, because other parsers read 5e-05 as text; invalid YAML is a ValueError."""
    from dvc.utils import serialize

    try:
        return serialize.parse_yaml(text, path)
    except serialize.YAMLFileCorruptedError as error:
        raise ValueError(str(error)) from error


def find_file(repo: "Repo", tree: str, name: str, title: str, notify: Notify) -> Path | None:
    """Return the cached object of a file in a folder (`tree` in dvc.lock, or ""), fetched if needed, None if lost."""
    remote = repo.config["core"].get("remote")
    found = _read_tree(repo, tree).get(name)
    if tree and remote and not (found and _place(repo, found).is_file()):
        notify(f"fetching {title} from DVC's remote `{remote}`")
        _fetch_files(repo, [tree], re.escape(name))
        found = _read_tree(repo, tree).get(name)
    return _check_object(repo, found, notify) if found else None


def iterate_shared_answers(
    folder: Path,
    notify: Notify,
    is_known: Callable[[str], bool] = lambda _source: False,
    *,
    workspace: Path | None = None,
    fetch: bool = True,
) -> Iterator[tuple[str, Iterator[tuple[str, Answer]]]]:
    """Yield the answers in DVC's cache, as (MD5 of a shard, answers with their keys); nothing outside a project.

    The cache holds what DVC removes from the workspace before it runs a stage, and answers of other branches and
    experiments. `is_known` returns whether a shard has been read before. With `fetch`, the answers that `dvc.lock` in
    `workspace` names are fetched first; an experiment may run in a temporary workspace.
    """
    try:
        with open_repo(folder) as repo:
            pass  # only paths are needed: DVC's databases stay closed while answers are read
    except DataError:
        return
    if fetch:
        _fetch_answers(repo, workspace or folder, notify)
    elif repo.config["core"].get("remote") and (lacking := _find_missing(repo, _list_locked(folder))[0]):
        notify(f"answers of earlier runs ({lacking}) are not here, and count as not given: try `dvc pull {lacking}`")
    seen: set[str] = set()
    for path in sorted(Path(repo.cache.local.path).glob("??/*.dir")):
        tree = path.parent.name + path.name
        for shard in _list_shards(repo, tree) if _check_object(repo, tree, notify) else []:
            if shard not in seen and not is_known(shard) and (found := _check_object(repo, shard, notify)):
                yield shard, _read_answers(found)
            seen.add(shard)


def _fetch_answers(repo: "Repo", workspace: Path, notify: Notify) -> None:
    """Fetch the answers that dvc.lock or a record of a run names, as far as the remote has them."""
    remote = repo.config["core"].get("remote")
    locked = _list_locked(workspace)
    runs = {named for text in _read_runs(repo) for named in _NAMED.findall(text)}
    folders, trees = _find_missing(repo, locked | runs)
    if remote and trees:
        notify(f"fetching answers of earlier runs ({folders}) from DVC's remote `{remote}`")
        _fetch_files(repo, trees, _SHARDS)
    folders, trees = _find_missing(repo, locked)
    if trees:
        reason = f"`dvc pull {folders}` shows why" if remote else "DVC has no default remote here"
        notify(
            f"the answers that dvc.lock names in {folders} are not here and could not be fetched ({reason}), so the "
            "LLM is asked for those that are needed"
        )


def _list_locked(workspace: Path) -> set[tuple[str, str]]:
    """List folders and hashes in dvc.lock, that of HEAD and of a branch that is being merged, which is paid for too."""
    texts = []
    with suppress(FileNotFoundError):
        texts.append((workspace / "dvc.lock").read_text(encoding="utf-8"))
    for revision in ("HEAD", "MERGE_HEAD"):
        with suppress(OSError):  # no Git on this machine
            command = ["git", "show", f"{revision}:./dvc.lock"]
            texts.append(subprocess.run(command, cwd=workspace, capture_output=True, check=False).stdout.decode())
    return {named for text in texts for named in _NAMED.findall(text)}


def _read_runs(repo: "Repo") -> Iterator[str]:
    for path in Path(repo.stage_cache.cache_dir).glob("??/*/*"):
        with suppress(FileNotFoundError):  # another process's temporary name
            yield path.read_text(encoding="utf-8")


def _find_missing(repo: "Repo", named: set[tuple[str, str]]) -> tuple[str, list[str]]:
    """Return the names and hashes of the folders whose list of files or a shard is not in the cache."""
    objects = {tree: [_place(repo, name) for name in [tree, *_list_shards(repo, tree)]] for _, tree in named}
    missing = {tree for tree, paths in objects.items() if not all(map(Path.is_file, paths))}
    return " ".join(sorted({folder for folder, tree in named if tree in missing})), sorted(missing)


def _read_answers(path: Path) -> Iterator[tuple[str, Answer]]:
    with path.open("rb") as stream:
        for line in stream:
            with suppress(ValueError):  # other files may have numbers for names
                yield parse_stored(line)


def _read_tree(repo: "Repo", tree: str) -> dict[str, str]:
    """Return the hashes of a folder's files by name; none if their list is missing or damaged."""
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(_place(repo, tree).read_bytes())}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _list_shards(repo: "Repo", tree: str) -> list[str]:
    files = sorted(_read_tree(repo, tree).items())
    return [md5 for name, md5 in files if re.fullmatch(_SHARDS, name)]


def _place(repo: "Repo", name: str) -> Path:
    return Path(repo.cache.local.path) / name[:2] / name[2:]


def _check_object(repo: "Repo", name: str, notify: Notify) -> Path | None:
    """Return the path of an object; None if it is missing or, with a notice, does not match its hash."""
    path = _place(repo, name)
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest == name.removesuffix(".dir"):
        return path
    notify(f"a damaged file in DVC's cache is skipped: delete {path} and run `dvc pull`")
    return None


def _get_git(repo: "Repo") -> Any:
    from dvc.scm import NoSCM

    if isinstance(repo.scm, NoSCM):
        raise DataError("the project is not in a Git repository, so there are no revisions to compare: run `git init`")
    return repo.scm


def _fetch_files(repo: "Repo", trees: list[str], names: str) -> None:
    # In a separate process: DVC prints while it fetches, and a remote's library may raise anything.
    command = [sys.executable, "-m", "amalgam.dvc", names, *trees]
    subprocess.run(command, cwd=repo.root_dir, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _pull(names: str, trees: list[str]) -> None:
    """Fetch folders' lists of files, then the files whose names match; what the remote lacks is skipped."""
    from dvc_data.hashfile.hash_info import HashInfo

    with open_repo(Path()) as repo:
        repo.cloud.pull([HashInfo("md5", tree) for tree in trees])
        files = {item for tree in trees for item in _read_tree(repo, tree).items()}
        repo.cloud.pull([HashInfo("md5", md5) for name, md5 in sorted(files) if re.fullmatch(names, name)])


if __name__ == "__main__":
    _pull(sys.argv[1], sys.argv[2:])
