"""Section 4.5: noise goes along minus the displacement from clean to noisy codes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from .. import judges
from ..baselines import spectral_subtraction, wiener
from ..evidence import Bench, Round
from ..findings import Contest
from ..latent import random_direction
from ..spaces import flow_space, picture_space, top_space
from ..spectrogram import add_noise, batches, peaks, phases, spectrum_of, to_audio
from .nulls import calibrated, rank

SEEN, UNSEEN = "white", ("pink", "babble")


def noise_of(bench: Bench, kind: str, snr: int):
    """A noise for ``images`` and ``phases``, keyed by segment: white, pink, or four voices of the corpus at once."""
    source = bench.tokens if kind == "babble" else None
    return add_noise(snr, bench.seed, kind, source)


def noise_power(bench: Bench, rows: np.ndarray, kind: str, snr: int) -> np.ndarray:
    """Mean power of each token's noise in each bin ``(n, 257)``, relative to the peak of the noisy picture.

    Another draw of the noise at the same level: what a listener to the pause before a vowel would know.
    """
    rng, noisy, found = np.random.default_rng([bench.seed, 5]), noise_of(bench, kind, snr), []
    for row, (_, peak) in zip(rows, _noisy(bench, rows, kind, snr)):
        clip = bench.tokens.clip(int(row))
        length = bench.table.end.iat[row] - bench.table.start.iat[row]
        other = noisy(f"pause {rng.integers(1 << 30)}", clip, length) - clip
        found.append((spectrum_of(torch.from_numpy(other)).abs() / peak).square().mean(1).numpy())
    return np.array(found)


def denoising(bench: Bench) -> dict:
    """How much nearer the clean picture a noisy one comes, dB of log-spectral distance, at steps chosen on known speakers."""
    rows = [(one, *parts_of(bench, one)) for one in bench.rounds]
    found, curves, chosen = [], [], []
    for one, fitted, tuned, tried in rows:
        for snr in bench.depth.snrs:
            methods = methods_of(bench, one, fitted, SEEN, snr)
            tuning = _curve(bench, tuned, methods, SEEN, snr, bench.depth.betas)
            best = tuning.groupby(["contestant", "beta"]).gain.mean().unstack().idxmax(axis=1)
            chosen += [{"contestant": name, "snr": snr, "beta": beta} for name, beta in best.items()]
            curves.append(tuning)
            for kind in (SEEN, *UNSEEN) if snr == min(bench.depth.snrs, key=lambda s: abs(s - 10)) else (SEEN,):
                found.append(_curve(bench, tried, methods, kind, snr, best.to_dict(), measure=True))
    table = pd.concat(found, ignore_index=True)
    seen = table[table.noise == SEEN]
    values = seen.pivot_table(index="speaker", columns="contestant", values="gain", aggfunc="mean")
    kinds = {
        "untrained flow": "untrained", "random direction": "null", "shuffled labels": "null", "pictures": "simple",
        "spectral subtraction": "simple", "Wiener filter": "simple",
    }  # fmt: skip
    metric = "gain in log-spectral distance, dB"
    null, as_well = _null(bench, rows)
    shuffles = {"rank": as_well, "shuffles": bench.depth.shuffles}
    n = int(seen.token.nunique())
    tests = [
        Contest(
            "denoising",
            "white noise, all levels",
            metric,
            0.5,
            values[["flow", *kinds]],
            kinds,
            n,
            primary=True,
            **shuffles,
        ),
        Contest("denoising", "white noise, top code", metric, 0.5, values[["top code", *kinds]], kinds, n, code="top"),
    ]
    if "noise-trained flow" in values:
        tests.append(
            Contest(
                "denoising",
                "white noise, a flow that was trained with it",
                metric,
                0.5,
                values[["noise-trained flow", *kinds]],
                kinds,
                n,
            )
        )
    for kind in UNSEEN:
        part = table[table.noise == kind].pivot_table(
            index="speaker", columns="contestant", values="gain", aggfunc="mean"
        )
        tests.append(Contest("denoising", f"{kind} noise, 10 dB", metric, 0.5, part[["flow", *kinds]], kinds, n))
    measures = ["gain", "segmental_snr", "mel_cepstral"]
    tuning = pd.concat(curves).groupby(["contestant", "snr", "beta"]).gain.mean().reset_index()
    return {"tests": tests, "null": null, "numbers": {
        "table": table.groupby(["noise", "snr", "contestant"])[measures].mean().reset_index().to_dict("records"),
        "curves": tuning.to_dict("records"),
        "chosen": pd.DataFrame(chosen).groupby(["contestant", "snr"]).beta.mean().reset_index().to_dict("records"),
    }}  # fmt: skip


def parts_of(bench: Bench, one: Round) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens to estimate displacements from and to choose steps on, both of known speakers, and those to try on."""
    people = sorted(bench.table.speaker.iloc[one.known].unique())
    for_choice = people[::4]
    fitted = bench.some(
        bench.rows(one.known, speaker=[p for p in people if p not in for_choice]),
        bench.depth.moved,
        ("speaker", "phone"),
    )
    tuned = bench.some(bench.rows(one.known, speaker=for_choice), bench.depth.moved, ("speaker",))
    tried = bench.some(bench.rows(one.unseen, tests=True), 2 * bench.depth.moved, ("speaker",))
    return fitted, tuned, tried


