"""The tumours: position, shape, appearance and exact mask.

Each kind has a level function (mm, increasing with the distance from a seed) and a region that it may fill; the tumour
is the part of the region below the level at which its cross-section on the middle slice has the area drawn for the
patient. So the sizes of all kinds follow one distribution. Appearance after doi:10.1007/s13244-013-0302-4 (meningioma)
and PMC10366287 (pituitary adenoma); compartments, mass effect and oedema as in TumorSim (Prastawa et al., Medical Image
Analysis 13(2), 2009).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from mri.data.phantom.anatomy import SELLA
from mri.data.phantom.fields import ramp, smooth_field
from mri.data.phantom.geometry import Site

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
SMALLEST = 0.5  # of the drawn area: the least that every slice of a tumour should show
TRIES = 10
EDGE = 0.4  # mm on either side of a sharp border over which it fades


@dataclass
class Lesion:
    """A tumour on the pixels of a slab, (n, H, W) each.

    mask: bool, the tumour itself: core, ring, dural tail; not the oedema.
    shade: factor on the brightness of the tissue around: oedema, cleft of fluid; 1 far away.
    push: (3, n, H, W) mm in slab axes: the original position of the tissue at a pixel, relative to the pixel.
    paints: pairs of alpha (0 to 1) and brightness, laid over the tissue in turn.
    """

    mask: np.ndarray
    shade: np.ndarray
    push: np.ndarray
    paints: list[tuple[np.ndarray, np.ndarray | float]] = field(default_factory=list)

    def paint(self, image: np.ndarray) -> np.ndarray:
        """Return `image` (n, H, W) with the tumour in it."""
        image = image * self.shade
        for alpha, value in self.paints:
            image = image + alpha * (value - image)
        return image


def draw_lesion(rng: np.random.Generator, kind: str, site: Site) -> Lesion | None:
    """Draw a tumour of `kind`, one of CLASSES, that is visible on every slice; None for "notumor".

    Where a curved skull leaves too little of it on an outer slice, another is drawn; the best of TRIES is taken.
    """
    if kind == "notumor":
        return None
    grow = {"glioma": glioma, "meningioma": meningioma, "pituitary": pituitary}[kind]
    best, most = None, -1.0
    for _ in range(TRIES):
        lesion = grow(rng, site)
        least = lesion.mask.sum(axis=(1, 2)).min() / site.area
        if least > most:
            best, most = lesion, least
        if least >= SMALLEST:
            break
    return best


def glioma(rng: np.random.Generator, site: Site) -> Lesion:
    """Draw a glioma: an irregular enhancing ring around a necrotic core, and oedema, mostly in white matter."""
    axes, r = site.slab.axes, site.radius
    seed = _intra_axial(rng, site)
    rough = smooth_field(rng, axes, 0.9 * r) + 0.5 * smooth_field(rng, axes, 0.4 * r)
    level = _ellipsoid(rng, site, seed, rng.uniform(0.8, 1.25, 3)) + 0.18 * r * rough
    s = _grow(site, level, site.depth > 1)
    lesion = _lesion(rng, site, s, seed)
    ring = np.clip(0.95 + 0.3 * smooth_field(rng, axes, 5.0), 0.35, 1)  # alpha: with gaps
    wall = np.clip(rng.uniform(0.2, 0.36) * r * (1 + 0.6 * smooth_field(rng, axes, 7.0)), 1.3, None)
    core = rng.uniform(0.12, 0.28) * (1 + 0.15 * smooth_field(rng, axes, 4.0))
    lesion.paints = [
        (ramp(s, 1.2, -0.8) * ring, rng.uniform(0.82, 1.0)),
        (ramp(s, -wall + 0.8, -wall - 0.8), core),
    ]
    reach = np.clip(rng.uniform(10, 20) * (1 + 0.35 * smooth_field(rng, axes, 12.0)), 3, None)
    oedema = np.sqrt(ramp(s, reach, 0)) * (0.5 + 0.5 * site.white) * (site.depth > 1)
    lesion.shade *= 1 - rng.uniform(0.4, 0.55) * oedema
    return lesion


def meningioma(rng: np.random.Generator, site: Site) -> Lesion:
    """Draw a meningioma, on the dura: a homogeneous, sharply bordered dome with a dural tail and a cleft of fluid."""
    axes, r = site.slab.axes, site.radius
    base = _dural(rng, site)
    level = _ellipsoid(rng, site, base + 0.4 * r * _inward(site, base), rng.uniform(0.9, 1.1, 3))
    tail = _tail(rng, site, base)
    dome = _grow(site, level + 0.05 * r * smooth_field(rng, axes, 0.6 * r), site.depth > 0, tail < 0)
    lesion = _lesion(rng, site, dome, base)
    lesion.mask |= tail < 0
    cleft = ramp(dome, 3, 1.2) * ramp(dome, -0.2, 0.6) * (site.depth > 0)
    lesion.shade *= 1 - rng.uniform(0.4, 0.7) * cleft
    if rng.random() < 1 / 3:
        oedema = ramp(dome, rng.uniform(6, 12), 1) * site.white * (site.depth > 1)
        lesion.shade *= 1 - rng.uniform(0.2, 0.35) * oedema
    bright = rng.uniform(0.78, 0.95)
    lesion.paints = [
        (ramp(tail, 0, -EDGE), 0.9 * bright),
        (ramp(dome, EDGE, -EDGE), bright * (1 + 0.025 * smooth_field(rng, axes, 4.0))),
    ]
    return lesion


def pituitary(rng: np.random.Generator, site: Site) -> Lesion:
    """Draw a pituitary tumour: round or like a snowman, slightly uneven, with a cyst in one of five."""
    axes, r = site.slab.axes, site.radius
    seed = _sellar(rng, site)
    if rng.random() < 0.45:  # squeezed by the diaphragm between sella and brain
        up = site.slab.turn.T @ np.array([0.0, 0.0, r])
        lower = _ellipsoid(rng, site, seed - 0.45 * up, rng.uniform(0.85, 1.0, 3))
        upper = _ellipsoid(rng, site, seed + 0.55 * up, rng.uniform(0.75, 0.95, 3))
        level = np.minimum(lower, upper)
    else:
        level = _ellipsoid(rng, site, seed, rng.uniform(0.9, 1.1, 3))
    s = _grow(site, level + 0.07 * r * smooth_field(rng, axes, 0.6 * r), np.ones(level.shape, bool))
    lesion = _lesion(rng, site, s, seed)
    lesion.paints = [(ramp(s, 0.6, -0.6), rng.uniform(0.64, 0.82) * (1 + 0.05 * smooth_field(rng, axes, 5.0)))]
    if rng.random() < 0.2:
        cyst = _ellipsoid(rng, site, seed + rng.normal(0, 0.3 * r, 3), rng.uniform(0.7, 1.3, 3)) - 0.35 * r
        cyst += 0.12 * r * smooth_field(rng, axes, 0.5 * r)
        lesion.paints.append((ramp(cyst, 1.2, -1.2) * ramp(s, -1.0, -3.0), rng.uniform(0.2, 0.4)))
    return lesion


def _intra_axial(rng: np.random.Generator, site: Site) -> np.ndarray:
    """Draw a seed for a glioma: deep, mostly in white matter, and too far from the sella to look like a sellar mass."""
    depth = np.where(_from_sella(site) > site.radius + 12, site.depth[site.slab.middle], 0)
    deep = depth >= min(0.7 * site.radius + 2, 0.8 * depth.max())
    return _draw_point(rng, site, deep * (0.05 + site.white[site.slab.middle]))


def _dural(rng: np.random.Generator, site: Site) -> np.ndarray:
    """Draw a seed for a meningioma: on the inner table, with room inward, and not at the sella."""
    depth = site.depth[site.slab.middle]
    dura = (depth > 0.3) & (depth < 1.5) & (_from_sella(site) > site.radius + 14)
    return _draw_point(rng, site, dura * (1e-6 + _room(depth, 1.1 * site.radius / site.slab.pixel)))


def _sellar(rng: np.random.Generator, site: Site) -> np.ndarray:
    """Draw a seed for a pituitary tumour: nearest to the gland on the middle slice, higher up for larger tumours."""
    place = SELLA + np.array([rng.uniform(-2.5, 2.5), rng.uniform(-1, 3), 0.25 * site.radius])
    apart = ((site.slab.points[:, site.slab.middle] - place[:, None, None]) ** 2).sum(axis=0)
    return _draw_point(rng, site, apart == apart.min())


def _draw_point(rng: np.random.Generator, site: Site, weights: np.ndarray) -> np.ndarray:
    """Draw a pixel of the middle slice with `weights` (H, W); return slab coordinates (3,), slightly off the slice."""
    total = np.cumsum(weights, dtype=float)
    row, column = np.unravel_index(np.searchsorted(total, rng.random() * total[-1], side="right"), weights.shape)
    across = rng.uniform(-0.15, 0.15) * site.radius
    return np.array([across, site.slab.axes[1][row], site.slab.axes[2][column]])


def _from_sella(site: Site) -> np.ndarray:
    """Return the distance of the middle slice's pixels (H, W) from the sella in mm of the template."""
    return np.sqrt(((site.slab.points[:, site.slab.middle] - SELLA[:, None, None]) ** 2).sum(axis=0))


