"""Depths: how much of a corpus the claims are tried on; the whole protocol, a study of minutes, and a smoke test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Depth:
    """How much of a corpus is looked at."""

    name: str
    speakers: int  # of each sex and split, at most
    tokens: int  # of each vowel of each speaker
    moved: int  # tokens of each class of each speaker that walk along a direction
    pairs: int  # of each kind of pair
    samples: int  # random codes
    draws: int  # of dequantization noise, which means of codes are freed from; and passes of the test of Gaussian codes
    shuffles: int  # of labels
    steps: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)  # along a direction
    snrs: tuple[int, ...] = (20, 10, 5, 0)  # dB
    betas: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # the paper has 0 to 0.8


FULL = Depth("full", speakers=12, tokens=10, moved=3, pairs=112, samples=512, draws=16, shuffles=200)
STUDY = Depth(
    "study", speakers=6, tokens=2, moved=1, pairs=12, samples=64, draws=2, shuffles=20,
    steps=(1.0, 2.0), snrs=(10, 0), betas=(0.0, 0.4, 0.8, 1.0),
)  # fmt: skip
SMOKE = Depth(
    "smoke", speakers=2, tokens=1, moved=1, pairs=2, samples=4, draws=1, shuffles=2,
    steps=(1.0,), snrs=(10,), betas=(0.0, 0.5),
)  # fmt: skip
DEPTHS = {depth.name: depth for depth in (FULL, STUDY, SMOKE)}
