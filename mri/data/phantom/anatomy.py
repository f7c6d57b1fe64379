"""A head in template space: the MNI152 brain inside a drawn skull, scalp, face and neck.

Coordinates are MNI millimetres: x to the right, y to the front, z up. The brain comes from the templates in the
nilearn wheel (ICBM 152 2009a symmetric, see NOTICE), which are skull-stripped; everything else is drawn from ellipsoids
and tapered tubes at ordinary anatomical positions. It has to look right, not to be metrically exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np
from nilearn import datasets
from scipy import ndimage

from mri.data.phantom.fields import refine

ORIGIN = np.array(
    [-98, -134, -140]
)  # mm of the first voxel: the template's own corner, and 68 mm of face and neck below
SHAPE = (197, 261, 257)  # 1 mm voxels
SELLA = np.array([0.0, 4.0, -31.0])  # the pituitary gland
HULL_GAP = 7  # mm: gaps between parts of the brain up to twice this wide are cerebrospinal fluid, not skull
CSF_RIM = 2.5  # mm of fluid between brain and inner table
SHELL = 22  # mm: how far from the inner table skull and scalp are described layer by layer


class Tissue(IntEnum):
    """Codes of the head map below SHELL_START: tissues whose brightness is one number per patient."""

    AIR = 0
    CSF = 1
    BONE = 2
    MARROW = 3
    FAT = 4
    SKIN = 5
    MUSCLE = 6
    MUCOSA = 7
    SINUS = 8  # content of the sphenoid sinus: air, fluid or swollen mucosa
    VITREOUS = 9
    NERVE = 10
    GLAND = 11
    CAROTID = 12
    VENOUS = 13  # dural sinuses and cavernous sinus: enhancing
    DURA = 14
    CORD = 15
    TONGUE = 16
    CAVERNOUS = 17


SOFT_START = 20  # SOFT_START + 0 to 7: from pure muscle to pure fat
SOFT_STEPS = 8
SHELL_START = 32  # SHELL_START + d: skull and scalp at d mm from the inner table
BRAIN_START = 256  # BRAIN_START + level: brain of that template level, 0 to 255


@dataclass(frozen=True)
class Head:
    """The head on its 1 mm grid of shape SHAPE, first voxel at ORIGIN.

    codes: uint16, a Tissue, SHELL_START + distance, or BRAIN_START + T1 level.
    depth: int16, hundredths of a millimetre below the inner table of the skull; negative outside.
    white: uint8, white-matter probability times 255.
    """

    codes: np.ndarray
    depth: np.ndarray
    white: np.ndarray


@cache
def head() -> Head:
    """Build the head, once per process."""
    t1, white = _template()
    brain = t1 > 0
    inside = _depth(brain)
    codes = _soft_parts(inside)
    _shell(codes, inside)
    painter = Painter(codes)
    _skull_base(painter)
    _face(painter)
    _mouth_and_neck(painter)
    codes[inside > 0] = Tissue.CSF
    codes[(inside > -1) & (inside <= 0)] = Tissue.DURA
    _sella(painter)
    _vessels(painter, inside)
    codes[brain] = BRAIN_START + t1[brain]
    return Head(codes, np.round(np.clip(inside, -320, 320) * 100).astype(np.int16), white)


def sample(volume: np.ndarray, points: np.ndarray, corner: np.ndarray = ORIGIN) -> np.ndarray:
    """Interpolate a 1 mm `volume` with first voxel at `corner` linearly at `points` (3, ...) in mm, edges repeated."""
    index = points - np.reshape(corner, (3,) + (1,) * (points.ndim - 1))
    return ndimage.map_coordinates(volume, index, order=1, mode="nearest", output=np.float64)


def _template() -> tuple[np.ndarray, np.ndarray]:
    """Return sharpened T1 levels (uint16, 1 to 255, 0 outside the brain) and white-matter probability (uint8)."""
    t1 = np.asanyarray(datasets.load_mni152_template(resolution=1).dataobj)
    white = np.asanyarray(datasets.load_mni152_wm_template(resolution=1).dataobj)
    parts, _ = ndimage.label(t1 > 0)
    brain = parts == np.bincount(parts.ravel())[1:].argmax() + 1  # without small parts such as the olfactory bulbs
    # An average of 152 brains is blurred; unsharp masking restores some of a single brain's contrast.
    sharp = t1 + 1.2 * (t1 - ndimage.gaussian_filter(t1, 2.0))
    levels = np.where(brain, np.clip(np.round(sharp * 230), 1, 255), 0).astype(np.uint16)
    _narrow_fissure(levels)
    return _on_grid(levels), _on_grid(np.round(white * 255).astype(np.uint8))


def _narrow_fissure(levels: np.ndarray) -> None:
    """Move the medial walls of the hemispheres together: averaging has blurred the fissure to a black sheet."""
    middle = -ORIGIN[0]
    for side in (1, -1):
        wall = levels[middle + 3 * side] * 0.92
        for step, share in ((0, 0.8), (1, 1.0), (2, 1.0)):
            sheet = levels[middle + step * side]
            np.maximum(sheet, share * wall, out=sheet, where=sheet > 0, casting="unsafe")


def _on_grid(volume: np.ndarray) -> np.ndarray:
    """Pad a template volume to the head's larger grid: the face in front and the neck below are zero."""
    room = [(0, 0), (0, SHAPE[1] - volume.shape[1]), (SHAPE[2] - volume.shape[2], 0)]
    return np.pad(volume, room)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Return the distance to the border of `mask` in voxels, positive inside."""
    inner = ndimage.distance_transform_edt(mask)
    outer = ndimage.distance_transform_edt(~mask)
    return np.where(mask, inner - 0.5, 0.5 - outer)


def _depth(brain: np.ndarray) -> np.ndarray:
    """Return millimetres below the inner table of the skull (float32; negative outside), a smooth hull of the brain."""
    coarse = brain[::2, ::2, ::2]
    closed = _signed_distance(_signed_distance(coarse) > -HULL_GAP / 2) > HULL_GAP / 2
    distance = 2 * _signed_distance(closed | coarse) + CSF_RIM
    return refine(ndimage.gaussian_filter(distance, 1.5).astype(np.float32), SHAPE)


def _millimetres(step: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return open grids of x, y and z in mm for every `step`-th voxel of the head."""
    x, y, z = (ORIGIN[axis] + np.arange(0, SHAPE[axis], step, dtype=np.float32) for axis in range(3))
    return x[:, None, None], y[None, :, None], z[None, None, :]


