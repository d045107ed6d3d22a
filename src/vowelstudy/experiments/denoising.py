"""Section 4.5: a step along minus the displacement from clean to noisy codes removes noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch

from vowelflow.base import RATE
from vowelflow.glow import Glow
from vowelflow.latent import direction, random_direction
from vowelflow.noise import add_noise
from vowelflow.spectrogram import batches, peaks, phases, spectrum_of

from .. import measures
from ..baselines import spectral_subtraction, wiener
from ..folds import Fold
from ..methods import flow_method, picture_method, top_method, vae_method
from ..protocol import Protocol
from ..statistics import NULL, SIMPLE, Comparison, shuffle_test
from ..tokens import Tokens, codes_of, decode_folds
from ..vae import VAE

TRAINED, OTHERS = "white", ("pink", "babble")  # displacements are estimated from white noise only
MEASURES = ("gain", "segmental_snr", "mel_cepstral")
NULLS = dict.fromkeys(("no move", "random direction", "shuffled labels"), NULL)
SIMPLES = dict.fromkeys(("pictures", "spectral subtraction", "Wiener filter", "beta-VAE"), SIMPLE)


class Noisy:
    """Noisy versions of tokens, each computed once: pictures, their peaks, codes and phases."""

    def __init__(self, tokens: Tokens, seed: int):
        self.tokens, self.seed, self._cache = tokens, seed, {}

    def noise(self, kind: str, snr: int):
        """The noise for ``batches`` and ``phases``: white, pink, or babble of four voices of the corpus."""
        return add_noise(snr, self.seed, kind, self.tokens.corpus if kind == "babble" else None)

    def pictures(self, rows: np.ndarray, kind: str, snr: int) -> torch.Tensor:
        """Noisy pictures ``(n, 1, side, frames)``."""
        return torch.stack([picture for picture, _ in self._made(rows, kind, snr)])

    def peaks(self, rows: np.ndarray, kind: str, snr: int) -> list[float]:
        return [peak for _, peak in self._made(rows, kind, snr)]

    def codes(self, flow: Glow, rows: np.ndarray, kind: str, snr: int) -> torch.Tensor:
        """Codes of noisy pictures ``(n, d)``."""

        def make(missing):
            return flow.encode(self.pictures(missing, kind, snr), self.seed).flat

        return torch.stack(self._cached((id(flow), kind, snr), rows, make))

    def phases(self, rows: np.ndarray, kind: str | None, snr: int | None) -> torch.Tensor:
        """Phases of the noisy spectra ``(n, bins, frames)``, or of the clean ones if ``kind`` is None."""

        def make(missing):
            noise = None if kind is None else self.noise(kind, snr)
            return phases(self.tokens.corpus.take(missing), noise, self.tokens.observation)

        return torch.stack(self._cached(("phase", kind, snr), rows, make))

    def power(self, rows: np.ndarray, kind: str, snr: int) -> np.ndarray:
        """Mean noise power of each token in each bin ``(n, 257)``, relative to the peak of the noisy picture.

        It is measured on other noise of the same level, like that in a pause before the vowel.
        """
        rng, noise = np.random.default_rng([self.seed, 5]), self.noise(kind, snr)
        found, table = [], self.tokens.table
        for row, peak in zip(rows, self.peaks(rows, kind, snr)):
            clip, length = self.tokens.corpus.clip(int(row)), table.end.iat[row] - table.start.iat[row]
            other = noise(f"pause {rng.integers(1 << 30)}", clip, length) - clip
            found.append((spectrum_of(torch.from_numpy(other)).abs() / peak).square().mean(1).numpy())
        return np.array(found)

    def _made(self, rows: np.ndarray, kind: str, snr: int) -> list[tuple[torch.Tensor, float]]:
        def make(missing):
            noise = self.noise(kind, snr)
            tokens = self.tokens.corpus.take(missing)
            made = batches(tokens, noise, batch=len(missing), observation=self.tokens.observation)
            pictures, levels = next(made)
            return list(zip(pictures, levels.tolist()))

        return self._cached((kind, snr), rows, make)

    def _cached(self, key: tuple, rows: np.ndarray, make: Callable) -> list:
        done = self._cache.setdefault(key, {})
        if missing := [row for row in rows if row not in done]:
            done.update(zip(missing, make(missing)))
        return [done[row] for row in rows]


def denoising(
    tokens: Tokens, folds: list[Fold], noise_flow: Glow | None, vae: VAE | None, protocol: Protocol, seed: int
) -> dict:
    """Decrease in dB of the log-spectral distance to clean pictures, at steps chosen on fit speakers."""
    noisy = Noisy(tokens, seed)
    parts = [(fold, *parts_of(tokens, fold, protocol, seed)) for fold in folds]
    evaluated, curves, chosen = [], [], []
    middle = min(protocol.snrs, key=lambda snr: abs(snr - 10))
    for fold, fit, tuning, evaluation in parts:
        for snr in protocol.snrs:
            methods = methods_of(noisy, fold, fit, TRAINED, snr, noise_flow, vae)
            curve = scores(noisy, tuning, methods, TRAINED, snr, protocol.betas)
            best = curve.groupby(["method", "beta"]).gain.mean().unstack().idxmax(axis=1)
            chosen += [{"method": name, "snr": snr, "beta": beta} for name, beta in best.items()]
            curves.append(curve)
            for kind in (TRAINED, *OTHERS) if snr == middle else (TRAINED,):
                evaluated.append(scores(noisy, evaluation, methods, kind, snr, best.to_dict(), True))
    table = pd.concat(evaluated, ignore_index=True)
    null, as_well = _shuffles(noisy, parts, protocol)
    curves = pd.concat(curves).groupby(["method", "snr", "beta"]).gain.mean()
    means = table.groupby(["noise", "snr", "method"])[list(MEASURES)].mean()
    betas = pd.DataFrame(chosen).groupby(["method", "snr"]).beta.mean()
    numbers = {"table": means, "curves": curves, "chosen": betas}
    numbers = {name: part.reset_index().to_dict("records") for name, part in numbers.items()}
    comparisons = _comparisons(table, {"rank": as_well, "shuffles": protocol.shuffles})
    return {"comparisons": comparisons, "null": null, "numbers": numbers}


def _comparisons(table: pd.DataFrame, shuffles: dict) -> list[Comparison]:
    metric = "gain in log-spectral distance, dB"
    n = int(table[table.noise == TRAINED].token.nunique())

    def comparison(part, noise, own="flow", **more):
        rows = table[table.noise == noise]
        values = rows.pivot_table(index="speaker", columns="method", values="gain", aggfunc="mean")
        values["no move"] = 0.0
        kinds = {name: kind for name, kind in (NULLS | SIMPLES).items() if name in values}
        return Comparison("denoising", part, metric, 0.5, values[[own, *kinds]], kinds, n, **more)

    found = [
        comparison("white noise, all levels", TRAINED, primary=True, **shuffles),
        comparison("white noise, top code", TRAINED, "top code", code="top"),
    ]
    if (table.method == "noise-trained flow").any():
        part = "white noise, a flow that was trained with it"
        found.append(comparison(part, TRAINED, "noise-trained flow"))
    return found + [comparison(f"{kind} noise, 10 dB", kind) for kind in OTHERS]


def parts_of(
    tokens: Tokens, fold: Fold, protocol: Protocol, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of fit speakers to estimate displacements and to choose steps, and rows to evaluate."""
    people = sorted(tokens.table.speaker.iloc[fold.fit].unique())
    for_choice = people[::4]
    others = tokens.rows(fold.fit, speaker=[name for name in people if name not in for_choice])
    fit = tokens.draw(others, protocol.moved, ("speaker", "phone"), seed)
    tuning = tokens.draw(tokens.rows(fold.fit, speaker=for_choice), protocol.moved, ("speaker",), seed)
    rows = tokens.rows(fold.evaluation, scored=True)
    return fit, tuning, tokens.draw(rows, 2 * protocol.moved, ("speaker",), seed)


