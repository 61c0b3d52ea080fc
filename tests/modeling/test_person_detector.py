"""`PersonDetector`: configs and weights of the model zoo, and detections of several categories."""

import pickle
import urllib.request
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from pose_files import known_categories, smallest_pose_cfg

from metaprompt_d2.modeling import PersonDetector
from metaprompt_d2.utils.errors import InputError

NODE = "MODEL.PERSON_DETECTOR"
ZOO = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
FILE = "COCO-Detection/retinanet_R_50_FPN_1x/190397773/model_final_bfca0b.pkl"
URL = f"https://dl.fbaipublicfiles.com/detectron2/{FILE}"


def detector_of(config_file: str | Path, **keys: object) -> PersonDetector:
    keys = {f"{NODE}.{key}": value for key, value in keys.items()}
    return PersonDetector.from_config(
        smallest_pose_cfg({f"{NODE}.CONFIG_FILE": str(config_file)} | keys)
    )


def shrink(cfg: CfgNode) -> None:
    """Make the detector of a config small."""
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.RETINANET.NUM_CONVS = 8, 1


def test_a_name_in_the_model_zoo_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are downloaded at the first call, into iopath's cache."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    assert detector_of(f"model_zoo://{ZOO}").cfg.MODEL.WEIGHTS == URL
    detector = detector_of(ZOO)
    assert (detector.cfg.MODEL.WEIGHTS, detector.classes) == (URL, {0: 0})
    shrink(detector.cfg)
    state = build_model(detector.cfg).state_dict()
    content = {"model": {name: value.numpy() for name, value in state.items()}, "__author__": ""}
    urls = []

    def download(url: str, filename: str, **_: object) -> tuple[str, None]:
        urls.append(url)
        Path(filename).write_bytes(pickle.dumps(content))
        return filename, None

    monkeypatch.setattr(urllib.request, "urlretrieve", download)
    detector.cfg.INPUT.MIN_SIZE_TEST = 32
    assert urls == []
    for _ in range(2):
        detector(torch.zeros(3, 32, 32))
    assert urls == [URL]
    name = "head.cls_score.bias"
    torch.testing.assert_close(detector._model.state_dict()[name], state[name])
    (tmp_path / "detectron2" / FILE).unlink()  # iopath remembers it


def test_a_failed_download_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.request.URLError("no route to host")

    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlretrieve", fail)
    detector = detector_of(ZOO.replace("_1x", "_3x"))
    shrink(detector.cfg)
    message = r"weights of the person detector https://\S*retinanet_R_50_FPN_3x\S*: .*no route"
    with pytest.raises(InputError, match=message):
        detector(torch.zeros(3, 32, 32))


def test_empty_weights_need_a_released_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"WEIGHTS is empty: .*Base-RetinaNet.yaml is not"):
        detector_of("Base-RetinaNet.yaml")
    own = tmp_path / "own.yaml"
    own.write_text(f"_BASE_: model_zoo://{ZOO}")
    with pytest.raises(InputError, match=r"WEIGHTS is empty, .* the weights of \S*own\.yaml"):
        detector_of(own)
    assert detector_of(own, WEIGHTS="own.pth").cfg.MODEL.WEIGHTS == "own.pth"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL: {TYPO: 1}", r"CONFIG_FILE \S*own\.yaml: .*MODEL\.TYPO"),
        ("MODEL: {RETINANET: {NUM_CLASSES: many}}", r"CONFIG_FILE \S*own\.yaml: .*NUM_CLASSES"),
        ("VERSION: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
    ],
)
def test_a_wrong_config_is_named_and_runs_no_code(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        detector_of(tmp_path / "own.yaml", WEIGHTS="own.pth")


def test_a_detectors_class_is_named_or_numbered(tmp_path: Path) -> None:
    assert detector_of(ZOO, CLASSES=("Dog",)).classes == {16: 0}
    assert detector_of(ZOO, PERSON_CLASS=17).classes == {17: 0}
    own = tmp_path / "own.yaml"
    own.write_text(f"_BASE_: model_zoo://{ZOO}\nMODEL: {{RETINANET: {{NUM_CLASSES: 3}}}}")
    assert detector_of(own, WEIGHTS="own.pth").classes == {0: 0}
    assert detector_of(own, WEIGHTS="own.pth", PERSON_CLASS=2).classes == {2: 0}


def test_several_categories_are_found_and_other_classes_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with known_categories("dog", "person") as cfg:
        cfg |= {f"{NODE}.CONFIG_FILE": ZOO}
        detector = PersonDetector.from_config(smallest_pose_cfg(cfg))
    boxes = torch.tensor([[0.0, 0, 9, 9]]).repeat(4, 1) + torch.arange(4)[:, None]
    found = Instances((20, 30), pred_boxes=Boxes(boxes))
    found.pred_classes = torch.tensor([0, 16, 2, 0])  # person, dog, car, person
    found.scores = torch.tensor([0.9, 0.8, 0.99, 0.4])
    monkeypatch.setattr(detector, "_model", lambda _: [{"instances": found}])
    people = detector(torch.zeros(3, 20, 30))
    assert people.pred_boxes.tensor.tolist() == boxes[:2].tolist()
    assert people.pred_classes.tolist() == [1, 0]
    assert people.scores.tolist() == pytest.approx([0.9, 0.8])
