import librosa
import numpy as np
import pytest
import torch

from vowelflow import spectrogram as sp
from vowelflow.corpus import InputError


@pytest.fixture(scope="module")
def few(klatt):
    return klatt.draw(1, by=("phone", "sex"))


@pytest.fixture(scope="module")
def made(few):
    return sp.images(few), sp.phases(few), sp.peaks(few), sp.frame_count(few)


def test_pictures_are_decibels_below_the_peak_and_padding_is_silence(few, made):
    pictures, _, _, frames = made
    assert pictures.shape == (10, 1, 288, 288) and pictures.dtype == torch.float32
    assert pictures.amax((1, 2, 3)).eq(1).all() and pictures.min() == 0
    assert (pictures[:, :, sp.BINS :] == 0).all()
    for picture, count in zip(pictures, frames, strict=True):
        assert (picture[..., count:] == 0).all() and (picture[0, : sp.BINS, count - 1] > 0).any()
    assert (frames == np.ceil((few.table.end - few.table.start) / 16)).all()


def test_spectrum_equals_librosa_on_the_recording_around_the_segment(few):
    row = few.table.iloc[3]
    sound = few.read_sound(row.path)
    ours = next(sp.spectra(few.take([3])))[0][0].numpy()
    theirs = librosa.stft(sound[row.start + 8 - 256 :], n_fft=512, hop_length=16, win_length=400, center=False)
    count = sp.frame_count(few)[3]
    assert np.abs(ours[:, :count] - theirs[:, :count]).max() < 1e-4 * np.abs(theirs).max()


def test_true_phase_gives_the_segment_back(few, made):
    pictures, phases, peaks, frames = made
    for k, row in enumerate(few.table.itertuples()):
        original = few.read_sound(row.path)[row.start : row.end]
        back = sp.to_audio(pictures[k], phases[k], peaks[k], frames[k])
        assert len(back) == 16 * frames[k]
        error = np.sum((back[: len(original)] - original) ** 2) / np.sum(original**2)
        assert 10 * np.log10(error) < -60


def test_griffin_lim_fits_the_magnitudes_and_repeats(made):
    pictures, _, peaks, frames = made
    wave = sp.griffin_lim(pictures[0], peaks[0], frames=frames[0])
    assert len(wave) == 16 * frames[0] and np.isfinite(wave).all() and np.abs(wave).max() > 1e-3
    assert (wave == sp.griffin_lim(pictures[0], peaks[0], frames=frames[0])).all()
    wanted = sp.magnitude(pictures[0, 0], peaks[0])[:, 20:40].numpy()
    got = np.abs(librosa.stft(wave[20 * 16 + 8 - 256 :], n_fft=512, hop_length=16, win_length=400, center=False))[
        :, :20
    ]
    assert np.linalg.norm(got - wanted) < 0.35 * np.linalg.norm(wanted)


def test_a_segment_at_the_edge_of_its_recording_is_padded_with_zeros(few):
    edge = few.take([0])
    edge.table["start"], edge.table["end"] = 0, 1600
    assert torch.isfinite(sp.images(edge)).all() and sp.frame_count(edge)[0] == 100


def test_no_segment_is_refused(few):
    with pytest.raises(InputError, match="no segment of klatt is left"):
        sp.images(few.take([]))


def test_silence_is_an_empty_picture(few):
    import dataclasses

    hush = dataclasses.replace(few.take([0]), read_sound=lambda path: np.zeros(16_000, np.float32))
    assert (sp.images(hush) == 0).all() and (sp.peaks(hush) == 0).all()
    assert (sp.to_audio(sp.images(hush)[0], torch.zeros(257, 288)) == 0).all()


@pytest.mark.parametrize("snr", [20, 0])
def test_noise_is_added_at_its_ratio_and_pairs_up(few, snr):
    noise = sp.add_noise(snr, seed=4)
    row = few.table.iloc[2]
    length = row.end - row.start
    clean = few.read_sound(row.path)[row.start - sp.LEAD :][: sp.EXCERPT]
    clean = np.pad(clean, (0, sp.EXCERPT - len(clean)))
    added = noise("one", clean, length) - clean
    inside = slice(sp.LEAD, sp.LEAD + length)
    assert 10 * np.log10(np.mean(clean[inside] ** 2) / np.mean(added**2)) == pytest.approx(snr, abs=0.3)
    assert np.array_equal(noise("one", clean, length), sp.add_noise(snr, seed=4)("one", clean, length))
    assert not np.array_equal(noise("one", clean, length), noise("two", clean, length))
    assert torch.equal(sp.images(few, noise)[[2, 0]], sp.images(few.take([2, 0]), noise))
    assert not torch.equal(sp.images(few, noise), sp.images(few))


def test_quantize_has_256_levels():
    x = torch.tensor([0.0, 1 / 256, 0.999 / 256, 0.5, 1.0])
    assert sp.quantize(x).tolist() == [0, 1, 0, 128, 255]


def test_a_picture_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"288x288, frequency x time, not \(257, 288\)"):
        sp.to_audio(torch.zeros(257, 288), torch.zeros(257, 288))
