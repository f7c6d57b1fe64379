"""The validated parameters of a run; the only reader of params.yaml.

params.yaml is composed from conf/ (`dvc exp run -S group=choice -S key=value`), which has the comments on each value.
Nothing here has a default, so params.yaml describes a run completely.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from mri.base.errors import UserError

FILE = Path("params.yaml")
Channels = tuple[float, float, float]
Probability = Field(ge=0, le=1)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArchitectureSpec(_Section):
    """One architecture as conf/model describes it.

    builder: the function of torchvision.models. options: further arguments of it, such as ResNet's zero_init_residual.
    weights: member of torchvision's weights enum for the pre-trained start ("IMAGENET1K_V2"); "" for none.
    feature_layer: the last convolutional stage, whose features Grad-CAM reads (7x7 cells at 224 pixels).
    fine_layer: the stage before it (14x14 cells).
    mean, std: of the network's three input channels on the scale 0 to 1.
    """

    name: str
    builder: str
    options: dict[str, Any]
    weights: str
    feature_layer: str
    fine_layer: str
    mean: Channels
    std: Channels

    @field_validator("std")
    @classmethod
    def _positive(cls, value: Channels) -> Channels:
        if min(value) <= 0:
            raise ValueError(f"std must be positive, got {value}")
        return value


class Data(_Section):
    """The dataset.

    source: a module of mri.data.sources. options: its `Options`. input: the path that DVC watches for changes.
    reference: a dataset whose patients, masks and labels are inherited by images that are copies of its images.
    """

    name: str
    source: str
    input: str
    classes: list[str] = Field(min_length=2)
    options: dict[str, Any]
    reference: Data | None


def _with_names(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("must map architecture names to their description (see conf/model/)")
    return {name: {"name": name, **spec} for name, spec in value.items()}


Architectures = Annotated[dict[str, ArchitectureSpec], BeforeValidator(_with_names)]


class Model(_Section):
    """The architectures to train, by name; insertion order is the order in every table."""

    architectures: Architectures = Field(min_length=1)


class TeacherOptions(_Section):
    """The architectures that are trained first, for the others to learn from; may be none."""

    architectures: Architectures


class AuditOptions(_Section):
    """Parameters of the audit.

    size: side in pixels at which pictures are compared. cells: cells per side for the search's bound, a divisor of
    size; affects speed only. near, similar: NCC from which two pictures are copies, and from which they come from one
    scan. conflicts: for an image whose label contradicts that of a copy: "keep" its label, take that of the
    "reference" dataset, or "drop" the image.
    """

    size: int = Field(ge=16)
    cells: int = Field(ge=2)
    near: float = Field(gt=0, le=1)
    similar: float = Field(gt=0, le=1)
    conflicts: Literal["keep", "reference", "drop"]

    @model_validator(mode="after")
    def _fit_together(self) -> AuditOptions:
        if self.size % self.cells:
            raise ValueError(f"size must be a multiple of cells, got {self.size} and {self.cells}")
        if self.similar > self.near:
            raise ValueError(f"similar must not exceed near, got {self.similar} and {self.near}")
        return self


class SplitOptions(_Section):
    """Parameters of a split.

    protocol:
        "grouped": related images are in one part; of each near-duplicate group one image is used.
        "official": all test images of the source, however contaminated (`clean` marks those that aren't); validation
        images are taken from its training images, related ones kept together.
        "patient": the source's folds where it has any, each group as a whole in the fold that holds most of it;
        otherwise like "grouped".
        "source": all images of one source are the test set (`held_out`, or the `fold`-th in alphabetical order), and
        nothing related to them is used in training.
        "record": every image is assigned by itself, regardless of related ones. Usual but wrong: it is here to measure
        the effect of leakage (benchmarks/leakage.py).
    val, test: shares of all used images. folds: 0 for one split by these shares; k for k folds, of which number `fold`
    (1 to k) is the test part, or the validation part when the test part is official.
    keep_duplicates: use every image of a near-duplicate group, as "official" and "record" always do.
    """

    protocol: Literal["grouped", "official", "patient", "source", "record"]
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    folds: int = Field(ge=0)
    fold: int = Field(ge=1)
    keep_duplicates: bool
    held_out: str

    @model_validator(mode="after")
    def _fit_together(self) -> SplitOptions:
        if self.val + self.test >= 1:
            raise ValueError(f"val and test leave nothing to train on: {self.val} + {self.test}")
        if self.folds == 1:
            raise ValueError("folds must be 0 (one split by shares) or at least 2")
        if self.folds and self.fold > self.folds:
            raise ValueError(f"fold must be 1 to {self.folds}, got {self.fold}")
        return self


class Augmentation(_Section):
    """Random changes of training images, none of which changes the class. Distances are shares of the image's side."""

    flip: float = Probability
    affine: float = Probability
    rotation_degrees: float = Field(ge=0, le=45)
    translation: float = Field(ge=0, le=0.3)
    zoom: float = Field(ge=0, le=0.5)
    elastic: float = Probability
    elastic_displacement: float = Field(ge=0, le=0.1)
    intensity: float = Probability
    gamma: float = Field(ge=0, le=1)
    contrast: float = Field(ge=0, le=1)
    bias: float = Field(ge=0, le=1)
    noise: float = Probability
    noise_sigma: float = Field(ge=0, le=0.5)
    mixup: float = Probability
    cutmix: float = Probability

    @model_validator(mode="after")
    def _at_most_one_mixing_per_batch(self) -> Augmentation:
        if self.mixup + self.cutmix > 1:
            raise ValueError(f"mixup and cutmix must not exceed 1 together, got {self.mixup} and {self.cutmix}")
        return self


class Phase(_Section):
    """A stretch of epochs at one image size, in pixels."""

    epochs: int = Field(ge=1)
    size: int = Field(ge=32)


class Distillation(_Section):
    """How a network learns from a teacher.

    share: weight of the teacher in the loss, against the labels; at 1 labels have no effect, nor have `label_smoothing`
    and `balance`. mixup: replaces `augment.mixup`, since the teacher can classify a mixture of two images.
    """

    share: float = Probability
    mixup: float = Probability


class Train(_Section):
    """The training recipe, the same for every architecture."""

    weights: str
    phases: list[Phase] = Field(min_length=1)
    batch: int = Field(ge=2)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_epochs: float = Field(ge=0)
    schedule: Literal["cosine", "plateau"]
    label_smoothing: float = Field(ge=0, lt=1)
    ema: float = Field(ge=0, lt=1)
    distillation: Distillation
    balance: bool
    patience: int = Field(ge=1)
    precision: Literal["auto", "fp32", "bf16"]
    devices: int = Field(ge=1)
    seed: int = Field(ge=0)
    augment: Augmentation

    @property
    def epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases)


