"""Methods: vector spaces of pictures in which a factor may be a direction.

The flow's codes are one of them; the others need no flow. In each space, an experiment interpolates between
two vectors or adds a displacement. ``warping`` has two more methods with the same interface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.fft import dct, idct

from vowelflow.glow import Glow
from vowelflow.latent import great_circle, random_code
from vowelflow.spectrogram import dequantize

from .folds import Fold
from .tokens import Tokens, codes_of
from .vae import VAE

ENVELOPE = 32  # the first cepstral coefficients: structure broader than 0.25 kHz, without harmonics
COMPONENTS = 64  # principal components of pictures, at most


@dataclass(frozen=True)
class Method:
    """Encodes pictures ``(n, 1, side, frames)`` as vectors ``(n, d)``, and decodes vectors.

    Attributes:
        encode: a function from pictures and a seed of the dequantization noise to vectors.
        decode: a function from vectors to pictures.
        flow: the flow whose codes the vectors are, if any.
        part: how many of the first numbers of a vector are moved; all if None.
        redraw: whether the other numbers are drawn from the prior; otherwise they do not change.
        circle: whether to interpolate on the great circle instead of a straight line.
        lossy: whether encoding and decoding changes a picture.
    """

    name: str
    encode: Callable[[torch.Tensor, int], torch.Tensor]
    decode: Callable[[torch.Tensor], torch.Tensor]
    flow: Glow | None = None
    part: int | None = None
    redraw: bool = False
    circle: bool = False
    lossy: bool = False

    def vectors(self, tokens: Tokens, rows: np.ndarray, seed: int = 0, draws: int = 1) -> torch.Tensor:
        """Vectors ``(n, d)`` of tokens; a flow's codes are cached, and averaged over ``draws`` of noise."""
        if self.flow is not None:
            return codes_of(self.flow, tokens, seed, draws)[rows]
        return self.encode(tokens.pictures[rows], seed)

    def displacement(self, vectors: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
        """The weighted sum ``(1, d)`` of vectors ``(n, d)``: the difference of two means, for instance."""
        return torch.from_numpy(weights).float()[None] @ vectors

    def moved(self, vectors: torch.Tensor, displacement: torch.Tensor, step: float) -> torch.Tensor:
        """Pictures of vectors ``(n, d)`` plus ``step`` times a displacement ``(1, d)`` or ``(n, d)``."""
        return self.decode(self._completed(vectors + step * displacement, vectors))

    def between(self, one: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
        """Pictures at a share of the way from each row of ``one`` ``(n, d)`` to the same row of ``other``."""
        if self.circle:
            pairs = zip(one.split(1), other.split(1))
            mixed = torch.cat([great_circle(a, b, shares=[share]) for a, b in pairs])
        else:
            mixed = torch.lerp(one, other, share)
        return self.decode(self._completed(mixed, one if share < 0.5 else other))

    def _completed(self, mixed: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The part of ``mixed`` that is moved, and the rest from ``like`` or drawn from the prior."""
        if self.part is None:
            return mixed
        rest = random_code(len(like), like.shape[1], seed=1) if self.redraw else like
        return torch.cat([mixed[:, : self.part], rest[:, self.part :]], 1)


def flow_method(flow: Glow, name: str = "flow") -> Method:
    """Whole codes of a flow."""
    return Method(name, lambda pictures, seed: flow.encode(pictures, seed).flat, flow.decode, flow)


def great_circle_method(flow: Glow) -> Method:
    """Whole codes of a flow, interpolated on the great circle, which preserves the norm."""
    return replace(flow_method(flow, "great circle"), circle=True)


def top_method(flow: Glow) -> Method:
    """The top code, the coarsest scales, as in the paper's implementation; the rest is drawn anew."""
    return replace(flow_method(flow, "top code"), part=flow.top_size, redraw=True, lossy=True)


def picture_method(shape: tuple[int, int]) -> Method:
    """Pixels of pictures of ``shape``: a line is a cross-fade, a displacement the difference of two mean pictures."""

    def encode(pictures, seed):
        return dequantize(pictures, seed).flatten(1)

    return Method("pictures", encode, lambda vectors: vectors.reshape(-1, 1, *shape))


def pca_method(fit: torch.Tensor) -> Method:
    """Scores on the principal components of the pictures ``fit``, in units of their standard deviation."""
    from sklearn.decomposition import PCA

    flat, shape = fit.flatten(1).numpy(), fit.shape[1:]
    pca = PCA(min(COMPONENTS, len(flat) - 1), whiten=True, svd_solver="randomized", random_state=0).fit(flat)

    def encode(pictures, seed):
        return torch.from_numpy(pca.transform(dequantize(pictures, seed).flatten(1).numpy())).float()

    def decode(vectors):
        return torch.from_numpy(pca.inverse_transform(vectors.numpy())).float().reshape(-1, *shape)

    return Method("PCA", encode, decode, lossy=True)


def cepstrum_method(shape: tuple[int, int]) -> Method:
    """Cepstra, which separate source and filter: the spectral envelope moves, the harmonics do not.

    A cepstrum is the cosine transform of the log magnitudes of a frame. Its first ``ENVELOPE`` coefficients
    move.
    """

    def encode(pictures, seed):
        rows = dct(dequantize(pictures, seed)[:, 0].numpy(), axis=1, norm="ortho")
        return torch.from_numpy(rows).flatten(1)

    def decode(vectors):
        rows = idct(vectors.reshape(-1, *shape).numpy(), axis=1, norm="ortho")
        return torch.from_numpy(rows).float()[:, None]

    return Method("cepstrum", encode, decode, part=ENVELOPE * shape[1])


def vae_method(vae: VAE) -> Method:
    """Mean codes of a beta-VAE."""
    return Method("beta-VAE", vae.encode, vae.decode, lossy=True)


def methods_of(fold: Fold, tokens: Tokens) -> dict[str, Method]:
    """Methods by name: whole code and top code of the flow, and methods without a flow."""
    key = "PCA", fold.fit.tobytes()
    if key not in tokens.cache:
        tokens.cache[key] = pca_method(tokens.pictures[fold.fit])
    shape = tokens.observation.shape
    found = [flow_method(fold.flow), top_method(fold.flow), picture_method(shape), tokens.cache[key]]
    return {method.name: method for method in [*found, cepstrum_method(shape)]}


def principal(vectors: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first ``count`` principal directions of vectors ``(n, d)``, and the standard deviation along each.

    They come from the eigenvectors of the n by n Gram matrix, because d is much larger than n.

    Returns:
        Unit vectors ``(count, d)`` and standard deviations ``(count,)``.
    """
    centred = vectors - vectors.mean(0)
    values, rotation = torch.linalg.eigh((centred @ centred.T).double())
    lengths = values[-count:].flip(0).clamp_min(1e-6).sqrt()
    directions = (rotation[:, -count:].flip(1) / lengths).float().T @ centred
    return directions, lengths.float() / len(vectors) ** 0.5


def gaussian_samples(fit: torch.Tensor, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Pictures drawn from a Gaussian, and from a mixture, on the principal components of ``fit``.

    What the components leave out is drawn as independent noise of the same variance.
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    flat, rng = fit.flatten(1).numpy(), np.random.default_rng(seed)
    pca = PCA(min(COMPONENTS, len(flat) // 2), svd_solver="randomized", random_state=0).fit(flat)
    scores = pca.transform(flat)
    clusters = min(16, max(len(scores) // 8, 1))
    mixture = GaussianMixture(clusters, covariance_type="diag", random_state=seed).fit(scores)
    mixed, _ = mixture.sample(count)
    normal = rng.standard_normal((count, scores.shape[1])) * scores.std(0)
    found = {}
    for name, drawn in (("PCA-Gaussian", normal), ("mixture", mixed[rng.permutation(count)])):
        rest = rng.standard_normal((count, flat.shape[1]), dtype=np.float32) * pca.noise_variance_**0.5
        pictures = pca.inverse_transform(drawn).astype(np.float32) + rest
        found[name] = torch.from_numpy(pictures).reshape(count, *fit.shape[1:]).clamp(0, 1)
    return found
