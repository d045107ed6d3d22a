import numpy as np
import pytest
import torch
from scipy import stats

from vowelflow.spectrogram import frame_count, images
from vowelstudy import measures


def test_formants_are_those_the_synthesizer_was_given(klatt):
    errors = {name: [] for name in ("f0", "f1", "f2")}
    some = klatt.filter(phone=["aa", "uh"])
    for place, row in enumerate(some.table.itertuples()):
        found = measures.formants(some.sound(place), row.sex)
        for name in errors:
            errors[name].append(abs(found[name] / getattr(row, name) - 1))
    assert np.nanmedian(errors["f0"]) < 0.02
    assert np.nanmedian(errors["f1"]) < 0.08 and np.nanmedian(errors["f2"]) < 0.05


def test_vowel_space_measures_so_many_of_each_vowel_and_sex(klatt):
    measured = measures.vowel_space(klatt, per_group=3)
    assert (measured.groupby(["phone", "sex"]).size() == 3).all() and len(measured) == 30
    middle = measured.groupby("phone")[["f1", "f2"]].median()
    assert middle.f2.idxmax() == "iy" and middle.f1.idxmax() == "aa" and middle.f2.idxmin() == "ow"


def test_a_round_trip_loses_what_it_must_and_griffin_lim_only_the_phase(klatt):
    trips = [measures.round_trip(klatt, row) for row in range(0, len(klatt), 8)]
    assert max(trip["float"] for trip in trips) < -60
    assert max(trip["eight_bit"] for trip in trips) < -45 < min(trip["eight_bit"] for trip in trips) + 30
    distance = measures.griffin_lim_distance(klatt, 3)
    assert distance["error_db"] > -20 and 0 < distance["spectral_db"] < 6
    assert measures.error_db(np.ones(4), np.full(6, 1.1)) == pytest.approx(-20)


def test_silence_has_no_pitch():
    assert np.isnan(measures.formants(np.zeros(1600), "f")["f0"])


def test_log_spectral_distance_is_in_db_and_leaves_padding_out(klatt):
    few = klatt.take([0, 1])
    pictures, frames = images(few, observation="padded"), frame_count(few)
    assert measures.log_spectral_distance(pictures, pictures, frames).tolist() == [0, 0]
    shifted = pictures.clone() * 0 + 0.5
    assert measures.log_spectral_distance(shifted + 0.1, shifted, frames) == pytest.approx([8, 8], abs=1e-3)
    tail = pictures.clone()
    tail[0, ..., frames[0] :] = 1
    assert measures.log_spectral_distance(tail, pictures, frames)[0] == 0


def test_normality_tells_normal_draws_from_uniform_ones():
    rng = np.random.default_rng(0)
    normal = measures.normality(rng.standard_normal((200, 60))).median()
    uniform = measures.normality(rng.random((200, 60))).median()
    assert normal.ks < 0.05 < uniform.ks and abs(normal["kurtosis"]) < 0.25
    assert uniform["kurtosis"] == pytest.approx(-1.2, abs=0.15)
    skewed = measures.normality(rng.exponential(size=(500, 9))).median()
    assert skewed["skew"] == pytest.approx(2, abs=0.5)
    draws = rng.standard_normal((50, 4))
    assert np.allclose(measures.normality(draws), measures.normality(0.01 * draws + 3))


def test_two_sample_auc():
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(10), 30)
    same, shifted = rng.standard_normal((2, 300, 4)), rng.standard_normal((300, 4)) + [2, 0, 0, 0]
    areas = measures.two_sample_auc(same[0], same[1], groups)
    assert list(areas.index) == list(range(10)) and areas.mean() == pytest.approx(0.5, abs=0.08)
    assert measures.two_sample_auc(shifted, same[1], groups).min() > 0.75


def test_patch_features_of_noise_and_of_structure():
    noise = [np.random.default_rng(0).standard_normal((20, *shape)) for shape in ((2, 64, 64), (16, 9, 3))]
    found = measures.patch_features(noise, 4, seed=1)
    assert found.shape == (80, 7) and np.isfinite(found).all()
    assert found.mean(0) == pytest.approx([0, 1, 0, 2.9, 2.5, 0, 0], abs=0.15)
    assert np.array_equal(found, measures.patch_features(noise, 4, seed=1))
    smooth = measures.patch_features([np.repeat(noise[0][..., ::2], 2, axis=-1)], 4)
    assert smooth[:, 5].mean() > 0.3 > abs(smooth[:, 6].mean())
    assert measures.patch_features([np.ones((2, 1, 4, 1))], 1)[:, 1:4].tolist() == [[0, 0, 0]] * 2


def test_span_keeps_distances():
    vectors = np.random.default_rng(0).standard_normal((7, 500))
    points = measures.span(vectors)
    assert points.shape == (7, 7) and points @ points.T == pytest.approx(vectors @ vectors.T)