def noisy_pictures(bench: Bench, rows: np.ndarray, kind: str, snr: int) -> torch.Tensor:
    """Noisy pictures of tokens ``(n, 1, 288, 288)``."""
    return torch.stack([picture for picture, _ in _noisy(bench, rows, kind, snr)])


def _noisy(bench: Bench, rows: np.ndarray, kind: str, snr: int) -> list[tuple[torch.Tensor, float]]:
    """Noisy pictures of tokens and their peaks."""

    def make(some):
        pictures, levels = next(batches(bench.tokens.take(some), noise_of(bench, kind, snr), batch=len(some)))
        return list(zip(pictures, levels.tolist()))

    return bench.kept(("noisy", kind, snr), rows, make)


def _encoded(bench: Bench, model, rows: np.ndarray, kind: str, snr: int) -> torch.Tensor:
    """Codes of noisy tokens; each is encoded once."""

    def make(some):
        return model.encode(noisy_pictures(bench, some, kind, snr), bench.seed).flat

    return torch.stack(bench.kept(("code", id(model), kind, snr), rows, make))


def methods_of(bench: Bench, one: Round, fitted: np.ndarray, kind: str, snr: int) -> dict:
    """What takes noisy tokens and a step, and gives pictures."""
    signs = np.random.default_rng([bench.seed, snr]).choice([-1.0, 1.0], len(bench.tokens))[fitted]
    flip = torch.from_numpy(signs).float()[:, None]

    def along(space, model, change):
        def method(rows, noise, level, beta):
            start = (
                _encoded(bench, model, rows, noise, level)
                if model
                else space.into(noisy_pictures(bench, rows, noise, level), bench.seed)
            )
            return space.moved(start, change, -beta)

        return method

    found = {}
    models = {"flow": one.model, "untrained flow": one.untrained}
    if "noise" in bench.extra:
        models["noise-trained flow"] = bench.extra["noise"]
    for name, model in models.items():
        each = _encoded(bench, model, fitted, kind, snr) - bench.codes(model)[fitted]
        found[name] = along(flow_space(model), model, each.mean(0, keepdim=True))
        if name == "flow":
            mean = each.mean(0, keepdim=True)
            found["top code"] = along(top_space(model), model, mean)
            found["random direction"] = along(flow_space(model), model, random_direction(mean, bench.seed))
            found["shuffled labels"] = along(flow_space(model), model, (flip * each).mean(0, keepdim=True))
    shift = (noisy_pictures(bench, fitted, kind, snr) - bench.pictures[fitted]).mean(0).flatten()[None]
    found["pictures"] = along(picture_space(), None, shift)
    for name, enhance in (("spectral subtraction", spectral_subtraction), ("Wiener filter", wiener)):

        def enhanced(rows, noise, level, beta, enhance=enhance):
            noisy = noisy_pictures(bench, rows, noise, level)
            return torch.lerp(noisy, enhance(noisy, noise_power(bench, rows, noise, level)), beta)

        found[name] = enhanced
    return found


