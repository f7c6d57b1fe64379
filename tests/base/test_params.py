import copy

import pytest
import yaml

from mri.base.errors import UserError
from mri.base.params import load, parse
from mri.commands.compose import compose, main


@pytest.fixture
def content(root):
    return compose([], root / "conf")


def changed(content, path, value):
    content = copy.deepcopy(content)
    node = content
    *parents, leaf = path.split(".")
    for parent in parents:
        node = node[parent]
    node[leaf] = value
    return content


def test_committed_parameters_are_what_conf_composes_to(root):
    assert yaml.safe_load((root / "params.yaml").read_text()) == compose([], root / "conf")


@pytest.mark.parametrize("choice", ["phantom", "kaggle", "figshare", "brisc", "local"])
@pytest.mark.parametrize("recipe", ["quick", "full"])
def test_every_combination_of_conf_is_valid(root, choice, recipe):
    assert parse(compose([f"data={choice}", f"train={recipe}"], root / "conf")).data.name == choice


def test_one_architecture_alone_is_the_same_as_among_all(root, content):
    one = compose(["model=efficientnet_b1"], root / "conf")["model"]["architectures"]
    assert one == {"efficientnet_b1": content["model"]["architectures"]["efficientnet_b1"]}
    assert list(content["model"]["architectures"]) == ["resnet50", "resnet101", "efficientnet_b0", "efficientnet_b1"]


@pytest.mark.parametrize(("group", "legal"), [("model", "efficientnet_b1"), ("data", "phantom"), ("train", "quick")])
def test_unknown_choice_lists_the_legal_ones(root, group, legal):
    with pytest.raises(UserError, match=f"(?s)nonsense.*{legal}"):
        compose([f"{group}=nonsense"], root / "conf")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("train.lr", -1, "train.lr: Input should be greater than 0"),
        ("train.schedule", "step", "train.schedule: Input should be 'cosine' or 'plateau'"),
        ("train.epoch", 3, "train.epoch is not a parameter"),
        ("train.batchs", 3, "did you mean 'batch'"),
        ("model.architectures", {}, "model.architectures"),
        ("model.architectures", ["resnet50"], "must map architecture names"),
        ("select.runtime", "onnx", "select.runtime must be one of served, torch_fp32"),
        ("seed", "x", "seed: Input should be a valid integer"),
        ("train.phases", [{"epochs": 1, "size": 64}], "last phase"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(content, path, value, message):
    with pytest.raises(UserError) as error:
        parse(changed(content, path, value), "params.yaml")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_mixing_that_no_teacher_is_asked_by_is_refused(root):
    settings = ["model@teacher=efficientnet_b0", "train.augment.cutmix=0.5"]
    with pytest.raises(UserError, match=r"set train\.augment\.cutmix to 0"):
        parse(compose(settings, root / "conf"))
    assert parse(compose(settings[1:], root / "conf")).train.augment.cutmix == 0.5


def test_unknown_architecture_lists_the_legal_ones(content):
    with pytest.raises(UserError, match=r"unknown architecture 'vgg': params\.yaml has resnet50, resnet101"):
        parse(content).architecture("vgg")


def test_missing_and_broken_files_are_said(tmp_path):
    with pytest.raises(UserError, match="not found: run from the top of the repository"):
        load(tmp_path / "params.yaml")
    for content, message in ((b"a: [", "is not valid YAML"), (b"a: \xff", "is not UTF-8")):
        (tmp_path / "params.yaml").write_bytes(content)
        with pytest.raises(UserError, match=message):
            load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr=abc", "params: train.lr: Input should be a valid number"),
        ("train.lr=${nope}", "Interpolation key 'nope' not found full_key: train.lr object_type=dict"),
    ],
)
def test_a_wrong_override_is_one_line_and_leaves_the_parameters_as_they_are(
    root, tmp_path, monkeypatch, override, message
):
    (tmp_path / "conf").symlink_to(root / "conf")
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mri.commands.compose", override])
    with pytest.raises(UserError) as error:
        main()
    assert message in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "params.yaml").read_text() == "seed: 0\n"