def methods_of(
    noisy: Noisy, fold: Fold, fit: np.ndarray, kind: str, snr: int, noise_flow: Glow | None = None,
    vae: VAE | None = None,
) -> dict:  # fmt: skip
    """Methods by name: functions of (rows, kind of noise, SNR, beta) that return denoised pictures.

    In codes and in pixels they are z - beta xi, where xi is the mean displacement from clean to noisy ``fit``
    tokens.
    """
    tokens, seed = noisy.tokens, noisy.seed
    signs = np.random.default_rng([seed, snr]).choice([-1.0, 1.0], len(tokens))[fit]
    flip = torch.from_numpy(signs).float()[:, None]
    flows, found = {"flow": fold.flow}, {}
    if noise_flow is not None:
        flows["noise-trained flow"] = noise_flow
    for name, flow in flows.items():
        clean, after = codes_of(flow, tokens, seed)[fit], noisy.codes(flow, fit, kind, snr)
        xi, subtract = direction(clean, after), partial(_subtract, noisy, flow_method(flow))
        found[name] = partial(subtract, xi)
        if name == "flow":
            found["top code"] = partial(_subtract, noisy, top_method(flow), xi)
            found["random direction"] = partial(subtract, random_direction(xi, seed))
            found["shuffled labels"] = partial(subtract, (flip * (after - clean)).mean(0, keepdim=True))
    for method in [picture_method(tokens.observation.shape), *([vae_method(vae)] if vae else [])]:
        pictures = tokens.pictures[fit], noisy.pictures(fit, kind, snr)
        xi = direction(*(method.encode(one, seed) for one in pictures))
        found[method.name] = partial(_subtract, noisy, method, xi)
    found["spectral subtraction"] = partial(_filter, noisy, spectral_subtraction)
    found["Wiener filter"] = partial(_filter, noisy, wiener)
    return found


