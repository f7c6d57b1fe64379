"""Fetch the images of the chosen source and check every one of them."""

from pathlib import Path

from mri.base import cli
from mri.base.params import Data, Params
from mri.base.paths import DATASET, REFERENCE
from mri.data.download import download as fetch


def download(params: Params) -> None:
    """Write artifacts/dataset: the source's images and masks, and index.csv with one row per image.

    The reference dataset, if there is one, is written below it in the same form.
    """
    data = params.data
    index = fetch(data.source, data.options, data.classes, DATASET, params.seed)
    print(
        f"{data.name}: {len(index)} images, " + ", ".join(f"{n} {c}" for c, n in index["label"].value_counts().items())
    )
    reference = data.reference
    if reference and _is_available(reference):
        reference_index = fetch(reference.source, reference.options, reference.classes, REFERENCE, params.seed)
        print(f"reference: {len(reference_index)} images")


def _is_available(reference: Data) -> bool:
    """Check whether a reference dataset can be fetched: a local one needs its folder, any other is downloaded."""
    return reference.source != "local" or Path(reference.options["folder"]).is_dir()


if __name__ == "__main__":
    cli.run_stage(download)
