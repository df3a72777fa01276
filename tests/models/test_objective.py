"""Problems that are no classification, through the same loop: a GAN, carried state, a picture that learns."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.fit import fit
from models.objective import Outcome, Stateless, Update
from models.phases import Phase, constant
from models.settings import OptimiserSettings
from tests.models.toy import Tensors, bits, load, shelf


class Wasserstein:
    """WGAN (Arjovsky 2017): five clamped steps of the critic, then one of the generator."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.generator = nn.Linear(2, 1)
        self.critic = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))
        self.turn = 0
        self.order: list[str] = []

    def trainable(self) -> Mapping[str, nn.Module]:
        return {"critic": self.critic, "generator": self.generator}

    def updates(self, batch: tuple[Tensor, ...]) -> Iterator[Update]:
        (real,) = batch
        fake = self.generator(torch.randn(len(real), 2)).detach()
        yield Update("critic", self.critic(fake).mean() - self.critic(real).mean(), len(real))
        for parameter in self.critic.parameters():  # after the step, as the loop has resumed us
            parameter.data.clamp_(-0.1, 0.1)
        self.order.append("critic")
        self.turn += 1
        if self.turn % 5 == 0:
            yield Update(
                "generator", -self.critic(self.generator(torch.randn(len(real), 2))).mean(), len(real)
            )
            self.order.append("generator")

    def judge(self, batch: tuple[Tensor, ...]) -> Outcome:
        (real,) = batch
        made = self.generator(torch.randn(len(real), 2))
        return Outcome((made.mean() - real.mean()).abs(), len(real))

    def start_epoch(self) -> None:
        """The turn goes on across epochs."""

    def state(self) -> dict[str, Any]:
        return {"turn": self.turn}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.turn = state["turn"]


def gan_phase(objective: Wasserstein, epochs: int = 12) -> Phase:
    rms = OptimiserSettings(name="rmsprop", weight_decay=0.0)
    return Phase(
        name="gan",
        objective=objective,
        epochs=epochs,
        rates={"critic": (5e-3,), "generator": (5e-2,)},
        schedule=constant(),
        optimiser=rms,
    )


def numbers() -> Tensors:
    return Tensors(4 + torch.randn(224, 1, generator=torch.Generator().manual_seed(1)), size=32)


def test_a_gan_alternates_its_modules_and_moves_towards_the_data() -> None:
    gan = Wasserstein()
    history = fit([gan_phase(gan, 60)], lambda _: (numbers(), numbers()), seed=1)
    assert gan.order[:7] == ["critic"] * 5 + ["generator", "critic"]
    assert set(history.rows[0]) >= {"train_loss_critic", "train_loss_generator", "valid_loss"}
    assert history.rows[0]["valid_loss"] > 3.5
    assert history.rows[-1]["valid_loss"] < 1.5
    assert max(parameter.abs().max().item() for parameter in gan.critic.parameters()) <= 0.1 + 1e-7


def test_a_gan_continues_inside_its_turns_in_the_same_bits() -> None:
    straight, (kept, save) = Wasserstein(), shelf()
    fit([gan_phase(straight, 2)], lambda _: (numbers(), numbers()), seed=1, save=save, save_every=0.0)
    for stored in kept:
        again = Wasserstein()
        fit([gan_phase(again, 2)], lambda _: (numbers(), numbers()), seed=1, resume=load(stored))
        assert bits(again.critic, again.generator) == bits(straight.critic, straight.generator)


class Carried:
    """Truncated back-propagation through time: the state goes from batch to batch, its graph does not."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.ModuleDict({"cell": nn.RNN(1, 16, batch_first=True), "out": nn.Linear(16, 1)})
        self.hidden: Tensor | None = None
        self.fresh = 0

    def trainable(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}

    def run(self, x: Tensor) -> Tensor:
        outputs, hidden = self.network["cell"](x, self.hidden)
        self.hidden = hidden.detach()
        answers: Tensor = self.network["out"](outputs)
        return answers

    def updates(self, batch: tuple[Tensor, ...]) -> Iterator[Update]:
        yield Update("network", nn.functional.mse_loss(self.run(batch[0]), batch[1]))

    def judge(self, batch: tuple[Tensor, ...]) -> Outcome:
        return Outcome(nn.functional.mse_loss(self.run(batch[0]), batch[1]), 1)

    def start_epoch(self) -> None:
        self.hidden = None
        self.fresh += 1

    def state(self) -> dict[str, Any]:
        return {} if self.hidden is None else {"hidden": self.hidden}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.hidden = state.get("hidden")


def stream() -> Tensors:
    """The answer is the input two places earlier; for two of a chunk's three only carried state knows it."""
    bits_of = torch.randint(2, (8, 200), generator=torch.Generator().manual_seed(2)).float()
    x, y = bits_of[:, 2:], bits_of[:, :-2]
    chunks = [(x[:, at : at + 3, None], y[:, at : at + 3, None]) for at in range(0, 195, 3)]
    return Tensors(*(torch.stack(each) for each in zip(*chunks, strict=True)), size=1, shuffle=False)


