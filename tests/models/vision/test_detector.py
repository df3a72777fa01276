"""A detector on any body answers at every anchor, starts from other networks, and leaves as a program."""

import pytest
import torch
from safetensors.torch import load_file

from models.export import Program, differences, onnx_runner, to_onnx, to_torch_export, torch_runner
from models.vision.anchors import encode
from models.vision.boxes_settings import AnchorSettings, BodySettings
from models.vision.classifier import build_classifier, start_from
from models.vision.detector import Decoded, Detector, MeanPrecision, build_detector
from models.vision.settings import NetworkSettings

GREY = {"mean": [0.5] * 3, "std": [0.25] * 3}
SMALL = {"name": "resnet", "widths": [8, 16]}


def detector(
    body: dict[str, object] | None = None, *, size: int = 64, grids: tuple[int, ...] = (4, 2)
) -> Detector:
    torch.manual_seed(0)
    return build_detector(
        BodySettings.model_validate(body or SMALL), AnchorSettings(grids=grids), classes=3, channels=3,
        size=size, width=16, dropout=0.1, mean=[0.5] * 3, std=[0.25] * 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "grids"),
    [
        ("resnet18", (4, 2, 1)), ("squeezenet1_0", (7, 3)), ("densenet121", (4, 2)), ("vgg16_bn", (4,)),
        ("cnn", (4, 2, 1)), ("resnet", (16, 8, 4)),
    ],
)  # fmt: skip
def test_any_body_answers_at_every_anchor(name: str, grids: tuple[int, ...]) -> None:
    network = detector({"name": name}, size=64, grids=grids).eval()
    with torch.no_grad():
        answer = network(torch.rand(2, 3, 64, 64))
    assert answer.shape == (2, sum(grid * grid for grid in grids) * 9, 4 + 3)
    assert network.parameter_groups()[-1][0] is network.head


def test_no_weight_stands_twice_in_the_state() -> None:
    state = detector().state_dict()
    assert len({value.data_ptr() for value in state.values() if value.numel()}) == len(state) - sum(
        not value.numel() for value in state.values()
    )
    assert not [name for name in state if name.startswith("_pyramid") or name == "anchors"]


def test_a_grid_that_no_map_has_is_named_with_those_there_are() -> None:
    with pytest.raises(
        ValueError, match="no map has 5 cells a side; this body and size make 32, 16, 8, 4, 2, 1"
    ):
        detector(grids=(5, 1))


def test_at_the_start_nothing_is_found() -> None:
    scores = Decoded(detector().eval())(torch.rand(2, 3, 64, 64))[1]
    assert scores.max() < 0.1


def test_the_body_starts_from_a_classifier_s() -> None:
    classifier = build_classifier(NetworkSettings(name="resnet", widths=(8, 16)), classes=5, **GREY)
    network = detector()
    loaded = start_from(network, classifier.state_dict())
    assert {name for name in loaded if name.startswith("body.")} == {
        f"body.{name}" for name in network.body.state_dict()
    }


def test_published_weights_are_a_start(imagenet_weights: object) -> None:
    network = detector({"name": "squeezenet1_0"}, size=96, grids=(5,))
    assert len(start_from(network, load_file(imagenet_weights))) == len(network.body.state_dict())  # type: ignore[arg-type]


def test_the_exported_forms_agree() -> None:
    program = Program(
        module=Decoded(detector(size=48, grids=(12, 6, 3))).eval(),
        example={"images": torch.rand(2, 3, 48, 48)},
        outputs=("boxes", "scores"), preprocess={"kind": "image_boxes"},
    )  # fmt: skip
    exported = to_torch_export(program)
    forms = {
        "torch.export": torch_runner(program, exported),
        "ONNX": onnx_runner(to_onnx(program, exported).model_proto.SerializeToString()),
    }
    assert max(differences(program, forms, tolerance=1e-4).values()) <= 1e-4


def test_the_loop_s_metric_is_one_for_perfect_answers_and_counts_what_is_missed() -> None:
    network = detector(size=64, grids=(2,))
    boxes = torch.tensor([[[0.1, 0.1, 0.45, 0.4], [0.5, 0.6, 0.9, 0.95]]])
    outputs = torch.full((1, 36, 7), -9.0)
    outputs[..., :4] = 0
    for place, anchor in ((0, 0), (1, 27)):
        outputs[0, anchor, :4] = encode(boxes[0, place], network.anchors[anchor])
        outputs[0, anchor, 4 + place] = 5.0
    metric = MeanPrecision(network.anchors, floor=0.1, overlap=0.5, most=10)
    metric.update(outputs, (boxes, torch.tensor([[0, 1]])))
    assert metric.compute() == pytest.approx(1.0)
    metric.reset()
    metric.update(outputs, (boxes, torch.tensor([[0, 2]])))
    assert metric.compute() == pytest.approx(0.5)
