"""What depends on weights only is computed once, and again when the weights change."""

import pytest
import torch

from silk_fast import accelerate_, restore_
from silk_fast.acceleration.folding import FoldedSnake
from silk_fast.reference.conformer import RelativeAttention
from silk_fast.reference.layers import Snake
from tests.acceleration.support import TINY
from tests.kernels.support import DEVICE
from tests.support import make_codec


def test_changed_weights_are_seen(codec):
    """What was folded is computed again after an optimiser step, a load or a move."""
    tokens = torch.zeros(1, 1, 19, dtype=torch.int32, device=DEVICE)
    accelerate_(codec)
    before = codec.decode(tokens)
    state = {name: t * 1.1 if "log_alpha" in name else t for name, t in codec.state_dict().items()}
    state = {name: t + 0.1 if "log_alpha" in name else t for name, t in state.items()}
    codec.load_state_dict(state)
    after = codec.decode(tokens)
    restore_(codec)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, codec.decode(tokens), rtol=0, atol=1e-5)


def test_accelerating_again_renews_what_data_changed_behind_the_folds(codec):
    """``.data`` hides its changes from PyTorch's count of versions."""
    tokens = torch.zeros(1, 1, 19, dtype=torch.int32, device=DEVICE)
    accelerate_(codec)
    codec.decode(tokens)
    for snake in (module for module in codec.modules() if isinstance(module, Snake)):
        snake.log_alpha.data.add_(0.1)
    accelerate_(codec)
    renewed = codec.decode(tokens)
    restore_(codec)
    torch.testing.assert_close(renewed, codec.decode(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [lambda snake: snake.half().float(), lambda snake: [_replace(snake, 1.01) for _ in range(2)]],
    ids=["half and back", "replaced twice"],
)
def test_a_weight_at_the_address_of_an_older_one_is_told_from_it(change):
    snake = FoldedSnake(512).requires_grad_(False).to(DEVICE)
    with torch.no_grad():
        for _ in range(20):
            snake.log_alpha.uniform_()
            assert torch.equal(snake.constants[0], snake.log_alpha.exp())
            change(snake)
            assert torch.equal(snake.constants[0], snake.log_alpha.exp())


def _replace(snake, factor):
    snake.log_alpha.data = snake.log_alpha.data * factor


def test_positions_of_many_lengths_are_not_all_kept():
    attention = RelativeAttention(16, 2, (None, None)).to(DEVICE)
    accelerate_(attention)
    with torch.no_grad():
        rows = [attention.projected_positions(n).shape[1] for n in (3, 5, 3)]
        assert attention.projected_positions(3) is attention.projected_positions(3)
    assert rows == [5, 9, 5]
    assert list(vars(attention)["_folds"]) == ["positions"]


def test_weight_norm_is_folded_without_changing_the_state_dict(audio):
    codec = make_codec(TINY).apply_weight_norm_().to(DEVICE)
    names = list(codec.state_dict())
    report = accelerate_(codec, ops=["weight_norm"])
    assert set(report.swapped.values()) == {"FoldedWeight"}
    assert list(codec.state_dict()) == names
    conv = codec.encoder.input
    with torch.no_grad():
        assert conv.weight is conv.weight  # computed once
        first = conv.weight
        conv.parametrizations.weight.original0.mul_(2)
        torch.testing.assert_close(conv.weight, 2 * first)
    conv.weight.sum().backward()  # with gradients it is computed as ever
    assert conv.parametrizations.weight.original0.grad is not None
