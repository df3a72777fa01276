"""Exported programs agree with the network and hold nothing of the machine; one that differs is refused."""

import subprocess
import sys
import textwrap
from pathlib import Path

import onnx
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.export import (
    TOLERANCES,
    Program,
    Tensors,
    batch_of,
    differences,
    onnx_runner,
    precision,
    run_eager,
    to_onnx,
    to_torch_export,
    tolerance_of,
    torch_runner,
)
from models.settings import ExportSettings
from models.vision.classifier import build_classifier
from models.vision.settings import NetworkSettings

ROOT = Path(__file__).resolve().parents[2]


def make_program(dtype: torch.dtype = torch.float32) -> Program:
    """Convolution, batch norm and a head: what export has to carry over, in 2 kB."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3), nn.Softmax(1),
    )  # fmt: skip
    return Program(
        module=network.to(dtype).eval(), example={"images": torch.rand(2, 3, 16, 16, dtype=dtype)},
        outputs=("probabilities",), preprocess={"kind": "encoded_images"}, labels=("a", "b", "c"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def program() -> Program:
    return make_program()


@pytest.fixture(scope="module")
def files(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    exported = to_torch_export(program)
    torch.export.save(exported, folder / "program.pt2")
    to_onnx(program, exported).save(folder / "program.onnx")
    return folder


def test_reloaded_forms_agree_with_the_network_on_every_batch_size(program: Program, files: Path) -> None:
    forms = {
        "torch.export": torch_runner(program, torch.export.load(files / "program.pt2")),
        "ONNX": onnx_runner(str(files / "program.onnx")),
    }
    found = differences(program, forms, tolerance=1e-6)
    assert found["torch.export"] == 0
    assert 0 <= found["ONNX"] <= 1e-6
    assert forms["ONNX"](batch_of(program, 7))["probabilities"].shape == (7, 3)


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [("squeezenet1_0", 64, 3), ("resnet", 40, 3), ("cnn_bn", 28, 1), ("mlp", 28, 1)],
)
def test_the_courses_networks_hold_in_both_forms(name: str, size: int, channels: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_classifier(
        NetworkSettings.model_validate({"name": name}), classes=10, channels=channels, size=size,
        mean=[0.5] * channels, std=[0.25] * channels,
    )  # fmt: skip
    program = Program(
        module=nn.Sequential(network, nn.Softmax(1)).eval(),
        example={"images": torch.rand(2, channels, size, size)}, outputs=("probabilities",), preprocess={},
    )  # fmt: skip
    exported = to_torch_export(program)
    torch.export.save(exported, tmp_path / "program.pt2")
    to_onnx(program, exported).save(tmp_path / "program.onnx")
    forms = {
        "torch.export": torch_runner(program, torch.export.load(tmp_path / "program.pt2")),
        "ONNX": onnx_runner(str(tmp_path / "program.onnx")),
    }
    found = differences(program, forms, tolerance=1e-5)
    assert found["torch.export"] <= 1e-7
    assert found["ONNX"] <= 1e-5


def test_onnx_program_is_valid_and_names_its_sides(files: Path) -> None:
    model = onnx.load(files / "program.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == ["probabilities"]
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    assert [each.dim_param or each.dim_value for each in dimensions] == ["batch", 3, 16, 16]


def test_another_process_in_another_folder_writes_the_same_bytes(files: Path, tmp_path: Path) -> None:
    code = f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
        import torch
        from models.export import to_onnx, to_torch_export
        from test_export import make_program
        program = make_program()
        exported = to_torch_export(program)
        torch.export.save(exported, "program.pt2")
        to_onnx(program, exported).save("program.onnx")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, check=True)
    for name in ("program.pt2", "program.onnx"):
        assert (tmp_path / name).read_bytes() == (files / name).read_bytes(), name


def test_programs_hold_no_path_of_this_machine(files: Path) -> None:
    for name in ("program.pt2", "program.onnx"):
        content = (files / name).read_bytes()
        for trace in (b"site-packages", b".py", str(ROOT).encode(), str(files).encode(), b"stack_trace"):
            assert trace not in content, (name, trace)


@pytest.mark.parametrize("by", [1e-3, float("nan")])
def test_a_form_that_differs_is_named_with_batch_and_amount(program: Program, by: float) -> None:
    def wrong_on_five(batch: Tensors) -> Tensors:
        answer = run_eager(program, batch)["probabilities"]
        return {"probabilities": answer + by if len(answer) == 5 else answer}

    message = rf"ONNX differs from the network by ({by:.3g}|nan) on a batch of 5; tolerated are 1e-05"
    with pytest.raises(ValueError, match=message):
        differences(program, {"ONNX": wrong_on_five}, tolerance=1e-5)


def test_a_form_with_another_shape_is_refused(program: Program) -> None:
    def narrow(batch: Tensors) -> Tensors:
        return {"probabilities": run_eager(program, batch)["probabilities"][:, :2]}

    with pytest.raises(ValueError, match=r"answers the stored example with shape \(2, 2\)"):
        differences(program, {"torch.export": narrow}, tolerance=1)


class Scorer(nn.Module):
    """Sequences of codes and a weight each to a score per place, and their sum: several of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4)

    def forward(self, codes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.embedding(codes).sum(2) * weights.unsqueeze(1)
        return scores, scores.sum(1)


@pytest.fixture(scope="module")
def sequences() -> Program:
    torch.manual_seed(0)
    return Program(
        module=Scorer().eval(),
        example={"codes": torch.randint(0, 11, (2, 6)), "weights": torch.rand(2)},
        outputs=("scores", "sum"), preprocess={}, dynamic={"codes": {1: "length"}},
    )  # fmt: skip


def test_several_inputs_and_outputs_of_any_length_agree(sequences: Program, tmp_path: Path) -> None:
    exported = to_torch_export(sequences)
    to_onnx(sequences, exported).save(tmp_path / "program.onnx")
    forms = {
        "torch.export": torch_runner(sequences, exported),
        "ONNX": onnx_runner(str(tmp_path / "program.onnx")),
    }
    assert differences(sequences, forms, tolerance=1e-6)["ONNX"] <= 1e-6
    longer = {"codes": torch.randint(0, 11, (4, 29)), "weights": torch.rand(4)}
    for form in forms.values():
        answer = form(longer)
        torch.testing.assert_close(answer, run_eager(sequences, longer))
        assert answer["scores"].shape == (4, 29)


def test_the_output_that_differs_is_named(sequences: Program) -> None:
    def wrong_sum(batch: Tensors) -> Tensors:
        answer = run_eager(sequences, batch)
        return {**answer, "sum": answer["sum"] + 1}

    with pytest.raises(ValueError, match=r"differs from the network by 1 on sum of the stored example"):
        differences(sequences, {"ONNX": wrong_sum}, tolerance=1e-5)


def test_batches_of_three_have_another_length(sequences: Program) -> None:
    assert batch_of(sequences, 3)["codes"].shape == (3, 3)
    assert batch_of(sequences, 5)["codes"].shape == (5, 6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tolerance_follows_the_lowest_precision(dtype: torch.dtype) -> None:
    program = make_program(dtype)
    assert precision(program) == dtype
    assert tolerance_of(program, ExportSettings()) == TOLERANCES[dtype]
    assert tolerance_of(program, ExportSettings(tolerance=0.5)) == 0.5


def test_compared_batches_stay_in_the_range_of_the_example(program: Program) -> None:
    batch = batch_of(program, 5)["images"]
    assert batch.shape == (5, 3, 16, 16)
    assert batch.min() >= 0
    assert batch.max() <= 1
    torch.testing.assert_close(batch[4], program.example["images"][0] / 2)


@pytest.mark.parametrize(
    "block", [{"tolerance": 0.0}, {"submission": {"label": "dog", "clip": 0.5}}, {"onxx": True}]
)
def test_settings_out_of_range_are_refused(block: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ExportSettings.model_validate(block)