class Evaluate(_Section):
    """resamples: of the bootstrap. coverage: how often prediction sets shall contain the true class."""

    resamples: int = Field(ge=100)
    coverage: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1)


class Robustness(_Section):
    """images: number of test images that are corrupted, and of strange images of each kind."""

    images: int = Field(ge=2)


class Explain(_Section):
    """images: number of explained images that have a mask. changed: of them, those that are perturbed (slow)."""

    methods: list[str] = Field(min_length=1)
    images: int = Field(ge=1)
    changed: int = Field(ge=2)
    sheet: int = Field(ge=1)


class Benchmark(_Section):
    runtimes: list[str] = Field(min_length=1)
    seconds: float = Field(gt=0)
    batch: int = Field(ge=1)


class Select(_Section):
    rule: str
    runtime: str


class Params(_Section):
    """All of params.yaml. teacher: the networks from whose mean prediction those of `model` learn; may be none."""

    seed: int = Field(ge=0)
    size: int = Field(ge=32)
    data: Data
    model: Model
    teacher: TeacherOptions
    audit: AuditOptions
    split: SplitOptions
    train: Train
    evaluate: Evaluate
    robustness: Robustness
    explain: Explain
    benchmark: Benchmark
    select: Select

    @model_validator(mode="after")
    def _last_phase_has_the_evaluation_size(self) -> Params:
        if self.train.phases[-1].size != self.size:
            raise ValueError(f"the last phase of train.phases must have the evaluation size {self.size} (see `size`)")
        return self

    @model_validator(mode="after")
    def _selection_runtime_is_measured(self) -> Params:
        legal = ["served", *self.benchmark.runtimes]
        if self.select.runtime not in legal:
            raise ValueError(f"select.runtime must be one of {', '.join(legal)}")
        return self

    @model_validator(mode="after")
    def _fallback_runtime_is_measured(self) -> Params:
        if "openvino_fp32" not in self.benchmark.runtimes:
            raise ValueError("benchmark.runtimes lacks openvino_fp32, which serves where nothing faster is as accurate")
        return self

    @model_validator(mode="after")
    def _teacher_excludes_cutmix(self) -> Params:
        if self.teacher.architectures and self.train.augment.cutmix:
            raise ValueError("a teacher only works with train.distillation.mixup: set train.augment.cutmix to 0")
        return self

    def architecture(self, name: str) -> ArchitectureSpec:
        """Return the description of one architecture. Raises UserError that lists the legal names."""
        try:
            return self.model.architectures[name]
        except KeyError:
            legal = ", ".join(self.model.architectures)
            raise UserError(f"unknown architecture {name!r}: params.yaml has {legal}") from None


def load(path: Path = FILE) -> Params:
    """Read and validate params.yaml. Raises UserError that names the first wrong entry."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} not found: run from the top of the repository") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error}") from None
    return parse(parse_yaml(text, str(path)), str(path))


def parse_yaml(text: str, name: str) -> Any:
    """Parse YAML; errors call it `name`. Raises UserError when it isn't YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None


def parse(content: Any, name: str = "params") -> Params:
    """Validate parameters; errors call them `name`. Raises UserError that names the first wrong entry."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{name}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole file"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _names(Params), n=1)
        return f"{where} is not a parameter" + (f"; did you mean {near[0]!r}?" if near else "")
    return f"{where}: {first['msg']}"


def _names(model: type[BaseModel]) -> set[str]:
    names = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names |= _names(field.annotation)
    return names
