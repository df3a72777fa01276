"""Networks that read text: PyTorch's equations, a state that is carried, dropouts, tied weights."""

from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models.language import model as module
from models.language.encoder import Encoder, build_encoder, packed, state_size, unpacked
from models.language.generation import generate
from models.language.model import LanguageModel, Stepwise, build_language_model
from models.language.recurrent import Kind, Recurrent
from models.language.settings import AWD, Dropouts, EncoderSettings, LanguageNetworkSettings
from models.phases import layer_groups

NAMES = ("rnn", "gru", "lstm", "awd_lstm")
TOKENS = 11


def settings(name: str = "gru", **changes: Any) -> LanguageNetworkSettings:
    small = {"name": name, "embedding": 6, "hidden": 8, "layers": 2}
    return LanguageNetworkSettings.model_validate({**small, **changes})


def model(name: str = "gru", **changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    return build_language_model(settings(name, **changes), TOKENS)


def codes(rows: int = 3, length: int = 5) -> Tensor:
    return torch.randint(0, TOKENS, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_layer_computes_what_pytorch_s_does(kind: Kind) -> None:
    layer = Recurrent(kind, 6, 8)
    theirs = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind](6, 8, batch_first=True)
    theirs.load_state_dict({f"{name}_l0": value for name, value in layer.state_dict().items()})
    x = torch.randn(3, 5, 6)
    outputs, held = layer(x, layer.initial(3))
    expected, last = theirs(x)
    assert torch.allclose(outputs, expected, atol=1e-6)
    assert torch.allclose(held[0], last[0] if kind == "lstm" else last, atol=1e-6)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_loop_that_is_exported_computes_the_same(kind: Kind) -> None:
    layer = Recurrent(kind, 6, 8).eval()
    x, held = torch.randn(3, 5, 6), tuple(torch.randn(3, 8) for _ in layer.initial(3))
    with torch.no_grad():
        kernel, after = layer(x, held)
        loop, last = layer._loop(x, held, layer.weight_hh)
    assert torch.allclose(kernel, loop, atol=1e-6)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(after, last, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_read_in_pieces_is_read_at_once(name: str) -> None:
    network = model(name).eval()
    whole = network(codes(length=9))
    first, _, _, state = network.run(codes(length=9)[:, :4])
    second, _, _, _ = network.run(codes(length=9)[:, 4:], state)
    assert whole.shape == (3, 9, TOKENS)
    assert torch.allclose(whole, torch.cat([first, second], dim=1), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_is_packed_and_unpacked(name: str) -> None:
    encoder = model(name).encoder
    _, _, state = encoder(codes())
    numbers = packed(state)
    assert numbers.shape == (3, state_size(encoder))
    again = unpacked(encoder, numbers)
    assert all(
        torch.equal(a, b)
        for one, other in zip(state, again, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    network = Stepwise(model(name).eval())
    scores, _ = network(codes(), torch.zeros_like(numbers))
    assert torch.allclose(scores, network.model(codes()), atol=1e-6)


def test_the_published_network_s_sizes_are_the_defaults() -> None:
    defaults = LanguageNetworkSettings()
    assert defaults.widths() == [1152, 1152, 400]
    assert defaults.is_tied()
    assert defaults.drops() == AWD


def test_tied_weights_stand_once_in_the_state_dict() -> None:
    tied, apart = model("awd_lstm"), model("awd_lstm", tied=False)
    assert "decoder.weight" not in tied.state_dict()
    assert apart.state_dict()["decoder.weight"].shape == (TOKENS, 6)
    save({name: value.contiguous() for name, value in tied.state_dict().items()})  # refuses shared memory
    before = tied.encoder.embedding.weight.detach().clone()
    tied(codes())[0, 0, 5].backward()  # code 5 may not be among those read; as an output it is
    gradient = tied.encoder.embedding.weight.grad
    assert gradient is not None
    assert gradient[5].abs().sum() > 0
    assert torch.equal(before, tied.encoder.embedding.weight)


@pytest.mark.parametrize("drop", ["input", "embedding", "weight", "hidden", "output"])
def test_each_dropout_acts_while_training_and_only_then(drop: str) -> None:
    network = model("awd_lstm", dropouts={drop: 0.5})
    network.train()
    torch.manual_seed(1)
    first, second = network(codes()), network(codes())
    assert not torch.equal(first, second)
    network.eval()
    assert torch.equal(network(codes()), network(codes()))


def test_a_mask_of_hidden_dropout_is_the_same_for_all_steps() -> None:
    from models.language.encoder import shared_dropout

    dropped = shared_dropout(torch.ones(4, 50, 20), 0.5, training=True)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_embedding_dropout_zeroes_tokens_wherever_they_stand() -> None:
    encoder = build_encoder(settings("lstm", dropouts={"embedding": 0.5}), TOKENS).train()
    vectors, read = encoder.embed(codes(4, 30)), codes(4, 30)
    zeroed = (vectors == 0).all(dim=-1)
    for code in range(TOKENS):
        assert zeroed[read == code].unique().numel() <= 1
    assert zeroed.any()
    assert not zeroed.all()


def test_layer_groups_hold_every_parameter_the_vocabulary_last() -> None:
    groups = layer_groups(model("awd_lstm", layers=3))
    assert [[type(module).__name__ for module in group] for group in groups] == [
        ["Recurrent"], ["Recurrent"], ["Recurrent"], ["Embedding", "Decoder"],
    ]  # fmt: skip
    encoder = build_encoder(EncoderSettings(embedding=6, hidden=8, layers=2), TOKENS)
    assert isinstance(encoder, Encoder)
    assert [len(group) for group in layer_groups(encoder)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "gru", "tied": True}, r"tied needs hidden \(8\) equal to embedding \(6\)"),
        ({"name": "gru", "dropout_scale": 0.5}, "dropout_scale has no effect"),
        ({"layers": 1, "dropouts": {"hidden": 0.5}}, "dropouts.hidden has no effect with one layer"),
        ({"dropouts": {"input": 0.5}, "dropout_scale": 2.0}, "dropouts.input times dropout_scale"),
        ({"name": "transformer"}, "rnn"),
        ({"dropouts": {"inputs": 0.5}}, "inputs"),
    ],
)
def test_settings_without_effect_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_the_scale_is_of_all_five() -> None:
    scaled = settings("awd_lstm", dropout_scale=0.5).drops()
    assert scaled == Dropouts(input=0.125, embedding=0.01, weight=0.1, hidden=0.075, output=0.05)


def test_generated_text_repeats_itself_and_leaves_the_network_alone() -> None:
    network = model("awd_lstm").train()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = generate(network, [1, 2], tokens=40, seed=3, never=[0])
    assert network.training
    assert torch.equal(before, torch.get_rng_state())
    assert first == generate(network, [1, 2], tokens=40, seed=3, never=[0])
    assert first != generate(network, [1, 2], tokens=40, seed=4, never=[0])
    assert 0 not in first
    likeliest = int(network.eval()(torch.tensor([[1, 2]]))[0, -1].argmax())
    assert generate(network, [1, 2], tokens=1, temperature=0) == [likeliest]


@pytest.mark.parametrize("name", ["awd_lstm", "gru"])
@pytest.mark.parametrize("many", [1, TOKENS + 1])
def test_the_loss_is_the_cross_entropy_of_the_scores(
    name: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By parts and at once, tied and untied: the same loss and the same gradients, to float32's rounding."""
    monkeypatch.setattr(module, "MANY", many)
    monkeypatch.setattr(module, "AT_ONCE", 4)  # 15 vectors: three full parts and a rest
    network, targets = model(name).eval(), codes().roll(-1, dims=1)
    targets[0, 2:] = -100

    def gradients(loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(network.parameters())))

    scores, dropped, _, _ = network.run(codes())
    plain = cross_entropy(scores.flatten(0, 1), targets.flatten())
    expected = gradients(plain)
    dropped, _, _ = network.read(codes())
    loss = network.loss(dropped, targets, nothing=-100)
    torch.testing.assert_close(loss, plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients(loss), expected, rtol=1e-5, atol=1e-7)


def test_the_loss_of_a_large_vocabulary_is_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    network = build_language_model(settings("awd_lstm"), module.MANY).eval()
    dropped, _, _ = network.read(codes())
    plain = network.loss(dropped, codes(), nothing=-100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network.loss(dropped, codes(), nothing=-100), plain)
    assert plain.dtype == torch.float32