def _curve(
    bench: Bench, rows: np.ndarray, methods: dict, kind: str, snr: int, betas, measure: bool = False
) -> pd.DataFrame:
    """Gain of each token by each method at each beta, or at the method's own; with what a listener would hear if ``measure``."""
    clean, frames = bench.pictures[rows], bench.frames[rows]
    noisy = noisy_pictures(bench, rows, kind, snr)
    before = judges.log_spectral_distance(noisy, clean, frames)
    found = []
    for name, method in methods.items():
        for beta in [betas[name]] if measure else betas:
            pictures = noisy if beta == 0 else method(rows, kind, snr, beta)
            part = {"gain": before - judges.log_spectral_distance(pictures, clean, frames)}
            if measure:
                part |= _heard(bench, rows, pictures, noisy, kind, snr)
            found.append(pd.DataFrame(part | {
                "contestant": name, "noise": kind, "snr": snr, "beta": beta, "token": rows,
                "speaker": bench.table.speaker.to_numpy()[rows],
            }))  # fmt: skip
    return pd.concat(found, ignore_index=True)


def _heard(bench: Bench, rows, pictures, noisy, kind: str, snr: int) -> dict:
    """Gains in mel-cepstral distortion, and in segmental SNR of sounds with the noisy phase, dB."""
    clean, frames = bench.pictures[rows], bench.frames[rows]
    tokens = bench.tokens.take(rows)
    phase, own = (_phases(bench, rows, *which) for which in ((kind, snr), (None, None)))
    own_level, noisy_level = peaks(tokens).tolist(), [peak for _, peak in _noisy(bench, rows, kind, snr)]

    def sounds(some, angle, loud):
        return [to_audio(*one[:3], frames=int(one[3])) for one in zip(some, angle, loud, frames)]

    truth = sounds(clean, own, own_level)
    snrs = [judges.segmental_snr(sounds(some, phase, noisy_level), truth) for some in (noisy, pictures)]
    cepstral = [judges.mel_cepstral_distortion(some, clean, frames) for some in (noisy, pictures)]
    return {"segmental_snr": snrs[1] - snrs[0], "mel_cepstral": cepstral[0] - cepstral[1]}


def _phases(bench: Bench, rows, kind, snr) -> torch.Tensor:
    def make(some):
        return phases(bench.tokens.take(some), None if kind is None else noise_of(bench, kind, snr))

    return torch.stack(bench.kept(("phase", kind, snr), rows, make))


def _null(bench: Bench, rows) -> tuple[dict, float]:
    """False positives when a coin says for every fitted token which of its two codes is the noisy one; and how many do as well.

    One token of each unseen speaker, at the lowest SNR: how much nearer the clean picture a whole step takes it.
    """
    snr, rng, gains = min(bench.depth.snrs), np.random.default_rng([bench.seed, 17]), []
    plans = []
    for one, fitted, _, tried in rows:
        few = bench.some(tried, 1, ("speaker",))
        if len(few):
            each = _encoded(bench, one.model, fitted, SEEN, snr) - bench.codes(one.model)[fitted]
            plans.append((one, fitted, each, few, _encoded(bench, one.model, few, SEEN, snr)))
    tokens = np.concatenate([few for _, _, _, few, _ in plans])
    clean, frames = bench.pictures[tokens], bench.frames[tokens]
    before = judges.log_spectral_distance(noisy_pictures(bench, tokens, SEEN, snr), clean, frames)
    for shuffle in range(bench.depth.shuffles + 1):
        coins = rng.choice([-1.0, 1.0], len(bench.tokens)) if shuffle else np.ones(len(bench.tokens))
        ends: dict = {}
        for one, fitted, each, _, start in plans:
            signs = torch.from_numpy(coins[fitted]).float()[:, None]
            ends.setdefault(one.model, []).append(start - (signs * each).mean(0, keepdim=True))
        # flows are met in the order of their rounds, so pictures come in the order of plans
        pictures = torch.cat([model.decode(torch.cat(parts)) for model, parts in ends.items()])
        gains.append(before - judges.log_spectral_distance(pictures, clean, frames))
    return calibrated(gains[1:]), rank(gains[0].mean(), [one.mean() for one in gains[1:]])
