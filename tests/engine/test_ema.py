"""Averages of the weights: values, what is left out, swapping, checkpoints."""

import pytest
import torch
from helpers import smallest_depth_model
from torch import nn

from metaprompt_d2.engine import WeightAverage


def line(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    set_to(layer, value)
    return layer


def set_to(layer: nn.Linear, value: float) -> None:
    with torch.no_grad():
        layer.weight.fill_(value)
        layer.bias.fill_(-value)


def test_averages_follow_the_weights_faster_at_first() -> None:
    layer = line(0.0)
    average = WeightAverage(layer, 0.25)
    expected = None
    for update, value in enumerate([1.0, 2.0, 5.0, -3.0, 4.0]):
        set_to(layer, value)
        average.update()
        decay = min(0.25, (1 + update) / (10 + update))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    with average.applied():
        assert layer.weight.item() == pytest.approx(expected)
        assert layer.bias.item() == pytest.approx(-expected)
    assert (layer.weight.item(), average.num_updates) == (4.0, 5)


def test_before_the_first_update_the_weights_are_used() -> None:
    layer = line(3.0)
    with WeightAverage(layer, 0.9).applied():
        assert layer.weight.item() == 3.0


def test_weights_are_restored_after_an_error_and_still_train() -> None:
    layer = line(1.0)
    average = WeightAverage(layer, 0.9)
    average.update()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    layer(torch.ones(1)).sum().backward()
    optimizer.step()
    assert layer.weight.item() < 1
    assert average.state_dict()["averages"]["weight"].item() == 1


def test_swapping_copies_nothing() -> None:
    layer = line(1.0)
    average = WeightAverage(layer, 0.9)
    average.update()
    places = layer.weight.data_ptr(), average.state_dict()["averages"]["weight"].data_ptr()
    average.swap()
    swapped = average.state_dict()["averages"]["weight"].data_ptr(), layer.weight.data_ptr()
    assert places == swapped
    assert len(set(places)) == 2


def test_frozen_parts_and_buffers_are_not_duplicated() -> None:
    model = smallest_depth_model({"MODEL.DIFFUSION.FREEZE_UNET": True})
    average = WeightAverage(model, 0.9)
    average.update()
    names = set(average.state_dict()["averages"])
    assert names == {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(".latent_encoder." in name or ".unet." in name for name in names)


def test_batch_norms_own_statistics_are_used() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(model, 0.9)
    average.update()
    model(torch.randn(8, 2) + 5)
    statistics = model[1].running_mean.clone()
    with average.applied():
        assert torch.equal(model[1].running_mean, statistics)


def test_averages_survive_a_checkpoint() -> None:
    layer, other = line(1.0), line(9.0)
    average, loaded = WeightAverage(layer, 0.9), WeightAverage(other, 0.9)
    average.update()
    set_to(layer, 2.0)
    average.update()
    loaded.load_state_dict(average.state_dict())
    set_to(other, 2.0)
    for averaged, model in ((average, layer), (loaded, other)):
        averaged.update()
        averaged.swap()
        assert averaged.num_updates == 3
        assert torch.equal(model.weight, layer.weight)


def test_averages_of_another_model_are_refused_with_all_differences() -> None:
    average = WeightAverage(nn.Linear(3, 2), 0.9)
    average.update()
    frozen = nn.Linear(4, 2)
    frozen.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="2 differ") as error:
        WeightAverage(frozen, 0.9).load_state_dict(average.state_dict())
    assert "weight: (2, 3) in the file, (2, 4) in the model" in str(error.value)
    assert "bias: (2,) in the file, not trained in the model" in str(error.value)


def test_an_average_that_is_the_frozen_weight_itself_is_dropped() -> None:
    """As of layers that were trained without gradients before, because they never run."""
    average = WeightAverage(layer := nn.Linear(3, 2), 0.9)
    average.update()
    frozen = nn.Linear(3, 2)
    frozen.load_state_dict(layer.state_dict())
    frozen.bias.requires_grad_(False)
    loaded = WeightAverage(frozen, 0.9)
    loaded.load_state_dict(average.state_dict())
    assert loaded.state_dict()["averages"].keys() == {"weight"}


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay is"):
        WeightAverage(line(0.0), decay)
