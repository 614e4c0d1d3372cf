"""Files and folders that are there whole or not at all, whatever happens while they are written.

Everything is written under another name, reaches the disk, and only then gets its own. A folder also gets a manifest,
so that what happens to it later is found out before it is used.

>>> import tempfile
>>> model = Path(tempfile.mkdtemp()) / "model"
>>> with whole_folder(model) as partial:
...     _ = (partial / "weights.bin").write_bytes(b"12345")
>>> damage(model)
>>> _ = (model / "weights.bin").write_bytes(b"123")
>>> damage(model)
'weights.bin has 3 of 5 bytes'
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from penchant.errors import StorageError

_MANIFEST = "manifest.json"
_PARTIAL = ".partial"  # folder of folders that are being written or removed
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name that becomes the file only if everything was written.

    Raises:
        StorageError: the disk is full or cannot be written to; what was there before still is.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            _to_disk(partial)
            partial.replace(path)
            _to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder that becomes `path` only if everything in it was written; `damage` can tell ever after.

    Raises:
        StorageError: the disk is full or cannot be written to; what was there before still is.
    """
    partial = partial_folder(path)
    try:
        with _explained(path):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            _write_manifest(partial)
            remove_folder(path)
            partial.rename(path)
            _to_disk(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        _tidy(partial.parent)


def partial_folder(path: Path) -> Path:
    """Where `whole_folder` gathers what will be the folder: under the same name, elsewhere."""
    return path.parent / _PARTIAL / path.name


def remove_folder(path: Path) -> None:
    """Remove a folder if it is there; its name goes first, so that nobody finds half of it."""
    if path.exists():
        grave = partial_folder(path.with_name(f"{path.name}.removed"))
        grave.parent.mkdir(exist_ok=True)
        shutil.rmtree(grave, ignore_errors=True)
        path.rename(grave)
        shutil.rmtree(grave)
        _tidy(grave.parent)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder; nobody may be writing there."""
    shutil.rmtree(folder / _PARTIAL, ignore_errors=True)
    for path in folder.glob(f"*{_PARTIAL}"):
        path.unlink(missing_ok=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that `whole_folder` wrote: a file that is missing, shorter or other than it was.

    Returns:
        A sentence, or None if it is whole. Files that came later do not count.
    """
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        expected = {name: (int(file["bytes"]), str(file["blake2b"])) for name, file in files.items()}
    except FileNotFoundError:
        return f"{_MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{_MANIFEST} cannot be read ({error!r})"
    for name, (size, _) in expected.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if (found := (folder / name).stat().st_size) != size:
            return f"{name} has {found:,} of {size:,} bytes"
    try:
        digests = _digests([folder / name for name in expected])
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    for (name, (_, digest)), found_digest in zip(expected.items(), digests, strict=True):
        if found_digest != digest:
            return f"{name} is not what was written"
    return None


def _tidy(folder: Path) -> None:
    with suppress(OSError):  # somebody else is writing beside us
        folder.rmdir()


def _write_manifest(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        _to_disk(path)
    files: dict[str, Any] = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "blake2b": digest}
        for path, digest in zip(paths, _digests(paths), strict=True)
    }
    manifest = folder / _MANIFEST
    manifest.write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")
    for path in (manifest, *(path for path in folder.rglob("*") if path.is_dir()), folder):
        _to_disk(path)


def _digests(paths: list[Path]) -> list[str]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing holds no lock: several files at once
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()


def _to_disk(path: Path) -> None:
    """Wait until a file or the names in a folder would survive a power cut."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say in one sentence that the disk would not take something, whoever noticed."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        if (reason := _reason(error)) is None:
            raise
        raise StorageError(
            f"{path} could not be written: {reason} ({_free(path)}). What was there before is untouched; make room or "
            "choose another folder, and run the same command again."
        ) from error


def _reason(error: BaseException | None) -> str | None:
    """What the operating system said, if that is the cause: libraries wrap it in errors of their own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            return os.strerror(error.errno)
        text = str(error)
        for number in _OF_THE_DISK:
            if os.strerror(number) in text:
                return os.strerror(number)
        if "inline_container" in text:  # all that torch.save says
            return "the disk did not take all of it"
        error = error.__cause__ or error.__context__
    return None


def _free(path: Path) -> str:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB are free there"
