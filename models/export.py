"""Export: a trained network as one program of tensors, in two forms, with proof that all forms agree.

Files are the business of `tasks/export.py`; here are programs, bytes and numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.settings import ExportSettings

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.onnx import ONNXProgram

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Largest absolute difference of two forms' outputs, by the lowest precision inside the network. Measured on
float32 probabilities at 224 pixels with random weights: 0 between eager and `torch.export`, 2e-6 between
eager and ONNX for SqueezeNet 1.0 and ResNet-50, less for smaller ones. 16 bits: a few spacings at 1."""

BATCHES = (1, 3, 5)
"""Sizes of the batches that are compared beside the stored example, which holds two."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A network ready to leave the project: one tensor in, one tensor out, all that it needs inside."""

    module: nn.Module
    """In evaluation mode on the CPU."""
    example: Tensor
    """(2, ...): a valid input. Two, because a batch of one is exported as a constant."""
    input_name: str
    output_name: str
    preprocess: Mapping[str, Any]
    """As JSON; `kind` names the file of `tasks/predictors/` that makes the input from what users have."""
    labels: tuple[str, ...]
    """What the output's columns mean, in order; empty where they are no classes."""

    def __post_init__(self) -> None:
        assert not self.module.training, "a program is exported in evaluation mode"
        assert self.example.shape[0] == 2, "the example holds two rows"


def precision(program: Program) -> torch.dtype:
    """The lowest floating precision among parameters, buffers and example; float32 where there is none."""
    tensors = [*program.module.parameters(), *program.module.buffers(), program.example]
    found = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return max(found & TOLERANCES.keys(), key=TOLERANCES.__getitem__, default=torch.float32)


def tolerance_of(program: Program, settings: ExportSettings) -> float:
    """The stated tolerance, or that of the network's precision."""
    return settings.tolerance if settings.tolerance is not None else TOLERANCES[precision(program)]


@torch.no_grad()
def run_eager(program: Program, batch: Tensor) -> Tensor:
    """The network itself: what every exported form is compared with."""
    output: Tensor = program.module(batch)
    return output


def to_torch_export(program: Program) -> ExportedProgram:
    """The program with a dynamic batch and without traces of where it was made: equal bytes anywhere."""
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(program.module, (program.example,), dynamic_shapes=({0: batch},))
    for module in exported.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths and lines of this machine's installation
    return exported


def to_onnx(program: Program, exported: ExportedProgram) -> ONNXProgram:
    """The same program as ONNX, its input and output under the program's names, without stack traces."""
    converted = torch.onnx.export(
        exported,
        (program.example,),
        dynamo=True,
        verbose=False,
        input_names=[program.input_name],
        output_names=[program.output_name],
        dynamic_shapes=({0: "batch"},),
    )
    assert converted is not None
    converted.model.producer_version = torch.__version__.split("+")[0]  # the build is the machine's
    for graph in (
        converted.model.graph,
        *(function.graph for function in converted.model.functions.values()),
    ):
        for node in graph.all_nodes():
            node.metadata_props.clear()  # stack traces again, and names of modules
            node.doc_string = None
        for value in (*graph.inputs, *graph.outputs):
            value.metadata_props.clear()
        graph.metadata_props.clear()
    converted.model.metadata_props.clear()
    return converted


def onnx_runner(model: bytes | str) -> Callable[[Tensor], Tensor]:
    """Run an ONNX program (its bytes, or the path of its file) by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: torch.from_numpy(session.run(None, {name: batch.numpy()})[0])


def batch_of(program: Program, rows: int) -> Tensor:
    """(rows, ...): the example's rows in turn; floating ones scaled differently each, from 1 down to 1/2."""
    batch = program.example[torch.arange(rows) % len(program.example)]
    if not batch.is_floating_point():
        return batch
    scale = torch.linspace(1, 0.5, rows, dtype=batch.dtype)
    return batch * scale.view(-1, *[1] * (batch.dim() - 1))


def differences(
    program: Program, forms: Mapping[str, Callable[[Tensor], Tensor]], *, tolerance: float
) -> dict[str, float]:
    """Largest absolute difference to the eager network, by form, on the example and on other batch sizes.

    ValueError names the form, the batch, the difference and the tolerance where it is exceeded.
    """
    batches = {"the stored example": program.example}
    batches |= {f"a batch of {rows}": batch_of(program, rows) for rows in BATCHES}
    worst = dict.fromkeys(forms, 0.0)
    for what, batch in batches.items():
        expected = run_eager(program, batch)
        for form, run in forms.items():
            with torch.no_grad():
                given = run(batch)
            found = difference(form, what, given, expected, tolerance=tolerance)
            worst[form] = max(worst[form], found)
    return worst


def difference(form: str, what: str, given: Tensor, expected: Tensor, *, tolerance: float) -> float:
    """Largest absolute difference. ValueError above the tolerance, or for NaN."""
    if given.shape != expected.shape:
        raise ValueError(
            f"export: {form} answers {what} with shape {tuple(given.shape)},"
            f" the network with {tuple(expected.shape)}"
        )
    found = (given.double() - expected.double()).abs().max().item()
    if not found <= tolerance:  # so that NaN fails as well
        raise ValueError(
            f"export: {form} differs from the network by {found:.3g} on {what}; tolerated are {tolerance:.3g}"
            " (export.tolerance, by default that of the network's precision)"
        )
    return found
