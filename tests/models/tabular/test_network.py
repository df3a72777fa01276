"""Embeddings beside numbers: shapes, widths, limits, and what another network hands down."""

import pytest
import torch

from models.tabular.losses import rmspe, scaled_squares
from models.tabular.network import Quantity, TabularNet, start_from
from models.tabular.settings import TabularSettings, embedding_width

COLUMNS = [("shop", ["1", "2", "3"]), ("day", ["Mon", "Tue"])]


def network(settings: TabularSettings | None = None, *, numbers: int = 2, outputs: int = 3) -> TabularNet:
    torch.manual_seed(0)
    return TabularNet(settings or TabularSettings(), columns=COLUMNS, numbers=numbers, outputs=outputs)


def test_widths_follow_the_rule_of_fastai() -> None:
    assert [embedding_width(codes) for codes in (3, 10, 17, 1116, 10**6)] == [3, 6, 8, 81, 600]


def test_codes_and_numbers_become_outputs() -> None:
    codes = torch.tensor([[0, 0], [3, 2]])
    assert network()(codes, torch.randn(2, 2)).shape == (2, 3)
    assert network(numbers=0)(codes, torch.zeros(2, 0)).shape == (2, 3)
    alone = TabularNet(TabularSettings(), columns=[], numbers=2, outputs=1)
    assert alone(torch.zeros(2, 0, dtype=torch.int64), torch.randn(2, 2)).shape == (2, 1)


def test_an_unseen_name_begins_as_none_in_particular() -> None:
    assert not network().embed(torch.zeros(1, 2, dtype=torch.int64)).any()


def test_a_quantity_stays_between_its_limits_and_begins_at_the_mean() -> None:
    module = Quantity(network(outputs=1), limits=(0.0, 10.0), mean=8.0, std=1.0).eval()
    codes, numbers = torch.randint(0, 3, (50, 2)), torch.randn(50, 2) * 100
    answers = module(codes, numbers)
    assert answers.shape == (50,)
    assert ((answers >= 0) & (answers <= 10)).all()
    assert module(codes, numbers / 1000).mean().item() == pytest.approx(8, abs=0.5)


def test_vectors_of_the_names_that_both_know_are_taken_over() -> None:
    old = network()
    columns = [("day", ["Sun", "Tue"]), ("shop", ["2", "9"])]
    new = TabularNet(TabularSettings(embeddings={"shop": 4}), columns=columns, numbers=1, outputs=2)
    old_state = {f"network.{name}": tensor for name, tensor in old.state_dict().items()}
    loaded = start_from(new, old_state, columns=columns, trained=COLUMNS)
    assert loaded == ["embeddings.0.weight"]  # the shops' vectors have another width
    assert torch.equal(new.embeddings[0].weight[2], old.embeddings[1].weight[2])  # type: ignore[index, operator]
    with pytest.raises(ValueError, match="no column and no layer"):
        start_from(new, old_state, columns=columns, trained=[("other", ["x"])])


def test_settings_that_fit_no_column_are_refused() -> None:
    with pytest.raises(ValueError, match=r"embeddings: no column of names is called 'street'"):
        network(TabularSettings(embeddings={"street": 3}))
    with pytest.raises(ValueError, match="3 dropouts for 2 layers"):
        TabularSettings(dropout=(0.1, 0.1, 0.1))


def test_the_course_s_metric_on_logarithms() -> None:
    metric = rmspe(log=True)
    actual = torch.tensor([100.0, 200.0])
    metric.update(torch.log(torch.tensor([110.0, 180.0])), actual.log())
    assert metric.compute() == pytest.approx(0.1)
    assert scaled_squares(2.0)(torch.tensor([4.0]), torch.tensor([0.0])) == 4