def _soft_parts(inside: np.ndarray) -> np.ndarray:
    """Return codes of skin, subcutaneous fat and muscle of head and neck; brain, bones and cavities come later."""
    coarse = np.zeros(tuple((size + 1) // 2 for size in SHAPE), np.uint16)
    outline = Painter(coarse, step=2)
    outline.ellipsoid((0, 36, -62), (69, 60, 70), 1)  # face
    outline.ellipsoid((0, 44, -108), (50, 50, 34), 1)  # jaw
    outline.ellipsoid((0, 3, -82), (74, 40, 60), 1)  # cheeks and angles of the jaw
    outline.ellipsoid((0, 88, -12), (40, 12, 12), 1)  # brow
    outline.tube((0, 90, -24), (0, 111, -56), 7, 11, 1)  # nose
    outline.ellipsoid((0, 92, -84), (26, 12, 16), 1)  # lips
    outline.ellipsoid((0, 82, -120), (24, 15, 14), 1)  # chin
    outline.tube((0, -50, -60), (0, -38, -150), 60, 58, 1)  # neck
    outline.ellipsoid((0, -78, -70), (58, 36, 50), 1)  # nape
    outline.ellipsoid((84, -22, -36), (5, 15, 27), 1)  # ears
    solid = (coarse > 0) | (inside[::2, ::2, ::2] > -12)
    below = refine(2 * ndimage.gaussian_filter(_signed_distance(solid), 1.2).astype(np.float32), SHAPE)
    codes = np.full(SHAPE, Tissue.AIR, np.uint16)
    codes[below > 0] = Tissue.SKIN
    codes[below > 2.5] = Tissue.FAT
    deep = below > 7.5
    codes[deep] = SOFT_START + _marbling(coarse.shape)[deep]
    return codes


def _marbling(shape: tuple[int, ...]) -> np.ndarray:
    """Return muscle with layers of fat, 0 to SOFT_STEPS - 1 (fat), on the 1 mm grid; `shape`: of a 2 mm grid."""
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ridge = np.abs(ndimage.gaussian_filter(noise, (1.6, 1.6, 4.0)))  # muscles run up and down
    ridge = refine(ridge / ridge.std(), SHAPE)
    return np.clip((0.75 - ridge) * SOFT_STEPS / 0.9, 0, SOFT_STEPS - 1).astype(np.uint16)


def _shell(codes: np.ndarray, inside: np.ndarray) -> None:
    """Draw skull and scalp over the vault, and bone alone under the base of the skull."""
    x, y, z = _millimetres()
    # Lower at the temples and behind the ears than in front and at the nape.
    vault = z > np.where(y > 0, -12 + 0.1 * y, -12 + 0.22 * y) - np.clip(1.6 * np.abs(x) - 72, 0, 36)
    near = (inside <= 0) & (inside > -SHELL)
    layer = near & vault
    codes[layer] = SHELL_START + np.floor(-inside[layer]).astype(np.uint16)
    base = near & ~vault
    codes[base & (inside > -5)] = Tissue.BONE
    codes[base & (inside < -1.5) & (inside > -3.5)] = Tissue.MARROW


class Painter:
    """Draw solids of one code into a head map, mirrored to both sides; coordinates and sizes in mm."""

    def __init__(self, codes: np.ndarray, step: int = 1):
        self.codes = codes
        self.step = step
        self.grid = _millimetres(step)

    def ellipsoid(self, centre: tuple, radii: tuple, code: int, only: tuple[int, ...] = ()) -> None:
        """Draw an axis-parallel ellipsoid; with `only`, over voxels that have one of these codes."""
        lateral, *middle = centre
        for side in {lateral, -lateral}:
            box, axes = self._box((side, *middle), (side, *middle), max(radii))
            distance = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, (side, *middle), radii, strict=True))
            self._fill(box, distance < 1, code, only)

    def tube(self, start: tuple, end: tuple, r0: float, r1: float, code: int, only: tuple[int, ...] = ()) -> None:
        """Draw a tube with round ends, radius r0 at `start` to r1 at `end`."""
        for side in (1, -1):
            a, b = (np.array([side * p[0], p[1], p[2]], float) for p in (start, end))
            box, axes = self._box(a, b, max(r0, r1))
            along = sum((axis - p) * d for axis, p, d in zip(axes, a, b - a, strict=True)) / max(
                (b - a) @ (b - a), 1e-9
            )
            along = np.clip(along, 0, 1)
            apart = sum((axis - p - along * d) ** 2 for axis, p, d in zip(axes, a, b - a, strict=True))
            self._fill(box, apart < (r0 + along * (r1 - r0)) ** 2, code, only)
            if start[0] == end[0] == 0:
                break

    def _box(self, a, b, margin: float) -> tuple[tuple, list[np.ndarray]]:
        """Return the slices that contain a solid between two points, and the grids inside them."""
        low = np.floor((np.minimum(a, b) - margin - ORIGIN) / self.step).astype(int)
        high = np.ceil((np.maximum(a, b) + margin - ORIGIN) / self.step).astype(int) + 1
        box = tuple(slice(max(0, lo), max(0, hi)) for lo, hi in zip(low, high, strict=True))
        return box, [np.take(self.grid[k], np.arange(self.codes.shape[k])[box[k]], axis=k) for k in range(3)]

    def _fill(self, box: tuple, shape: np.ndarray, code: int, only: tuple[int, ...]) -> None:
        view = self.codes[box]
        view[shape & np.isin(view, only) if only else shape] = code


