"""Protocols: how much of a corpus an experiment looks at. The full one takes hours, that of a study minutes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """How much of a corpus is used, at most."""

    name: str
    speakers: int  # of each sex and split
    tokens: int  # of each vowel of each speaker
    moved: int  # tokens of each class of each speaker that are moved along a direction
    pairs: int  # of each kind of pair
    samples: int  # random codes
    draws: int  # of dequantization noise, over which mean codes are averaged; and passes of the test for Gaussian codes
    shuffles: int  # of labels
    steps: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)  # along a direction
    snrs: tuple[int, ...] = (20, 10, 5, 0)  # dB
    betas: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # the paper has 0 to 0.8


FULL = Protocol("full", speakers=12, tokens=10, moved=3, pairs=112, samples=512, draws=16, shuffles=200)
STUDY = Protocol(
    "study", speakers=6, tokens=2, moved=1, pairs=12, samples=64, draws=2, shuffles=20,
    steps=(1.0, 2.0), snrs=(10, 0), betas=(0.0, 0.4, 0.8, 1.0),
)  # fmt: skip
SMOKE = Protocol(
    "smoke", speakers=2, tokens=1, moved=1, pairs=2, samples=4, draws=1, shuffles=2,
    steps=(1.0,), snrs=(10,), betas=(0.0, 0.5),
)  # fmt: skip
PROTOCOLS = {protocol.name: protocol for protocol in (FULL, STUDY, SMOKE)}
