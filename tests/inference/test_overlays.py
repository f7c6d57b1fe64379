import io

import numpy as np
from PIL import Image

from mri.inference.overlays import colours, overlay, png


def test_brightness_rises_with_every_level():
    luma = colours().astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luma[::4]) > 0).all()


def test_an_overlay_is_transparent_where_the_map_is_zero_and_opaque_at_its_maximum():
    picture = overlay(np.array([[0.0, 2.0], [4.0, 1.0]]))
    assert picture.shape == (2, 2, 4) and picture[..., 3].tolist() == [[0, 128], [255, 64]]
    assert picture[1, 0, :3].tolist() == colours()[255].tolist()


def test_an_empty_map_is_transparent_everywhere():
    assert not overlay(np.zeros((3, 3)))[..., 3].any()


def test_a_picture_survives_the_file():
    picture = overlay(np.arange(12.0).reshape(3, 4))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)
