"""Answers that DVC has brought into this clone, so that the journal can take them in before anything is sent.

They are read from DVC's cache, not from the workspace: DVC removes a stage's outputs before it runs the stage. The
cache also holds answers that no file of the workspace names, such as those of an experiment that was pulled, or of
another branch. A request's key says exactly what was asked, so an answer is right wherever it is from.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from amalgam.dvc_cache import find_cache
from amalgam.errors import DataError
from amalgam.fetching import fetch_answers
from amalgam.llm.request import parse_stored


def iterate_seeds(
    project: Path,
    notify: Callable[[str], None],
    skip: Callable[[str], bool] = lambda _source: False,
    *,
    workspace: Path | None = None,
    fetch: bool = True,
) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Yield the shards of answers that DVC's cache holds, as (source, lines).

    A source is the MD5 of a shard as DVC names it, so that of a pool that grew only the new shards are new. Lines
    are what `Journal.seed` takes; they are read as they are asked for, and must be used before the next source.

    Args:
        project: the top folder; outside a DVC project nothing is yielded.
        notify: is told in whole sentences what is fetched, what is missing still, and what is damaged.
        skip: says whether a source is known already.
        workspace: the folder whose `dvc.lock` counts, where an experiment runs in a temporary one.
        fetch: first get the answers that are named here and not in the cache from the default remote. What it does
            not have is no error.
    """
    cache = find_cache(project)
    if cache is None:
        return
    if fetch:
        fetch_answers(project, workspace or project, cache, notify)
    seen: set[str] = set()
    for tree in cache.list_trees():
        shards = cache.read_tree(tree)
        if shards is None:
            notify(_phrase_damage(cache.place(tree)))
        for shard in shards or []:
            path = cache.place(shard)
            if shard in seen or not path.is_file() or skip(shard):
                continue
            seen.add(shard)
            if _hash_file(path) == shard:
                yield shard, _read_answers(path)
            else:
                notify(_phrase_damage(path))


def _phrase_damage(path: Path) -> str:
    return f"a damaged file in DVC's cache is left out: delete {path} and run `dvc pull`"


def _hash_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _read_answers(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as stream:
        for text in stream:
            try:
                line = json.loads(text)
                parse_stored(line)
            except (ValueError, DataError):  # a file of something else that has a number for a name
                continue
            yield line
