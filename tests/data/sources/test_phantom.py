"""The phantoms: reproducible, exactly masked, and distinguishable only by the tumour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import ndimage, stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from mri.base.errors import UserError
from mri.data import images
from mri.data.phantom import anatomy, geometry, lesions
from mri.data.phantom.fields import ramp, refine, smooth_field
from mri.data.phantom.rendering import Recipe, Scan, render
from mri.data.sources import phantom

CONF = yaml.safe_load((Path(__file__).parents[3] / "conf/data/phantom.yaml").read_text())
DEFAULT = phantom.Options.model_validate(CONF["options"])
TINY = DEFAULT.model_copy(update={"patients": 3, "slices": 2, "canvas": 64})
PATIENTS = 36  # per class, for the gates: enough that 60 % is far outside the interval around chance
RECIPE = Recipe(2, 96, DEFAULT.radius_mm, DEFAULT.coverage)
TUMOURS = [kind for kind in lesions.CLASSES if kind != "notumor"]


def fetch(out: Path, options: phantom.Options = TINY, classes: tuple[str, ...] = lesions.CLASSES, seed: int = 0):
    return pd.DataFrame(phantom.fetch(options, list(classes), out, seed))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


# Files and index


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return folder, fetch(folder)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny, tmp_path):
    folder, _ = tiny
    fetch(tmp_path / "again")
    fetch(tmp_path / "other", seed=1)
    first, other = contents(folder), contents(tmp_path / "other")
    assert first == contents(tmp_path / "again")
    assert all(first[name] != other[name] for name in first if name.startswith("images/"))


def test_a_patient_does_not_depend_on_the_others(tiny, tmp_path):
    folder, _ = tiny
    fetch(tmp_path, TINY.model_copy(update={"patients": 6}), ("pituitary", "glioma"))
    alone, among = contents(folder), contents(tmp_path)
    shared = alone.keys() & among.keys()
    assert len(shared) == 2 * 3 * 2 * 2  # images and masks of two slices of three patients of two classes
    assert all(alone[name] == among[name] for name in shared)


def test_every_slice_is_a_greyscale_picture_and_every_tumour_has_a_mask_of_its_size(tiny):
    folder, index = tiny
    assert len(index) == 4 * 3 * 2
    assert index["id"].is_unique
    for sample in index.itertuples():
        with Image.open(folder / sample.path) as image:
            assert (image.mode, image.size) == ("L", (64, 64))
        assert bool(sample.mask) == (sample.label != "notumor")
        if sample.mask:
            mask = np.asarray(Image.open(folder / sample.mask))
            assert mask.shape == (64, 64)
            assert set(np.unique(mask)) == {0, 255}


def test_every_class_has_each_plane_equally_often_and_patients_keep_to_one(tiny):
    _, index = tiny
    assert (pd.crosstab(index["label"], index["plane"]) == 2).all(axis=None)
    assert set(index["plane"]) == set(geometry.PLANES)
    assert (index.groupby("patient")["plane"].nunique() == 1).all()
    assert (index.groupby("patient")["label"].nunique() == 1).all()
    assert_array_equal(index["group"], index["patient"])
    assert set(index["source"]) == {"phantom"}


def test_the_committed_configuration_is_valid_and_of_the_planned_size():
    assert CONF["classes"] == list(lesions.CLASSES)
    assert 1600 <= len(CONF["classes"]) * DEFAULT.patients * DEFAULT.slices <= 2000
    assert DEFAULT.slices >= 3


def test_a_class_without_phantom_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="no phantom of 'schwannoma': choose from glioma, meningioma"):
        fetch(tmp_path, classes=("glioma", "schwannoma"))


@pytest.mark.parametrize(
    "wrong", [{"patients": 4}, {"radius_mm": (20, 12)}, {"radius_mm": (12, 90)}, {"canvas": 8}, {"colour": 1}]
)
def test_options_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        phantom.Options.model_validate(TINY.model_dump() | wrong)


# Gates: nothing but the tumour tells the classes apart


@pytest.fixture(scope="module")
def scans() -> dict[tuple[str, int], tuple[Scan, Scan]]:
    """Patients of every class, with and without their tumours."""
    anatomy.head()
    with threadpool_limits(1, user_api="blas"):
        return {
            (kind, number): tuple(render(RECIPE, kind, plane_of(number), 0, number, lesion) for lesion in (True, False))
            for kind in lesions.CLASSES
            for number in range(PATIENTS)
        }


def plane_of(number: int) -> str:
    return geometry.PLANES[number % 3]


def table(scans, version: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pictures (N, H, W), classes (N,) and patients (N,)."""
    pictures = np.concatenate([pair[version].images for pair in scans.values()])
    labels = np.repeat([kind for kind, _ in scans], RECIPE.slices)
    return pictures, labels, np.repeat(np.arange(len(scans)), RECIPE.slices)