def test_lda_finds_classes_of_new_points_and_separates_noise_only_where_it_was_fitted():
    noise = np.random.default_rng(0).standard_normal((160, 2000))
    labels = np.tile(["a", "b"], 80)
    signal = noise + 4 * np.where(labels == "a", 1, -1)[:, None] * (np.arange(2000) < 20) / 20**0.5

    def accuracy(vectors, rows):
        points = measures.span(vectors)
        return (
            measures.shrinkage_lda(points[:120], labels[:120]).predict(points[rows]) == labels[rows]
        ).mean()

    assert accuracy(signal, slice(120, None)) > 0.95
    assert accuracy(noise, slice(120)) > 0.95 and 0.25 < accuracy(noise, slice(120, None)) < 0.75


def test_sounding_frames(klatt):
    token = klatt.filter(phone="aa").take([0])
    picture, frames = images(token, observation="padded")[0], frame_count(token)[0]
    first, last = measures.sounding(picture)
    assert first < 8 and frames - 8 < last <= frames
    moved = picture.roll(50, -1)
    assert measures.sounding(moved) == (first + 50, last + 50)
    assert measures.sounding(picture * 0) == (0, 0)
    wild = picture.clone()
    wild[0, 0, 0] = 1e9
    assert measures.sounding(wild)[0] == 0
    assert measures.sounding(images(token)[0]) == (0, 96)


def picture(*formants, level=0.9, width=6):
    """A picture of 100 equal frames with a peak at each of the given bins."""
    bins = np.arange(288)[:, None]
    rows = sum(level * np.exp(-(((bins - one) / width) ** 2)) for one in formants) + 0.3
    shape = np.zeros((288, 288))
    shape[:257, :100] = rows[:257]
    return torch.from_numpy(shape).float()[None]


def test_a_valley_is_between_two_formants_and_not_where_one_is():
    hertz = 8000 / 256
    low, high = 30, 60
    assert measures.valley(picture(low, high), low * hertz, high * hertz) > 6
    assert measures.valley(picture((low * high) ** 0.5), low * hertz, high * hertz) < 0
    assert np.isnan(measures.valley(picture(low), float("nan"), 1000))


def test_mel_cepstral_distortion_is_that_of_smooth_envelopes_in_db():
    one = picture(40, width=20, level=0.5)
    tilt = torch.linspace(0, 0.1, 288)[:, None] * (one > 0)
    assert measures.mel_cepstral_distortion([one], [one], [100]) == [0]
    found = measures.mel_cepstral_distortion([(one + tilt).clamp(0, 1)], [one], [100])[0]
    assert 1 < found < 4  # a slope of 8 dB over 8 kHz has a deviation of 2.3 dB
    louder = measures.mel_cepstral_distortion([(one - 0.05).clamp(0, 1) * (one > 0)], [one], [100])
    assert louder[0] < 0.1  # level does not count


def test_segmental_snr_is_in_db_and_bounded():
    wave = np.sin(np.arange(3200) / 5)
    assert measures.segmental_snr([wave], [wave])[0] == 35
    assert measures.segmental_snr([wave * 1.1], [wave])[0] == pytest.approx(20, abs=0.01)
    assert measures.segmental_snr([wave * 10], [wave])[0] == -10


def test_patch_features_are_the_moments_that_scipy_has():
    draws = np.random.default_rng(0).gamma(2.0, size=(3, 1, 8, 8))  # a patch is all of it
    found = measures.patch_features([draws], 1)
    for row, patch in zip(found, draws):
        flat = patch.ravel()
        shape = stats.skew(flat), stats.kurtosis(flat, fisher=False)
        wanted = [flat.mean(), flat.std(), *shape, np.abs(flat).max()]
        assert row[:5] == pytest.approx(wanted)
        assert row[5] == pytest.approx(np.corrcoef(patch[0, :, :-1].ravel(), patch[0, :, 1:].ravel())[0, 1])
    assert measures.patch_features([np.ones((1, 1, 8, 8))], 1)[0, 2:].tolist() == [0, 0, 1, 0, 0]


def test_a_patch_has_64_numbers_whatever_its_field(monkeypatch):
    sizes = []
    monkeypatch.setattr(measures, "_neighbours", lambda patch, axis: sizes.append(patch.size) or 0.0)
    for shape in ((1, 1, 20, 20), (1, 80, 4, 4), (1, 2, 100, 1), (1, 30, 2, 1)):
        measures.patch_features([np.random.default_rng(0).standard_normal(shape)], 1)
    assert sizes[::2] == [64, 64, 64, 60]


def test_a_mel_cepstrum_has_as_many_numbers_as_it_says(klatt):
    assert measures.mel_cepstrum(images(klatt.take([0]))[0], slice(5, 9)).shape == (4, measures.CEPSTRUM)


@pytest.mark.parametrize("below", [10, 40])
def test_a_frame_sounds_down_to_so_many_db_below_the_loudest(below):
    picture = np.zeros((288, 288), dtype=np.float32)
    picture[3, 10:20] = 0.9
    edge = 0.9 - below / measures.FLOOR_DB
    picture[3, 20:25], picture[3, 25:30] = edge + 0.01, edge - 0.01
    assert measures.sounding(picture, below) == (10, 25)
