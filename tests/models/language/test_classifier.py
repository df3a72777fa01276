"""The classifier reads in pieces what it would read in one go, and nothing but what is there."""

import pytest
import torch
from torch import Tensor

from models.export import Program, to_torch_export, torch_runner
from models.language.classifier import (
    TextClassification,
    TextClassifier,
    WholeDocuments,
    build_text_classifier,
)
from models.language.figures import marked_texts, shown, wrapped
from models.language.interpret import token_attributions
from models.language.settings import EncoderSettings
from models.phases import freeze

PAD = 1
LENGTHS = (23, 14, 7, 1)


def classifier(*, piece: int = 5, pooled: int = 100, scale: float | None = None) -> TextClassifier:
    torch.manual_seed(0)
    settings = EncoderSettings(embedding=6, hidden=8, layers=2, dropout_scale=scale)
    return build_text_classifier(settings, vocabulary=20, classes=3, pad=PAD, piece=piece, pooled=pooled)


def documents(lengths: tuple[int, ...] = LENGTHS) -> Tensor:
    codes = torch.randint(2, 20, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(lengths):
        codes[row, length:] = PAD
    return codes


def probabilities(network: TextClassifier, codes: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(codes).softmax(dim=1)


@pytest.mark.parametrize("pooled", [4, 10, 100])
@pytest.mark.parametrize("piece", [1, 5, 64])
def test_pieces_and_the_whole_agree(piece: int, pooled: int) -> None:
    network = classifier(piece=piece, pooled=pooled)
    with torch.no_grad():
        whole = WholeDocuments(network.eval())(documents())
    torch.testing.assert_close(probabilities(network, documents()), whole)


def test_pooling_is_last_mean_and_maximum_of_what_counts() -> None:
    network = classifier(pooled=6).eval()
    codes = documents()
    with torch.no_grad():
        pooled = network.read(codes).pooled
        vectors, _, _ = network.encoder(codes[:1])
    counted = vectors[0, 17:23]
    expected = torch.cat([vectors[0, 22], counted.mean(0), counted.amax(0)])
    torch.testing.assert_close(pooled[0], expected)


def test_neither_padding_nor_order_nor_company_changes_an_answer() -> None:
    network, codes = classifier(), documents()
    together = probabilities(network, codes)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(probabilities(network, codes[order]), together[order])
    torch.testing.assert_close(probabilities(network, codes[1:2, :14]), together[1:2])
    wider = torch.cat([codes, torch.full((4, 9), PAD)], dim=1)
    torch.testing.assert_close(probabilities(network, wider), together)


def gradients(network: TextClassifier, codes: Tensor) -> Tensor:
    """How much each token's own row of the embedding is moved by one step."""
    network.train()
    update = next(TextClassification(network).updates((codes, torch.zeros(len(codes), dtype=torch.long))))
    update.loss.backward()  # type: ignore[no-untyped-call]
    moved = network.encoder.embedding.weight.grad
    assert moved is not None
    return moved.abs().sum(1)


def test_no_gradient_reaches_what_is_not_pooled() -> None:
    codes = torch.arange(2, 18).repeat(2, 1)  # every token has its own row
    moved = gradients(classifier(piece=4, pooled=6), codes)
    assert not moved[2:10].any(), "two pieces before the last six tokens"
    assert moved[12:18].all()


def test_a_gradient_stops_at_the_beginning_of_its_piece() -> None:
    network = classifier(piece=4)
    network.encoder.embedding.weight.requires_grad_(True)
    codes = torch.arange(2, 10).repeat(2, 1)
    read = network.train().read(codes)
    last = read.pooled[:, : network.encoder.width]
    (moved,) = torch.autograd.grad(last.sum(), network.encoder.embedding.weight)
    assert not moved[2:6].any()
    assert moved[6:10].abs().sum(1).all()


def test_the_regularisers_are_means_over_tokens_that_are_there() -> None:
    network, codes = classifier().eval(), documents((9, 4))
    with torch.no_grad():
        vectors, _, _ = network.encoder(codes)
        read = network.read(codes)
    held = torch.cat([vectors[0], vectors[1, :4]])
    torch.testing.assert_close(read.activation, held.pow(2).mean())
    network.piece = 64
    steps = torch.cat([vectors[0].diff(dim=0), vectors[1, :4].diff(dim=0)])
    torch.testing.assert_close(network.read(codes).change, steps.pow(2).mean())


def test_regularisers_are_no_part_of_what_is_judged() -> None:
    batch = (documents((9, 4)), torch.tensor([0, 1]))
    plain, regular = (
        TextClassification(classifier().eval(), activation=share, change=share) for share in (0, 9)
    )
    with torch.no_grad():
        torch.testing.assert_close(plain.judge(batch).loss, regular.judge(batch).loss)
    assert next(regular.updates(batch)).loss > next(plain.updates(batch)).loss


def test_groups_unfreeze_from_the_head_down() -> None:
    network = classifier()
    assert len(network.parameter_groups()) == 4
    freeze(network, 2)
    learning = {name.split(".")[0] for name, each in network.named_parameters() if each.requires_grad}
    assert learning == {"encoder", "head"}
    assert not network.encoder.embedding.weight.requires_grad
    freeze(network, 3)
    assert all(name.startswith("head") for name, each in network.named_parameters() if each.requires_grad)


def test_one_program_answers_texts_of_any_length() -> None:
    network = classifier().eval()
    program = Program(
        module=WholeDocuments(network).eval(), example={"codes": documents((9, 4))},
        outputs=("probabilities",), preprocess={"kind": "texts"}, dynamic={"codes": {1: "length"}},
    )  # fmt: skip
    run = torch_runner(program, to_torch_export(program))
    for codes in (documents(), documents((2,)), documents((40, 3))):
        torch.testing.assert_close(run({"codes": codes})["probabilities"], probabilities(network, codes))


def test_attributions_add_up_to_what_the_text_changes() -> None:
    network = classifier().eval()
    codes = documents((8,))
    given = token_attributions(network, codes, target=2, pad=PAD, steps=200)
    whole = WholeDocuments(network)
    with torch.no_grad():
        change = whole(codes)[0, 2] - whole(torch.zeros_like(codes))[0, 2]
    assert given.shape == (8,)
    assert given.sum() == pytest.approx(float(change), abs=2e-3)


def test_one_class_is_no_question() -> None:
    with pytest.raises(ValueError, match="at least two classes"):
        build_text_classifier(EncoderSettings(), vocabulary=10, classes=1, pad=1)


def test_texts_are_drawn_within_their_columns() -> None:
    from matplotlib.figure import Figure

    tokens = ["word"] * 60 + ["\n", "$x$", "y" * 200]
    for line in wrapped(tokens, columns=50):
        assert sum(len(shown(tokens[number])) + 1 for number, _ in line) <= 51
    import numpy as np

    figure = Figure()
    marked_texts(figure, ["a", "b"], [tokens, []], [np.linspace(-1, 1, len(tokens)), np.zeros(0)], label="x")
    figure.savefig("/dev/null", format="png")
