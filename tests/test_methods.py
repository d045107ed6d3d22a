"""Every method reproduces tokens that are not moved, and moves tokens as it should."""

import numpy as np
import pytest
import torch

from vowelflow.glow import Glow, GlowConfig
from vowelflow.initialise import initialise
from vowelflow.spectrogram import VOWEL, dequantize, images
from vowelstudy import methods


@pytest.fixture(scope="module")
def pictures(klatt):
    return images(klatt.take(range(0, 80, 10)))


@pytest.fixture(scope="module")
def flow(pictures):
    torch.manual_seed(0)
    model = (
        Glow(GlowConfig(squeeze=((2, 2),) * 3, steps=1, hidden=(4, 4, 4), axes=2))
        .eval()
        .requires_grad_(False)
    )
    initialise(model, dequantize(pictures))
    return model


def all_methods(flow, pictures):
    of_flow = [methods.flow_method(flow), methods.great_circle_method(flow)]
    return [*of_flow, methods.picture_method(VOWEL.shape), methods.cepstrum_method(VOWEL.shape)]


def test_there_and_back_is_the_dequantized_picture(flow, pictures):
    for method in all_methods(flow, pictures):
        vectors = method.encode(pictures, 0)
        assert torch.allclose(
            method.moved(vectors, torch.zeros_like(vectors[:1]), 1.0), dequantize(pictures), atol=1e-4
        ), method.name
        for share, end in ((0.0, pictures[:4]), (1.0, pictures[4:])):
            assert torch.allclose(
                method.between(vectors[:4], vectors[4:], share), dequantize(end), atol=1e-3
            ), method.name


def test_a_line_among_pictures_is_a_cross_fade_and_a_displacement_their_difference(pictures):
    method = methods.picture_method(VOWEL.shape)
    vectors = method.encode(pictures, 0)
    assert torch.allclose(
        method.between(vectors[:1], vectors[1:2], 0.5),
        (dequantize(pictures[:1]) + dequantize(pictures[1:2])) / 2,
        atol=1e-6,
    )
    moved = method.moved(vectors[:1], vectors[1:2] - vectors[:1], 1.0)
    assert torch.allclose(moved, dequantize(pictures[1:2]), atol=1e-6)


def test_an_untrained_flow_is_linear_and_so_a_cross_fade(flow, pictures):
    """Its couplings start as the identity, so any advantage over pictures comes from training."""
    one, other = flow.encode(pictures[:1]), flow.encode(pictures[1:2])
    fade = (one.image + other.image) / 2
    assert torch.allclose(flow.decode(torch.lerp(one.flat, other.flat, 0.5)), fade, atol=1e-3)


def test_in_the_cepstrum_harmonics_stay_those_of_the_nearer_end(pictures):
    method = methods.cepstrum_method(VOWEL.shape)
    vectors = method.encode(pictures, 0)
    rest = method.encode(method.between(vectors[:1], vectors[1:2], 0.25).clamp(0, 1), 0)[:, method.part :]
    assert torch.allclose(rest[:, ::97], vectors[:1, method.part :: 97], atol=0.05)


def test_the_top_code_is_moved_and_the_rest_is_drawn(flow, pictures):
    method = methods.top_method(flow)
    vectors = method.encode(pictures, 0)
    back = flow.encode(method.moved(vectors, torch.zeros_like(vectors[:1]), 1.0).clamp(0, 1)).flat
    assert method.part == flow.top_size < vectors.shape[1]
    kept = method._completed(vectors, vectors)
    assert torch.equal(kept[:, : method.part], vectors[:, : method.part])
    assert (
        not torch.allclose(kept[:, method.part :], vectors[:, method.part :]) and back.shape == vectors.shape
    )


def test_pca_keeps_what_it_was_fitted_on(pictures):
    method = methods.pca_method(pictures)
    scores = method.encode(pictures, 0)
    assert scores.shape == (8, 7)
    assert (method.decode(scores) - dequantize(pictures)).square().mean() < 1e-3


def test_simple_samples_are_pictures_and_repeatable(pictures):
    drawn = methods.gaussian_samples(pictures, 5)
    again = methods.gaussian_samples(pictures, 5)
    for name in ("PCA-Gaussian", "mixture"):
        assert drawn[name].shape == (5, 1, 256, 96) and 0 <= drawn[name].min() and drawn[name].max() <= 1
        assert torch.equal(drawn[name], again[name])
    assert np.isfinite(drawn["mixture"].numpy()).all()


def test_principal_directions_are_those_of_pca():
    from sklearn.decomposition import PCA

    vectors = torch.randn(12, 40, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 41)
    directions, deviations = methods.principal(vectors, 3)
    pca = PCA(3, svd_solver="full").fit(vectors.numpy())
    agree = np.abs((directions.numpy() * pca.components_).sum(1))
    np.testing.assert_allclose(agree, 1, atol=1e-4)
    np.testing.assert_allclose(deviations.numpy(), np.sqrt(pca.explained_variance_ * 11 / 12), rtol=1e-4)
