"""Learning of codebooks, against EnCodec's rules in vector-quantize-pytorch and by what it must bring about."""

import pytest
import torch
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from silk_fast import SilkInputError
from silk_fast.reference.codebooks import MovingCodebook, k_means, moving_average, replace_unused
from silk_fast.reference.ops import nearest_code


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def clusters(n_each: int = 40) -> tuple[Tensor, Tensor]:
    """Five far centres ``[5, 3]``, and vectors ``[5 * n_each, 3]`` around them, shuffled."""
    centres = 20 * torch.eye(5, 3) - 10 * torch.eye(5, 3).flip(0)
    x = (centres[:, None] + 0.1 * torch.randn(5, n_each, 3)).flatten(0, 1)
    return centres, x[torch.randperm(len(x))]


def distortion(x: Tensor, entries: Tensor) -> float:
    return (x - entries[nearest_code(x[None], entries)[0]]).square().sum(-1).mean().item()


def test_k_means_are_means_of_what_is_nearest():
    _, x = clusters()
    means, counts, sums = k_means(x, 12)
    index = nearest_code(x[None], means)[0]
    assert torch.equal(counts, torch.bincount(index, minlength=12).float())
    for k in index.unique():
        torch.testing.assert_close(means[k], x[index == k].mean(0))
        torch.testing.assert_close(sums[k], x[index == k].sum(0))


def test_k_means_lessen_the_distortion_and_follow_the_generator():
    x = torch.randn(500, 4)
    first, last = (k_means(x, 16, n, torch.Generator().manual_seed(1)) for n in (1, 30))
    again = k_means(x, 16, 30, torch.Generator().manual_seed(1))
    assert distortion(x, last.entries) < 0.95 * distortion(x, first.entries)
    assert torch.equal(last.entries, again.entries)


def test_fewer_vectors_than_entries():
    x = torch.randn(3, 4)
    assert distortion(x, k_means(x, 8).entries) < 4.0
    assert k_means(x, 8).entries.isfinite().all()


def test_moving_average_equals_vector_quantize_pytorch():
    quantizer = VectorQuantize(4, 16, decay=0.9, eps=1e-5, kmeans_init=False, threshold_ema_dead_code=0).train()
    peer = quantizer._codebook
    codebook = MovingCodebook(peer.embed[0].clone(), peer.cluster_size[0].clone(), peer.embed_avg[0].clone())
    for _ in range(5):
        x = torch.randn(200, 4)
        quantizer(x[None])
        codebook = moving_average(codebook, x, 0.9)
        torch.testing.assert_close(codebook.counts, peer.cluster_size[0])
        torch.testing.assert_close(codebook.sums, peer.embed_avg[0])
        torch.testing.assert_close(codebook.entries, peer.embed[0])


def test_moving_average_finds_the_centres():
    centres, x = clusters()
    codebook = k_means(centres + 1.0, 5)
    for _ in range(400):
        codebook = moving_average(codebook, x, 0.95)
    assert torch.cdist(centres, codebook.entries).amin(1).max() < 0.1


def test_unused_entries_get_the_place_of_a_vector_and_the_others_stay():
    _, x = clusters()
    counts = torch.tensor([5.0, 0.1, 2.0, 1.9])
    before = MovingCodebook(torch.randn(4, 3), counts, torch.randn(4, 3))
    after = replace_unused(before, x)
    unused = counts < 2
    assert torch.equal(after.entries[~unused], before.entries[~unused])
    assert torch.equal(after.sums[~unused], before.sums[~unused])
    assert (torch.cdist(after.entries[unused], x).amin(1) == 0).all()
    assert torch.equal(after.counts, torch.tensor([5.0, 2.0, 2.0, 2.0]))
    torch.testing.assert_close(after.sums[unused] / after.counts[unused, None], after.entries[unused])


def test_nothing_given_is_written():
    x = torch.randn(50, 3)
    codebook = k_means(x, 8)
    copies = [t.clone() for t in codebook]
    moving_average(codebook, x)
    replace_unused(codebook, x, 100.0)
    assert all(torch.equal(a, b) for a, b in zip(codebook, copies, strict=True))


BOOK = MovingCodebook(torch.zeros(4, 3), torch.ones(4), torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: k_means(torch.zeros(0, 3), 4), r"x must be \[N, D\] with N of 1 or more, got \[0, 3\]"),
        (lambda: k_means(torch.zeros(5, 3), 0), "n_codes and n_steps must be positive, got 0 and 50"),
        (lambda: moving_average(BOOK, torch.zeros(5, 2)), r"x must be \[N, 3\]"),
        (lambda: moving_average(BOOK, torch.zeros(5, 3), 1.5), "decay must be in 0 .. 1, got 1.5"),
        (lambda: replace_unused(BOOK, torch.zeros(3)), r"x must be \[N, 3\]"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(SilkInputError, match=message):
        call()
