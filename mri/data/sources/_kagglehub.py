"""Kaggle downloads through kagglehub, which needs no account for public datasets and resumes interrupted downloads."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import requests

from mri.base.errors import UserError
from mri.data.sources import _http

ATTEMPTS = 3
PAUSE = 2.0  # seconds before the first repetition; doubles each time


def folder(handle: str, by_hand: Path | None, layout: str) -> Path:
    """Return the folder with a dataset's files: `by_hand` if given, otherwise a download in kagglehub's cache.

    handle: "owner/name/versions/N". With a version kagglehub uses a downloaded copy without network access, and a new
    version is another dataset.
    layout: what the folder of a user who places the files by hand must contain, for error messages.
    Raises UserError.
    """
    if by_hand is not None:
        if not by_hand.is_dir():
            raise UserError(f"{by_hand}: no such folder (data.options.folder): it should hold {layout}")
        return by_hand
    import kagglehub
    from kagglehub.exceptions import DataCorruptionError

    for attempt in range(ATTEMPTS):
        try:
            return Path(kagglehub.dataset_download(handle))
        except DataCorruptionError:
            fault = "the download has the wrong checksum and was deleted"
        except requests.RequestException as error:
            fault = _http.reason(error)
            if _http.final(error):
                break
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            fault = " ".join(str(error).split())
            break
        if attempt < ATTEMPTS - 1:
            time.sleep(PAUSE * 2**attempt)
    raise UserError(
        f"Kaggle dataset {handle}: {fault}: try again, or download it by hand from https://www.kaggle.com/datasets/"
        f"{handle}, unpack it and set data.options.folder to the folder that holds {layout}; data=phantom works offline"
    )