def _skull_base(draw: Painter) -> None:
    """Draw sphenoid, petrous bones with their air cells, clivus, and the bone under the frontal lobes."""
    draw.ellipsoid((0, 22, -36), (26, 20, 16), Tissue.BONE)
    draw.ellipsoid((0, 24, -40), (19, 16, 15), Tissue.MUCOSA)
    draw.ellipsoid((8, 23, -41), (9.5, 13, 11), Tissue.SINUS)
    draw.tube((0, -5, -30), (0, -25, -66), 7, 6, Tissue.BONE)
    draw.tube((0, -3, -34), (0, -24, -66), 5, 4, Tissue.MARROW)
    draw.tube((14, -22, -42), (56, -28, -38), 8, 13, Tissue.BONE)
    for y, z in ((-30, -44), (-38, -50), (-24, -50), (-36, -36)):
        draw.ellipsoid((60, y, z), (5, 6, 6), Tissue.AIR)
    draw.tube((40, -18, -42), (74, -20, -44), 4, 4, Tissue.AIR)  # ear canal
    draw.tube((24, 22, -32), (50, 34, -12), 4, 3, Tissue.BONE)  # lesser wings


def _face(draw: Painter) -> None:
    """Draw orbits, ethmoid cells, nose, and the maxillary and frontal sinuses."""
    draw.tube((32, 62, -36), (14, 26, -30), 18, 4.5, Tissue.BONE)
    draw.tube((32, 62, -36), (14, 26, -30), 17, 3, Tissue.FAT)
    draw.tube((32, 46, -36), (14, 26, -30), 11, 3, Tissue.MUSCLE)
    draw.tube((32, 48, -36), (14, 28, -30), 9, 1.5, Tissue.FAT)
    draw.tube((33, 58, -36), (12, 20, -28), 2.4, 2.2, Tissue.NERVE)
    draw.ellipsoid((33, 64, -36), (12.2, 12.2, 12.2), Tissue.NERVE)
    draw.ellipsoid((33, 64, -36), (11, 11, 11), Tissue.VITREOUS)
    draw.ellipsoid((33, 72, -36), (4.5, 2, 4.5), Tissue.NERVE)
    draw.ellipsoid((0, 52, -44), (13, 26, 22), Tissue.MUCOSA)
    cells = np.random.default_rng(1)
    for y in np.arange(30, 78, 7.5):
        for z in (-28, -36, -44):
            y_, z_ = np.array([y, z]) + cells.uniform(-2, 2, 2)
            draw.ellipsoid((7, y_, z_), tuple(cells.uniform(2.6, 4.6, 3)), Tissue.AIR)
    draw.ellipsoid((0, 56, -64), (17, 36, 16), Tissue.MUCOSA)
    for z in (-54, -63, -73):  # passages between the turbinates
        draw.tube((4, 88, z - 4), (4, 40, z + 2), 2.6, 3.4, Tissue.AIR)
        draw.tube((4, 40, z + 2), (4, 18, -62), 3.4, 3.8, Tissue.AIR)
        draw.tube((12, 78, z - 3), (12, 30, z + 2), 2.0, 2.6, Tissue.AIR)
    draw.ellipsoid((32, 52, -64), (17, 20, 18), Tissue.BONE)
    draw.ellipsoid((32, 52, -64), (14.5, 17.5, 15.5), Tissue.AIR)
    draw.ellipsoid((9, 79, -4), (9, 4, 9), Tissue.BONE)
    draw.ellipsoid((9, 79, -4), (7.5, 2.6, 7.5), Tissue.AIR)


