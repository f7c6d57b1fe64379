import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from mri.figures import save


def drawn(path):
    figure, axis = plt.subplots(figsize=(2, 2))
    axis.imshow(np.arange(10_000).reshape(100, 100), cmap="inferno")
    save(figure, path)
    return path


def test_a_picture_has_few_colours_and_stays_close_to_what_was_drawn(tmp_path):
    small = Image.open(drawn(tmp_path / "sub/small.png"))
    assert small.mode == "P"
    figure, axis = plt.subplots(figsize=(2, 2))
    axis.imshow(np.arange(10_000).reshape(100, 100), cmap="inferno")
    figure.savefig(tmp_path / "whole.png", dpi=72, bbox_inches="tight")
    plt.close(figure)
    whole = np.asarray(Image.open(tmp_path / "whole.png").convert("RGB")).astype(int)
    assert np.abs(np.asarray(small.convert("RGB")) - whole).mean() < 3


def test_the_same_picture_is_the_same_file(tmp_path):
    assert drawn(tmp_path / "a.png").read_bytes() == drawn(tmp_path / "b.png").read_bytes()
