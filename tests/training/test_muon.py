"""Muon: orthogonal updates of matrices, AdamW's of everything else."""

import pytest
import torch

from silk_fast.training.muon import ADAM_RMS, Muon, is_matrix, orthogonal


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 16), (8, 100), (100, 8), (1282, 32)])
def test_orthogonal_keeps_singular_vectors_and_levels_singular_values(shape):
    matrix = normal(*shape)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    levelled = u.T @ orthogonal(matrix) @ vh.T
    values = levelled.diagonal()
    assert values.min() > (0.3 if shape[0] == shape[1] else 0.6)  # a square one has values close to 0
    assert values.max() < 1.3
    assert (levelled - values.diag()).abs().max() < 0.05
    assert torch.equal(orthogonal(torch.zeros(shape)), torch.zeros(shape))


def test_what_is_no_matrix_is_trained_as_by_adamw():
    results = []
    for optimizer_type in (torch.optim.AdamW, Muon):
        parameters = [normal(7).requires_grad_(), normal(5, 1, 1, seed=1).requires_grad_()]
        assert not any(map(is_matrix, parameters))
        optimizer = optimizer_type(parameters, 1e-2, (0.8, 0.99), weight_decay=0.1)
        for step in range(5):
            for i, parameter in enumerate(parameters):
                parameter.grad = normal(*parameter.shape, seed=10 * step + i)
            optimizer.step()
        results.append(parameters)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("shape", [(24, 48), (24, 6, 7)], ids=["linear", "convolution"])
def test_an_update_of_a_matrix_has_the_size_of_adamws(shape):
    weight = normal(*shape).requires_grad_()
    before = weight.detach().clone()
    optimizer = Muon([weight], lr=1e-2)
    weight.grad = 1e3 * normal(*shape, seed=1)
    optimizer.step()
    update = (before - weight.detach()) / 1e-2
    assert update.square().mean().sqrt() == pytest.approx(ADAM_RMS, rel=0.2)
    assert torch.nn.functional.cosine_similarity(update.flatten(), weight.grad.flatten(), dim=0) > 0.8


def test_a_parameter_without_gradient_stays_and_weight_decay_is_decoupled():
    still, moving = normal(4, 4).requires_grad_(), normal(4, 4).requires_grad_()
    moving.grad = torch.zeros(4, 4)
    Muon([still, moving], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(still, normal(4, 4))
    torch.testing.assert_close(moving.detach(), 0.95 * normal(4, 4))


def test_a_group_may_be_adamws_as_a_whole():
    results = []
    for optimizer_type, flags in ((torch.optim.AdamW, {}), (Muon, {"by_adam": True})):
        weight = normal(6, 6).requires_grad_()
        weight.grad = normal(6, 6, seed=1)
        optimizer_type([{"params": [weight], "weight_decay": 0.1, **flags}], 1e-2, (0.8, 0.99)).step()
        results.append(weight)
    torch.testing.assert_close(*results)