def _subtract(noisy: Noisy, method, xi: torch.Tensor, rows, kind: str, snr: int, beta: float) -> torch.Tensor:
    if method.flow is not None:
        start = noisy.codes(method.flow, rows, kind, snr)
    else:
        start = method.encode(noisy.pictures(rows, kind, snr), noisy.seed)
    return method.moved(start, xi, -beta)


def _filter(noisy: Noisy, enhance: Callable, rows, kind: str, snr: int, beta: float) -> torch.Tensor:
    pictures, tokens = noisy.pictures(rows, kind, snr), noisy.tokens
    hop = 1000 * tokens.samples[rows] / RATE / tokens.frames[rows]
    return torch.lerp(pictures, enhance(pictures, noisy.power(rows, kind, snr), hop), beta)


def scores(
    noisy: Noisy, rows: np.ndarray, methods: dict, kind: str, snr: int, betas, all_measures: bool = False
) -> pd.DataFrame:
    """Gain of each token by each method, at each of ``betas``.

    With ``all_measures``, ``betas`` has one beta for each method, and the table has all ``MEASURES``.
    """
    tokens = noisy.tokens
    clean, frames = tokens.pictures[rows], tokens.frames[rows]
    start = noisy.pictures(rows, kind, snr)
    before = measures.log_spectral_distance(start, clean, frames)
    found = []
    for name, method in methods.items():
        for beta in [betas[name]] if all_measures else betas:
            pictures = start if beta == 0 else method(rows, kind, snr, beta)
            part = {"gain": before - measures.log_spectral_distance(pictures, clean, frames)}
            if all_measures:
                part |= _other_measures(noisy, rows, pictures, kind, snr)
            found.append(pd.DataFrame(part | {
                "method": name, "noise": kind, "snr": snr, "beta": beta, "token": rows,
                "speaker": tokens.table.speaker.to_numpy()[rows],
            }))  # fmt: skip
    return pd.concat(found, ignore_index=True)


def _other_measures(noisy: Noisy, rows: np.ndarray, pictures: torch.Tensor, kind: str, snr: int) -> dict:
    """Gains in dB in mel-cepstral distortion, and in segmental SNR of sounds with the noisy phase."""
    tokens, start = noisy.tokens, noisy.pictures(rows, kind, snr)
    clean, frames = tokens.pictures[rows], tokens.frames[rows]

    def sounds(magnitudes, angles, levels):
        return [tokens.sound(*one) for one in zip(magnitudes, rows, angles, levels)]

    levels = peaks(tokens.corpus.take(rows), tokens.observation).tolist()
    truth = sounds(clean, noisy.phases(rows, None, None), levels)
    phase, level = noisy.phases(rows, kind, snr), noisy.peaks(rows, kind, snr)
    snrs = [measures.segmental_snr(sounds(one, phase, level), truth) for one in (start, pictures)]
    cepstral = [measures.mel_cepstral_distortion(one, clean, frames) for one in (start, pictures)]
    return {"segmental_snr": snrs[1] - snrs[0], "mel_cepstral": cepstral[0] - cepstral[1]}


def _shuffles(noisy: Noisy, parts: list[tuple], protocol: Protocol) -> tuple[dict, float]:
    """False positives over label shuffles, and the share of shuffles that do as well as the true labels.

    A shuffle decides at random, for each fit token, which of its two codes is called the noisy one. The
    statistic is the gain of a whole step (beta = 1) at the lowest SNR, for one token of each evaluation
    speaker.
    """
    tokens, seed = noisy.tokens, noisy.seed
    snr, rng = min(protocol.snrs), np.random.default_rng([seed, 17])
    gains, plans = [], []
    for fold, fit, _, evaluation in parts:
        rows = tokens.draw(evaluation, 1, ("speaker",), seed)
        if len(rows):
            each = noisy.codes(fold.flow, fit, TRAINED, snr) - codes_of(fold.flow, tokens, seed)[fit]
            plans.append((fold.flow, fit, each, rows, noisy.codes(fold.flow, rows, TRAINED, snr)))
    rows = np.concatenate([plan[3] for plan in plans])
    clean, frames = tokens.pictures[rows], tokens.frames[rows]
    before = measures.log_spectral_distance(noisy.pictures(rows, TRAINED, snr), clean, frames)
    for shuffle in range(protocol.shuffles + 1):
        coins = rng.choice([-1.0, 1.0], len(tokens)) if shuffle else np.ones(len(tokens))
        moved = []
        for flow, fit, each, _, start in plans:
            signs = torch.from_numpy(coins[fit]).float()[:, None]
            moved.append((flow, start - (signs * each).mean(0, keepdim=True)))
        gains.append(before - measures.log_spectral_distance(decode_folds(moved), clean, frames))
    return shuffle_test(gains)
