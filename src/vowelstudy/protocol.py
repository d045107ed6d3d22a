"""Protocols: how much of a corpus an experiment uses. The full one takes an hour, that of a study minutes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """How much of a corpus is used, at most."""

    name: str
    speakers: int  # of each sex and split, to evaluate
    tokens: int  # of each vowel of each speaker
    fit_tokens: int  # of each vowel and sex, if another corpus has the fit speakers
    moved: int  # tokens of each class of each speaker that are moved along a direction
    pairs: int  # of each kind of pair
    samples: int  # random codes, and real tokens that they are compared with
    draws: int  # of dequantization noise, over which mean codes are averaged; and passes of the test for Gaussian codes
    shuffles: int  # of labels
    fits: int  # of a discriminator
    steps: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)  # along a direction
    snrs: tuple[int, ...] = (20, 10, 5, 0)  # dB
    betas: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # the paper has 0 to 0.8


FULL = Protocol(
    "full", speakers=12, tokens=10, fit_tokens=400, moved=6, pairs=64, samples=400, draws=4, shuffles=200, fits=2,
)  # fmt: skip
STUDY = Protocol(
    "study", speakers=8, tokens=2, fit_tokens=40, moved=1, pairs=16, samples=64, draws=1, shuffles=20, fits=1,
    steps=(1.0, 2.0), snrs=(10, 0), betas=(0.0, 0.4, 0.8, 1.0),
)  # fmt: skip
SMOKE = Protocol(
    "smoke", speakers=2, tokens=1, fit_tokens=4, moved=1, pairs=2, samples=8, draws=1, shuffles=2, fits=1,
    steps=(1.0,), snrs=(10,), betas=(0.0, 0.5),
)  # fmt: skip
PROTOCOLS = {protocol.name: protocol for protocol in (FULL, STUDY, SMOKE)}