def _mouth_and_neck(draw: Painter) -> None:
    """Draw jaws, palate, tongue, throat, chewing muscles, spine and cord."""
    scalp = tuple(range(SHELL_START + 5, SHELL_START + 10))
    draw.ellipsoid((70, 8, -20), (16, 36, 44), Tissue.MUSCLE, (Tissue.FAT, *scalp))  # temporalis
    draw.tube((54, 14, -60), (48, 10, -108), 6, 6, Tissue.BONE)
    draw.tube((54, 14, -60), (48, 10, -108), 3, 3.4, Tissue.MARROW)
    draw.tube((48, 10, -108), (10, 76, -118), 7, 7, Tissue.BONE)
    draw.tube((48, 10, -108), (10, 76, -118), 4, 4, Tissue.MARROW)
    draw.ellipsoid((0, 50, -84), (24, 34, 5), Tissue.BONE)
    draw.ellipsoid((0, 52, -84), (20, 30, 2.5), Tissue.MARROW)
    draw.ellipsoid((0, 40, -106), (22, 38, 18), Tissue.TONGUE)
    draw.ellipsoid((0, 76, -98), (20, 7, 12), Tissue.BONE)  # teeth
    draw.tube((0, 12, -68), (0, -4, -92), 7, 7, Tissue.AIR)
    draw.tube((0, -4, -92), (0, 0, -150), 6, 7, Tissue.AIR)
    draw.tube((0, -48, -74), (0, -36, -160), 12, 11, Tissue.BONE)
    draw.tube((0, -48, -66), (0, -36, -160), 8, 8, Tissue.CSF)
    draw.tube((0, -47, -66), (0, -36, -160), 6, 5, Tissue.CORD)
    for z, y in ((-84, -23), (-104, -20), (-122, -18), (-140, -16)):
        draw.ellipsoid((0, y, z), (15, 9, 9), Tissue.BONE)
        draw.ellipsoid((0, y, z), (13, 7.5, 7), Tissue.MARROW)
        draw.ellipsoid((0, y - 56, z), (4, 14, 4), Tissue.BONE)


