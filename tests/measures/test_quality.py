"""IS, FID, KID and CLIP score against torchmetrics and scipy, which compute them by other routes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from livo.measures.quality import clip_score, fid, frechet_distance, inception_score, kid, moments, semantic_consistency

RNG = np.random.default_rng(0)
SHIFTED = RNG.normal(0.3, 1.2, size=(60, 6)) @ RNG.normal(size=(6, 6))
PLAIN = RNG.normal(size=(80, 6))


class Columns(torch.nn.Module):
    """Stands in for Inception: the features are the input itself."""

    num_features = 6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.double()


def fed(metric, images: np.ndarray, reference: np.ndarray) -> float:
    """What torchmetrics makes of two sets of features."""
    metric.update(torch.tensor(reference), real=True)
    metric.update(torch.tensor(images), real=False)
    return metric.compute()


# --- FID ---


def test_fid_equals_torchmetrics():
    metric = FrechetInceptionDistance(feature=Columns(), input_img_size=(6,)).set_dtype(torch.float64)
    assert fid(SHIFTED, PLAIN) == pytest.approx(float(fed(metric, SHIFTED, PLAIN)), rel=1e-6)


def test_fid_equals_scipys_matrix_root():
    one, other = moments(SHIFTED), moments(PLAIN)
    root = scipy.linalg.sqrtm(one.covariance @ other.covariance).real
    want = ((one.mean - other.mean) ** 2).sum() + np.trace(one.covariance + other.covariance - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(want, rel=1e-9)


def test_fid_of_a_set_with_itself_is_0_also_where_features_depend_on_each_other():
    assert fid(PLAIN, PLAIN) == pytest.approx(0, abs=1e-9)
    flat = np.repeat(PLAIN[:, :1], 6, axis=1)
    assert fid(flat, flat) == pytest.approx(0, abs=1e-9) and fid(flat, flat + 1) == pytest.approx(6)


def test_fid_is_symmetric_and_a_pure_shift_is_its_squared_length():
    assert fid(SHIFTED, PLAIN) == pytest.approx(fid(PLAIN, SHIFTED))
    assert fid(PLAIN + 2, PLAIN) == pytest.approx(4 * 6)


def test_fid_ignores_the_order_of_images_and_of_features():
    images, features = RNG.permutation(60), RNG.permutation(6)
    assert fid(SHIFTED[images][:, features], PLAIN[:, features]) == pytest.approx(fid(SHIFTED, PLAIN))


# --- KID ---


def test_kid_equals_torchmetrics_where_its_one_subset_is_everything():
    n = 60
    metric = KernelInceptionDistance(feature=Columns(), subsets=1, subset_size=n)
    mean, _ = fed(metric, SHIFTED, PLAIN[:n])
    assert kid(SHIFTED, PLAIN[:n]) == pytest.approx(float(mean), rel=1e-5)


def test_kid_is_unbiased_where_fid_is_not():
    draws = [RNG.normal(size=(2, 25, 4)) for _ in range(300)]
    kids, fids = ([f(a, b) for a, b in draws] for f in (kid, fid))
    assert abs(np.mean(kids)) < 3 * np.std(kids) / np.sqrt(len(kids))
    assert np.mean(fids) > 5 * np.std(fids) / np.sqrt(len(fids))


# --- IS ---


def test_inception_score_equals_torchmetrics_with_one_split():
    logits = RNG.normal(size=(50, 6)) * 3
    metric = InceptionScore(feature=Columns(), splits=1)
    metric.update(torch.tensor(logits))
    probs = torch.tensor(logits).softmax(dim=1).numpy()
    assert inception_score(probs) == pytest.approx(float(metric.compute()[0]), rel=1e-6)


def test_inception_score_counts_the_classes_that_sure_images_fill():
    sure = np.eye(7)[RNG.integers(0, 3, 900)]
    assert inception_score(sure) == pytest.approx(3, abs=0.02)
    assert inception_score(np.eye(7)[[2] * 5]) == 1


# --- CLIP, consistency ---


def test_clip_score_is_torchmetrics_formula():
    cosines = RNG.uniform(-1, 1, 200)
    want = torch.max(100 * torch.tensor(cosines), torch.zeros(200, dtype=torch.float64)).mean() / 100
    assert clip_score(cosines) == pytest.approx(float(want))


def test_consistency_wants_everything_that_was_asked_for():
    assert semantic_consistency([[1, 2]] * 4, [[1, 2], [1, 0], [0, 2], [1, -1]]) == 0.25


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: fid(PLAIN[:1], PLAIN), "at least 2"),
        (lambda: fid(PLAIN, PLAIN[:, :3]), "width"),
        (lambda: kid(PLAIN, PLAIN[:, :3]), "width"),
        (lambda: kid(PLAIN[0], PLAIN), "shape"),
        (lambda: fid(np.full((3, 2), np.nan), PLAIN[:, :2]), "finite"),
        (lambda: inception_score(np.zeros((0, 3))), "at least one image"),
        (lambda: inception_score(np.ones((2, 3))), "sum to 1"),
        (lambda: clip_score([]), "at least one"),
        (lambda: clip_score([float("nan")]), "cosine"),
        (lambda: semantic_consistency([], []), "at least 1"),
        (lambda: semantic_consistency([[1]], [[1], [1]]), "asked for and read"),
    ],
)
def test_nonsense_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
