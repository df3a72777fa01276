"""Another language model's weights: its embeddings by token, its layers by name, whoever wrote it."""

import pytest
import torch

from models.language.encoder import build_encoder
from models.language.model import build_language_model
from models.language.settings import EncoderSettings, LanguageNetworkSettings
from models.language.start import load_encoder, start_from
from tests.tasks.test_weights import TOKENS, language_model

SETTINGS = LanguageNetworkSettings(embedding=6, hidden=8, layers=2)
OURS = ["xxunk", "film", "the", "new"]


def test_published_weights_fit_by_name_and_token() -> None:
    published, known = language_model(5), TOKENS[:5]
    network = build_language_model(SETTINGS, len(OURS))
    loaded = start_from(network, published, known, OURS)
    assert set(loaded) == set(network.state_dict())
    state, table = network.state_dict(), published["0.encoder.weight"]
    expected = torch.stack([table[0], table[3], table[2], table.mean(dim=0)])
    assert torch.allclose(state["encoder.embedding.weight"], expected)
    bias = published["1.decoder.bias"]
    assert torch.allclose(state["decoder.bias"], torch.stack([bias[0], bias[3], bias[2], bias.mean()]))
    for layer in (0, 1):  # the weights as they are trained, not as they were dropped out last
        raw = published[f"0.rnns.{layer}.weight_hh_l0_raw"]
        assert torch.equal(state[f"encoder.layers.{layer}.weight_hh"], raw)


def test_our_own_network_is_found_again_in_another_order() -> None:
    torch.manual_seed(3)
    network = build_language_model(SETTINGS, 3)
    other = build_language_model(SETTINGS, 3)
    start_from(other, network.state_dict(), ["a", "b", "c"], ["c", "a", "b"])
    codes = torch.tensor([[0, 1, 2, 1]])
    mapped = torch.tensor([[1, 2, 0, 2]])  # a, b, c, b in the other's numbers
    assert torch.allclose(network.eval()(codes), other.eval()(mapped)[..., [1, 2, 0]], atol=1e-6)


def test_an_untied_output_starts_from_a_tied_one() -> None:
    untied = build_language_model(SETTINGS.model_copy(update={"tied": False}), 5)
    start_from(untied, language_model(5), TOKENS[:5], TOKENS[:5])
    assert torch.equal(untied.state_dict()["decoder.weight"], language_model(5)["0.encoder.weight"])


def test_an_encoder_alone() -> None:
    encoder = build_encoder(EncoderSettings(embedding=6, hidden=8, layers=2), len(OURS))
    assert set(load_encoder(encoder, language_model(5), TOKENS[:5], OURS)) == set(encoder.state_dict())
    network = build_language_model(SETTINGS, len(OURS))
    load_encoder(encoder, network.state_dict(), OURS, OURS)
    codes = torch.tensor([[1, 2, 3]])
    assert torch.equal(encoder.eval()(codes)[0], network.eval().encoder(codes)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedding": 6, "hidden": 9, "layers": 2}, r"of shape \(32, 6\), the network \(36, 6\)"),
        ({"embedding": 6, "hidden": 8, "layers": 3}, r"has no 'encoder.layers.2.weight_ih'"),
    ],
)
def test_another_network_is_refused(settings: dict[str, int], message: str) -> None:
    network = build_language_model(LanguageNetworkSettings.model_validate(settings), len(OURS))
    with pytest.raises(ValueError, match=message):
        start_from(network, language_model(5), TOKENS[:5], OURS)


def test_weights_without_a_vocabulary_are_refused() -> None:
    network = build_language_model(SETTINGS, len(OURS))
    with pytest.raises(ValueError, match=r"no facts.json with a vocabulary"):
        start_from(network, language_model(5), [], OURS)
