"""DVC's cache of this project, read by hash: folders of answers as DVC saved them, whatever the workspace holds now."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Raw answers are kept in JSON lines, in files that are named by number.
_SHARD = re.compile(r"(?:answers/)?\d+\.jsonl")
_HASH = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Cache:
    """Where DVC keeps what it knows.

    Attributes:
        files: the folder of the files, each by its MD5; that of a folder's list of files ends with `.dir`.
        runs: the folder of the records of runs, YAML like the stages in dvc.lock.
        remote: name of the default remote, or None.
    """

    files: Path
    runs: Path
    remote: str | None

    def place(self, name: str) -> Path:
        """Return where a file is, or would be, by its hash."""
        return self.files / name[:2] / name[2:]

    def list_trees(self) -> list[str]:
        """List the folders by hash, in order."""
        return sorted(f"{path.parent.name}{path.name}" for path in self.files.glob("??/*.dir"))

    def list_runs(self) -> Iterator[Path]:
        """List the records of runs."""
        return self.runs.glob("??/*/*")

    def read_tree(self, tree: str) -> list[str] | None:
        """Return the hashes of a folder's shards of answers in order of their names; None if the list is damaged."""
        try:
            entries = json.loads(self.place(tree).read_bytes())
            shards = sorted((entry["relpath"], entry["md5"]) for entry in entries)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return [shard for name, shard in shards if _SHARD.fullmatch(name) and _HASH.fullmatch(shard)]

    def has_answers(self, tree: str) -> bool:
        """Say whether a folder's list of files is here, and all shards of answers in it."""
        shards = self.read_tree(tree)
        return shards is not None and all(self.place(shard).is_file() for shard in shards)


def find_cache(project: Path) -> Cache | None:
    """Find the cache of a project; None where there is no project that a command of DVC could read."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(project)) as repo:
            return Cache(
                files=Path(repo.cache.local.path),
                runs=Path(repo.stage_cache.cache_dir),
                remote=repo.config["core"].get("remote"),
            )
    except DvcException:
        return None
