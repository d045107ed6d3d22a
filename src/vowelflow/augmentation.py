"""Augmentation: segments and a profile -> the varied, dequantized pictures of a training step."""

from __future__ import annotations

import numpy as np
import torch

from .base import HOP, RATE, frames_in
from .corpus import Corpus
from .noise import add_noise
from .profiles import Profile
from .spectrogram import faster, pictures_of, quantize, vowel_pictures


def training_batch(speech: Corpus, profile: Profile, seed: int, step: int, fabric=None) -> torch.Tensor:
    """The dequantized pictures of a step ``(batch, 1, side, frames)``, or this device's share of them.

    Random numbers are drawn for the whole batch, so the number of devices does not change them.
    """
    rows, observation = rows_of_step(len(speech), profile.batch, seed, step), profile.observation
    rng = np.random.default_rng([seed, step, 1])
    samples = (speech.table.end - speech.table.start).to_numpy()[rows]
    noisy, ratios = rng.random(len(rows)) < 0.5, rng.uniform(*(profile.noise_db or (0, 0)), len(rows))
    rank, ranks, device = (fabric.global_rank, fabric.world_size, fabric.device) if fabric else (0, 1, "cpu")
    share = np.arange(len(rows)).reshape(ranks, -1)[rank]
    clips = speech.clips([rows[place] for place in share])
    for k, place in enumerate(share):
        if profile.noise_db and noisy[place]:
            clips[k] = add_noise(ratios[place], seed)(f"{step} {place}", clips[k], samples[place])
    augmented = _vowel_pictures if observation.even else _padded_pictures
    pictures = augmented(clips, samples, share, profile, rng, device)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    noise = torch.rand(len(rows), 1, *observation.shape, generator=generator)
    return (quantize(pictures) + noise[share].to(device)) / 256


def _vowel_pictures(clips, samples, share, profile: Profile, rng, device) -> torch.Tensor:
    """``VOWEL`` pictures: both ends of a segment moved inwards, speech up to ``speed`` faster or slower."""
    most = np.minimum(samples // 5, samples - profile.observation.shortest).clip(
        max=profile.trim * RATE // 1000
    )
    starts, ends = rng.integers(0, most, endpoint=True), rng.integers(0, most // 2, endpoint=True)
    ffts = faster(profile.speed, len(samples), rng)
    waves = [torch.from_numpy(clip).to(device) for clip in clips]
    return vowel_pictures(waves, starts[share], (samples - starts - ends)[share], ffts[share])[0]


def _padded_pictures(clips, samples, share, profile: Profile, rng, device) -> torch.Tensor:
    """Padded pictures of segments that end earlier."""
    counts = frames_in(samples)
    rng.random(len(samples))  # not used; without it, trained flows would have been trained differently
    trims = rng.integers(0, np.minimum(counts - 1, profile.trim), endpoint=True)
    lengths = [len(clip) - HOP * trim for clip, trim in zip(clips, trims[share])]
    waves = [torch.from_numpy(clip[:length]).to(device) for clip, length in zip(clips, lengths)]
    return pictures_of(waves)[0]


def rows_of_step(count: int, batch: int, seed: int, step: int) -> list[int]:
    """The rows of a step's pictures among ``count``: the next ``batch`` in a sequence of shuffled epochs."""
    places = np.arange(step * batch, (step + 1) * batch)
    epochs = places // count
    order = {epoch: np.random.default_rng([seed, int(epoch)]).permutation(count) for epoch in set(epochs)}
    return [int(order[epoch][place % count]) for epoch, place in zip(epochs, places, strict=True)]