def _sella(draw: Painter) -> None:
    """Draw the fossa with the normal gland and stalk, the cavernous sinuses and the carotids."""
    draw.ellipsoid((0, 4, -32), (15, 9, 8), Tissue.BONE)
    draw.ellipsoid((0, 3, -24), (14, 11, 6), Tissue.CSF)
    draw.ellipsoid((13, 2, -33), (5, 11, 7), Tissue.CAVERNOUS)
    draw.tube((14, 12, -28), (15, -8, -35), 2.6, 2.6, Tissue.CAROTID)
    draw.tube((14, 12, -28), (10, 6, -20), 2.4, 2.0, Tissue.CAROTID)
    draw.tube((15, -8, -35), (22, -10, -60), 2.8, 2.8, Tissue.CAROTID)
    draw.ellipsoid((0, 4, -32), (7, 5.5, 3.6), Tissue.GLAND)
    draw.tube((0, 2.5, -29), (0, 0, -17), 1.3, 1.6, Tissue.GLAND)


def _vessels(draw: Painter, inside: np.ndarray) -> None:
    """Draw dural sinuses along the inner table, falx, straight sinus, basilar and middle cerebral arteries."""
    x, y, z = draw.grid
    rim = (inside > -1.5) & (inside < 5)
    vault = (z > -8) & ~((y > 30) & (z < 0))
    draw.codes[(np.abs(x) < 4 - 0.9 * inside) & rim & vault] = Tissue.VENOUS
    draw.codes[(np.abs(z + 22 + 0.08 * np.abs(x)) < 3) & rim & (inside < 3) & (y < -40)] = Tissue.VENOUS
    draw.codes[(np.abs(x) < 0.8) & (draw.codes == Tissue.CSF) & (z > 10)] = Tissue.DURA
    draw.tube((0, -42, 6), (0, -92, -14), 2.2, 3.0, Tissue.VENOUS)
    draw.tube((0, -15, -46), (0, -9, -18), 1.6, 1.4, Tissue.CAROTID)
    draw.tube((10, 6, -19), (38, 4, -14), 1.8, 1.4, Tissue.CAROTID)
