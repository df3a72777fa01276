"""Export: a trained network as one program of tensors, in two forms, with proof that all forms agree.

Files are the business of `tasks/export.py`; here are programs, bytes and numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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


Tensors = Mapping[str, Tensor]
"""Inputs or outputs of a program by name, in its order."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A network ready to leave the project: tensors in, tensors out, all that it needs inside."""

    module: nn.Module
    """In evaluation mode on the CPU; called with the inputs in their order, answers one tensor or a tuple."""
    example: Tensors
    """(2, ...) each: a valid input. Two, because a batch of one is exported as a constant."""
    outputs: tuple[str, ...]
    """Names of what it answers, in order."""
    preprocess: Mapping[str, Any]
    """As JSON; `kind` names the file of `tasks/predictors/` that makes the input from what users have."""
    labels: tuple[str, ...] = ()
    """What the outputs' classes mean, in order; empty where there are none."""
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Dimensions beside the batch that may vary, by input: `{"tokens": {1: "length"}}`."""

    def __post_init__(self) -> None:
        assert not self.module.training, "a program is exported in evaluation mode"
        assert all(len(each) == 2 for each in self.example.values()), "the example holds two rows"
        assert self.dynamic.keys() <= self.example.keys(), "dynamic dimensions are those of inputs"


def precision(program: Program) -> torch.dtype:
    """The lowest floating precision among parameters, buffers and example; float32 where there is none."""
    tensors = [*program.module.parameters(), *program.module.buffers(), *program.example.values()]
    found = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return max(found & TOLERANCES.keys(), key=TOLERANCES.__getitem__, default=torch.float32)


def tolerance_of(program: Program, settings: ExportSettings) -> float:
    """The stated tolerance, or that of the network's precision."""
    return settings.tolerance if settings.tolerance is not None else TOLERANCES[precision(program)]


@torch.no_grad()
def run_eager(program: Program, inputs: Tensors) -> dict[str, Tensor]:
    """The network itself: what every exported form is compared with."""
    return named(program, program.module(*inputs.values()))


def named(program: Program, answer: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
    """What the program answered, by name."""
    answers = (answer,) if isinstance(answer, Tensor) else tuple(answer)
    return dict(zip(program.outputs, answers, strict=True))


def to_torch_export(program: Program) -> ExportedProgram:
    """The program with a dynamic batch and without traces of where it was made: equal bytes anywhere."""
    batch = torch.export.Dim("batch", min=1)
    named_dims = {
        dimension: torch.export.Dim(dimension, min=1)
        for dimensions in program.dynamic.values()
        for dimension in dimensions.values()
    }
    shapes = tuple(
        {0: batch} | {place: named_dims[which] for place, which in program.dynamic.get(name, {}).items()}
        for name in program.example
    )
    exported = torch.export.export(
        program.module, tuple(program.example.values()), dynamic_shapes=_as_called(program, shapes)
    )
    for module in exported.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths and lines of this machine's installation
    return exported


def _as_called(program: Program, shapes: tuple[dict[int, Any], ...]) -> Any:
    """Dynamic shapes in the form that torch wants: those of `forward(*inputs)` lie one level deeper."""
    parameters = inspect.signature(program.module.forward).parameters.values()
    gathered = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
    return (shapes,) if gathered else shapes


def to_onnx(program: Program, exported: ExportedProgram) -> ONNXProgram:
    """The same program as ONNX, its input and output under the program's names, without stack traces."""
    converted = torch.onnx.export(
        exported,
        tuple(program.example.values()),
        dynamo=True,
        verbose=False,
        input_names=list(program.example),
        output_names=list(program.outputs),
        dynamic_shapes=_as_called(
            program, tuple({0: "batch"} | dict(program.dynamic.get(name, {})) for name in program.example)
        ),
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


Form = Callable[[Tensors], Tensors]
"""An exported form of a program, ready to run."""


def torch_runner(program: Program, exported: ExportedProgram) -> Form:
    """Run a `torch.export` program."""
    module = exported.module()
    return lambda inputs: named(program, module(*inputs.values()))


def onnx_runner(model: bytes | str) -> Form:
    """Run an ONNX program (its bytes, or the path of its file) by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs = [each.name for each in session.get_inputs()]
    outputs = [each.name for each in session.get_outputs()]

    def run(given: Tensors) -> Tensors:
        arrays = {name: given[name].numpy() for name in inputs}
        return dict(zip(outputs, map(torch.from_numpy, session.run(None, arrays)), strict=True))

    return run


def batch_of(program: Program, rows: int) -> dict[str, Tensor]:
    """(rows, ...) each: the example's rows in turn; floating ones scaled differently each, from 1 to 1/2,
    and dimensions that may vary cut to half in a batch of three."""
    batch = {}
    for name, example in program.example.items():
        given = example[torch.arange(rows) % len(example)]
        for place in program.dynamic.get(name, {}):
            length = given.shape[place]
            given = given.narrow(place, 0, max(length // 2, 1) if rows == 3 else length)
        if given.is_floating_point():
            scale = torch.linspace(1, 0.5, rows, dtype=given.dtype)
            given = given * scale.view(-1, *[1] * (given.dim() - 1))
        batch[name] = given.contiguous()
    return batch


def differences(program: Program, forms: Mapping[str, Form], *, tolerance: float) -> dict[str, float]:
    """Largest absolute difference to the eager network, by form, on the example and on other batch sizes.

    ValueError names the form, the batch, the output, the difference and the tolerance where it is exceeded.
    """
    batches = {"the stored example": program.example}
    batches |= {f"a batch of {rows}": batch_of(program, rows) for rows in BATCHES}
    worst = dict.fromkeys(forms, 0.0)
    for what, batch in batches.items():
        expected = run_eager(program, batch)
        for form, run in forms.items():
            with torch.no_grad():
                given = run(batch)
            for name, tensor in expected.items():
                where = what if len(expected) == 1 else f"{name} of {what}"
                found = difference(form, where, given[name], tensor, tolerance=tolerance)
                worst[form] = max(worst[form], found)
    return worst


def difference(form: str, what: str, given: Tensor, expected: Tensor, *, tolerance: float) -> float:
    """Largest absolute difference. ValueError above the tolerance, or for NaN."""
    if given.shape != expected.shape:
        raise ValueError(
            f"export: {form} answers {what} with shape {tuple(given.shape)},"
            f" the network with {tuple(expected.shape)}"
        )
    if not expected.numel():
        return 0.0
    found = (given.double() - expected.double()).abs().max().item()
    if not found <= tolerance:  # so that NaN fails as well
        raise ValueError(
            f"export: {form} differs from the network by {found:.3g} on {what}; tolerated are {tolerance:.3g}"
            " (export.tolerance, by default that of the network's precision)"
        )
    return found