def thumbnails(pictures: np.ndarray) -> np.ndarray:
    return np.stack([images.prepare(picture, 48).ravel() for picture in pictures]).astype(float)


def statistics(pictures: np.ndarray) -> np.ndarray:
    """Return head size in pixels, mean and standard deviation."""
    return np.stack([(pictures > 25).sum(axis=(1, 2)), pictures.mean(axis=(1, 2)), pictures.std(axis=(1, 2))], axis=1)


def accuracy_by_patient(model, features, labels, patients, folds: int = 6) -> np.ndarray:
    """Return each patient's accuracy under a model that was not trained on the patient; (patients,)."""
    fold = np.random.default_rng(0).permutation(patients.max() + 1) % folds
    right = np.zeros(len(labels))
    for k in range(folds):
        test = fold[patients] == k
        right[test] = model.fit(features[~test], labels[~test]).predict(features[test]) == labels[test]
    return np.bincount(patients, right) / np.bincount(patients)


def interval(by_patient: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy; patients are the independent units."""
    return stats.t.interval(0.95, len(by_patient) - 1, by_patient.mean(), stats.sem(by_patient))


FOREST = RandomForestClassifier(100, min_samples_leaf=4, random_state=0)
NEIGHBOUR = KNeighborsClassifier(1)


def test_a_nearest_neighbour_on_thumbnails_stays_below_60_percent(scans):
    pictures, labels, patients = table(scans, 0)
    assert accuracy_by_patient(NEIGHBOUR, thumbnails(pictures), labels, patients).mean() < 0.6


def test_size_mean_and_deviation_classify_at_chance(scans):
    pictures, labels, patients = table(scans, 0)
    low, high = interval(accuracy_by_patient(FOREST, statistics(pictures), labels, patients))
    assert low <= 0.25 <= high


def test_without_their_tumours_classes_cannot_be_told_apart(scans):
    pictures, labels, patients = table(scans, 1)
    low, high = interval(accuracy_by_patient(NEIGHBOUR, thumbnails(pictures), labels, patients))
    assert low <= 0.25 <= high


def test_the_gates_notice_a_class_that_is_brighter_than_the_others(scans):
    pictures, labels, patients = table(scans, 0)
    pictures = np.where((labels == "glioma")[:, None, None], np.clip(1.6 * pictures, 0, 255), pictures)
    low, _ = interval(accuracy_by_patient(FOREST, statistics(pictures), labels, patients))
    assert low > 0.25


def test_tumours_of_all_kinds_are_of_one_size(scans):
    areas = {
        kind: [s.masks.sum(axis=(1, 2)).mean() for (k, _), (s, _) in scans.items() if k == kind] for kind in TUMOURS
    }
    means = [np.mean(area) for area in areas.values()]
    assert max(means) / min(means) < 1.25


# Masks


@pytest.mark.parametrize("kind", TUMOURS)
def test_the_tumour_is_where_the_mask_is(scans, kind):
    inside, far = [], []
    for (name, _), (with_tumour, without) in scans.items():
        if name == kind:
            change = np.abs(with_tumour.images.astype(int) - without.images)
            distance = np.stack([ndimage.distance_transform_edt(~mask) for mask in with_tumour.masks])
            inside.append(change[with_tumour.masks].mean())
            far.append(change[distance > 50].max(initial=0))
    assert np.mean(inside) > 30  # grey levels
    assert max(far) <= 8  # the ghost of a tumour is at most 3 % of white


def test_every_slice_of_a_tumour_patient_shows_it_and_of_others_none(scans):
    for (kind, _), (scan, without) in scans.items():
        assert (scan.masks.any(axis=(1, 2)) == (kind != "notumor")).all()
        assert not without.masks.any()


def site(plane: str, seed: int, radius: float = 15.0) -> geometry.Site:
    slab = geometry.draw_slab(np.random.default_rng(seed), plane, 5, 128, radius)
    return geometry.Site.of(slab, radius)


@pytest.mark.parametrize("plane", geometry.PLANES)
@pytest.mark.parametrize("kind", TUMOURS)
def test_mask_and_paint_agree_to_a_pixel_and_the_middle_slice_has_the_drawn_area(kind, plane):
    place = site(plane, seed=3)
    lesion = lesions.draw_lesion(np.random.default_rng(5), kind, place)
    opacity = np.max([alpha for alpha, _ in lesion.paints], axis=0)
    near = ndimage.binary_dilation(lesion.mask, np.ones((1, 3, 3)), iterations=2)
    core = ndimage.binary_erosion(lesion.mask, np.ones((1, 3, 3)))
    assert opacity[~near].max() == 0
    assert opacity[core].min() > 0.3
    assert lesion.mask[place.slab.middle].sum() == round(place.area)


@pytest.mark.parametrize("plane", geometry.PLANES)
def test_tumours_grow_where_their_kind_grows(plane):
    for seed in range(4):
        place, rng = site(plane, seed), np.random.default_rng(seed)
        from_sella = np.linalg.norm(place.slab.points - anatomy.SELLA[:, None, None, None], axis=0)
        glioma, meningioma, pituitary = (lesions.draw_lesion(rng, kind, place).mask for kind in TUMOURS)
        assert place.depth[glioma].min() > 1  # inside the brain, off the skull
        assert place.depth[meningioma].min() < 1  # on the dura
        assert from_sella[pituitary].min() < 6
        assert min(from_sella[glioma].min(), from_sella[meningioma].min()) > 6


def test_mass_effect_moves_brain_but_not_skull():
    place = site("coronal", seed=1)
    lesion = lesions.draw_lesion(np.random.default_rng(0), "meningioma", place)
    assert np.abs(lesion.push[:, place.depth > 8]).max() > 1  # mm
    assert np.abs(lesion.push[:, place.depth <= 0]).max() == 0


# Neighbouring slices


def test_a_patients_slices_are_neighbours_and_patients_differ():
    recipe = Recipe(slices=4, canvas=96, radius=(14, 14), coverage=1.0)
    first, second = (render(recipe, "notumor", "axial", 0, number).images.astype(float) for number in (0, 1))

    def alike(a, b):
        return np.corrcoef(ndimage.gaussian_filter(a, 1).ravel(), ndimage.gaussian_filter(b, 1).ravel())[0, 1]

    assert min(alike(first[k], first[k + 1]) for k in range(3)) > 0.9
    assert alike(first[0], first[1]) > alike(first[0], first[3]) > alike(first[0], second[0])


def test_slabs_pass_by_the_sella_in_every_plane():
    for plane in geometry.PLANES:
        for seed in range(10):
            slab = geometry.draw_slab(np.random.default_rng(seed), plane, 3, 64, 15.0)
            assert np.linalg.norm(slab.points - anatomy.SELLA[:, None, None, None], axis=0).min() < 16


# Fields


def test_smooth_fields_have_no_mean_unit_variance_and_the_asked_smoothness():
    axes = (np.arange(3.0), np.arange(0, 300.0, 2), np.arange(0, 300.0, 2))
    fine, coarse = (smooth_field(np.random.default_rng(0), axes, pitch) for pitch in (4.0, 20.0))
    assert fine.shape == coarse.shape == (3, 150, 150)
    assert_allclose([fine.mean(), fine.std()], [0, 1], atol=0.05)
    assert_allclose([coarse.mean(), coarse.std()], [0, 1], atol=0.25)
    assert np.abs(np.diff(fine, axis=1)).mean() > 3 * np.abs(np.diff(coarse, axis=1)).mean()


def test_refine_keeps_samples_and_fills_in_midpoints():
    coarse = np.array([[0.0, 2.0, 8.0]])
    assert_array_equal(refine(coarse, (1, 5)), [[0, 1, 2, 5, 8]])
    assert_array_equal(refine(coarse, (1, 6)), [[0, 1, 2, 5, 8, 8]])


def test_ramp_rises_or_falls_between_its_ends():
    assert_array_equal(ramp(np.array([-1.0, 0, 1, 2, 3]), 0, 2), [0, 0, 0.5, 1, 1])
    assert_array_equal(ramp(np.array([-1.0, 0, 1, 2, 3]), 2, 0), [1, 1, 0.5, 0, 0])
