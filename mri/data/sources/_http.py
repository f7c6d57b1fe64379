"""HTTP downloads that resume after interruptions and are checked by MD5."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import requests
from tqdm import tqdm

from mri.base.errors import UserError

ATTEMPTS = 4
PAUSE = 2.0  # seconds before the first repetition; doubles each time
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of data
CHUNK = 1 << 16  # bytes; an unfinished one is lost when the connection breaks


class DownloadError(UserError):
    """A file could not be fetched; the message says from where, and why."""


def cache(name: str) -> Path:
    """Return the folder that keeps downloads of source `name` between runs, below $XDG_CACHE_HOME or ~/.cache.

    The stage's output would not do: DVC empties it before each run, and an interrupted download would start over.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "brain-tumour-mri" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch(url: str, path: Path, md5: str) -> Path:
    """Download `url` to `path` unless it is there already, check its MD5, and return `path`.

    Bytes are appended to `path`.part. After a broken connection the rest is requested (HTTP Range), a few times in this
    call and again in the next. Raises DownloadError.
    """
    if path.exists() and _md5(path) == md5:
        return path
    part = path.with_name(path.name + ".part")
    for attempt in range(ATTEMPTS):
        try:
            _append(url, part)
            break
        except requests.RequestException as error:
            if attempt == ATTEMPTS - 1 or final(error):
                raise DownloadError(f"{url}: {reason(error)}") from error
            time.sleep(PAUSE * 2**attempt)
    actual = _md5(part)
    if actual != md5:
        part.unlink()
        raise DownloadError(f"{url}: the download has MD5 {actual} instead of {md5} and was deleted: run again")
    part.replace(path)
    return path


def reason(error: requests.RequestException) -> str:
    """Describe what went wrong in a few words."""
    if error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off (what arrived is kept, run again to continue)"
    return "no connection"


def _append(url: str, part: Path) -> None:
    """Request what `part` lacks and append it."""
    offset = part.stat().st_size if part.exists() else 0
    # Without `identity` the byte counts of a compressing server would not be the file's.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing; the caller compares the checksum
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            offset = 0  # the server sends the whole file
        total = offset + int(response.headers.get("Content-Length", 0))
        bar = tqdm(total=total or None, initial=offset, desc=part.stem, unit="B", unit_scale=True, disable=None)
        with part.open("ab" if offset else "wb") as file, bar:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def final(error: requests.RequestException) -> bool:
    """Check whether retrying is pointless: the server refuses, rather than being busy or broken."""
    return error.response is not None and 400 <= error.response.status_code < 500 and error.response.status_code != 429


def _md5(path: Path) -> str:
    # MD5 because it is what the archives publish: a check against damage, not against an attacker.
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