def _room(depth: np.ndarray, reach: float) -> np.ndarray:
    """Return pixels (H, W; bool) from which a point `reach` pixels straight inward is still well inside the skull."""
    slope = np.stack(np.gradient(ndimage.gaussian_filter(depth, 2)))
    slope /= np.linalg.norm(slope, axis=0) + 1e-9
    ahead = np.indices(depth.shape) + reach * slope
    return ndimage.map_coordinates(depth, ahead, order=1, mode="nearest") > 0.5 * reach


def _inward(site: Site, base: np.ndarray) -> np.ndarray:
    """Return the unit vector in slab coordinates from `base` into the skull: the gradient of depth within 8 mm."""
    near = site.depth * (site.slab.distance(base) < 8)
    moment = np.array([(near * offset).sum() for offset in site.slab.offsets(base)])
    moment[0] = 0  # along the slab, which is too thin to estimate it; a tumour centred on it is visible on every slice
    return moment / max(np.linalg.norm(moment), 1e-9)


def _ellipsoid(rng: np.random.Generator, site: Site, centre: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """Return the distance from `centre` in mm, divided by `stretch` along axes turned at random in the picture."""
    z, y, x = site.slab.offsets(centre)
    angle = rng.uniform(0, np.pi)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return np.sqrt((z / stretch[0]) ** 2 + (u / stretch[1]) ** 2 + (v / stretch[2]) ** 2)


def _grow(site: Site, level: np.ndarray, region: np.ndarray, already: np.ndarray | None = None) -> np.ndarray:
    """Return `level` minus the value below which the middle slice has the drawn area in `region`; infinite elsewhere.

    Pixels `already` in the tumour (bool) count towards the area.
    """
    level = np.where(region, level, np.inf)
    order = level if already is None else np.where(already, -np.inf, level)
    rank = round(site.area)
    return level - np.partition(order[site.slab.middle].ravel(), rank)[rank]


def _tail(rng: np.random.Generator, site: Site, base: np.ndarray) -> np.ndarray:
    """Return values that are negative in a strip of thickened dura, tapering 5 to 14 mm beyond the tumour's base."""
    reach = 1.1 * site.radius + rng.uniform(5, 14)
    thickness = 2.6 * np.sqrt(np.clip(1 - site.slab.distance(base) / reach, 0, None))
    return np.abs(site.depth - 0.6) - thickness


def _lesion(rng: np.random.Generator, site: Site, s: np.ndarray, centre: np.ndarray) -> Lesion:
    """Return the tumour where `s` is negative: mask and mass effect, which fades over 14 mm and spares the skull."""
    strength = rng.uniform(0.15, 0.35) * site.radius * np.exp(-np.clip(s, 0, 100) / 14) * ramp(site.depth, 0, 8)
    apart = site.slab.distance(centre)
    strength *= np.clip(apart / site.radius, 0, 1) / (apart + 1e-6)
    push = np.stack([-strength * offset for offset in site.slab.offsets(centre)])
    return Lesion(mask=s < 0, shade=np.ones(s.shape), push=push)