class Unstacked(Tensors):
    """Chunks of a stream: one per step, without the axis that stacked them."""

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, ...]]:
        for batch in super().epoch(number, start=start):
            yield tuple(each[0] for each in batch)


def carried_phase(objective: Carried, epochs: int) -> Phase:
    return Phase(name="bptt", objective=objective, epochs=epochs, rates=(1e-2,))


def test_state_is_carried_between_batches_and_forgotten_between_epochs() -> None:
    batches = Unstacked(*stream().tensors, size=1, shuffle=False)
    objective = Carried()
    history = fit([carried_phase(objective, 5)], lambda _: (batches, batches), seed=1)
    assert objective.fresh == 10  # five epochs, each with a pass over either part
    assert history.rows[-1]["valid_loss"] < 0.05  # guessing gives 0.25, two thirds need the carried state


def test_carried_state_continues_in_the_same_bits() -> None:
    batches = Unstacked(*(each[:9] for each in stream().tensors), size=1, shuffle=False)
    straight, (kept, save) = Carried(), shelf()
    fit([carried_phase(straight, 2)], lambda _: (batches, None), seed=1, save=save, save_every=0.0)
    for stored in kept:
        again = Carried()
        fit([carried_phase(again, 2)], lambda _: (batches, None), seed=1, resume=load(stored))
        assert bits(again.network) == bits(straight.network)


class Picture(nn.Module):
    """A picture whose pixels are the parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = nn.Parameter(torch.zeros(1, 3, 8, 8))


class Painting(Stateless):
    """Style transfer in small: the Gram matrix of the picture shall be that of another."""

    def __init__(self, style: Tensor) -> None:
        self.picture = Picture()
        self.wanted = self.gram(style)
        with torch.no_grad():
            self.picture.pixels.normal_(generator=torch.Generator().manual_seed(0))

    def gram(self, picture: Tensor) -> Tensor:
        flat = picture.flatten(2)
        return flat @ flat.transpose(1, 2) / flat.shape[2]

    def trainable(self) -> Mapping[str, nn.Module]:
        return {"picture": self.picture}

    def updates(self, batch: tuple[Tensor, ...]) -> Iterator[Update]:
        yield Update("picture", (self.gram(self.picture.pixels) - self.wanted).square().mean())

    def judge(self, batch: tuple[Tensor, ...]) -> Outcome:
        raise AssertionError("nothing is validated")


def test_a_picture_may_be_what_is_trained() -> None:
    style = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    painting = Painting(style)
    turns = Tensors(torch.zeros(300), size=1)
    adam = OptimiserSettings(weight_decay=0.0)
    only = Phase(name="paint", objective=painting, epochs=1, rates=(0.05,), optimiser=adam)
    history = fit([only], lambda _: (turns, None), seed=0)
    assert history.rows[0].keys() == {"phase", "epoch", "train_loss", "rate"}
    torch.testing.assert_close(painting.gram(painting.picture.pixels), painting.wanted, atol=1e-2, rtol=0)


def test_pretraining_one_module_and_then_all_continues_in_the_same_bits() -> None:
    """The generator of the first phase is not trained in the second, and comes back for the third."""

    class Towards(Stateless):
        def __init__(self, gan: Wasserstein, name: str) -> None:
            self.name, self.module = name, gan.trainable()[name]

        def trainable(self) -> Mapping[str, nn.Module]:
            return {self.name: self.module}

        def updates(self, batch: tuple[Tensor, ...]) -> Iterator[Update]:
            width = 2 if self.name == "generator" else 1
            yield Update(self.name, self.module(torch.randn(8, width)).square().mean())

        def judge(self, batch: tuple[Tensor, ...]) -> Outcome:
            return Outcome(self.module(batch[0].expand(-1, 2 if self.name == "generator" else 1)).mean(), 1)

    def run(save: Any = None, resume: Any = None) -> list[bytes]:
        gan = Wasserstein()
        phases = [
            Phase(name=name, objective=Towards(gan, name), epochs=1, rates=(1e-2,))
            for name in ("generator", "critic")
        ]
        phases.append(gan_phase(gan, 1))
        history = fit(
            phases,
            lambda _: (numbers(), numbers()),
            seed=1,
            keep="best",
            save=save,
            save_every=0.0,
            resume=resume,
        )
        assert history.best_epoch == 3  # epochs with other modules are not compared
        return bits(gan.critic, gan.generator)

    kept, save = shelf()
    straight = run(save)
    assert all(run(resume=load(stored)) == straight for stored in kept)


def test_an_unknown_name_of_a_module_is_an_error() -> None:
    objective = Wasserstein()
    only = Phase(name="gan", objective=objective, epochs=1, rates={"critic": (1e-3,)})
    with pytest.raises(KeyError, match="generator"):
        fit([only], lambda _: (numbers(), None), seed=1)
