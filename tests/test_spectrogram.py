from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from vowelflow import spectrogram as sp
from vowelflow.audio import griffin_lim, magnitude, phases_at, to_audio
from vowelflow.base import InputError
from vowelflow.noise import _one_voice, add_noise
from vowelstudy import measures


@pytest.fixture(scope="module")
def few(klatt):
    return klatt.draw(1, by=("phone", "sex"))


@pytest.fixture(scope="module")
def made(few):
    """Padded pictures."""
    parts = [make(few, observation="padded") for make in (sp.images, sp.phases, sp.peaks)]
    return *parts, sp.frame_count(few)


def test_pictures_are_decibels_below_the_peak_and_padding_is_silence(few, made):
    pictures, _, _, frames = made
    assert pictures.shape == (10, 1, 288, 288) and pictures.dtype == torch.float32
    assert pictures.amax((1, 2, 3)).eq(1).all() and pictures.min() == 0
    assert (pictures[:, :, sp.BINS :] == 0).all()
    for picture, count in zip(pictures, frames, strict=True):
        assert (picture[..., count:] == 0).all() and (picture[0, : sp.BINS, count - 1] > 0).any()
    assert (frames == np.ceil((few.table.end - few.table.start) / 16)).all()


def test_spectrum_equals_librosa_on_the_recording_around_the_segment(few, made):
    clip, count = few.clip(3), sp.frame_count(few)[3]
    assert len(clip) == 512 + 16 * (count - 1)
    theirs = librosa.stft(clip, n_fft=512, hop_length=16, win_length=400, center=False)
    decibels = librosa.amplitude_to_db(np.abs(theirs), ref=np.max, amin=1e-10, top_db=80)
    assert np.abs(made[0][3, 0, :257, :count].numpy() - (decibels / 80 + 1)).max() < 1e-4
    assert made[2][3] == pytest.approx(np.abs(theirs).max(), rel=1e-5)
    angle = np.angle(theirs * np.exp(-1j * made[1][3, :, :count].numpy()))
    assert np.abs(angle[np.abs(theirs) > 1e-3 * np.abs(theirs).max()]).max() < 1e-3


def error_db(few, k, picture, made):
    back = to_audio(picture, made[1][k], made[2][k], made[3][k])
    assert len(back) == 16 * made[3][k]
    return measures.error_db(few.sound(k), back)


def test_true_phase_gives_the_segment_back(few, made):
    assert max(error_db(few, k, made[0][k], made) for k in range(len(few))) < -60


def test_eight_bits_give_it_back_nearly(few, made):
    restored = sp.restore(sp.quantize(made[0]))
    assert ((restored > 0) == (made[0] >= 1 / 256)).all() and (restored - made[0]).abs().max() <= 1 / 256
    assert max(error_db(few, k, restored[k], made) for k in range(len(few))) < -45


def test_batches_stream_what_images_holds(few, made):
    parts = list(sp.batches(few, batch=4, observation="padded"))
    assert [len(pictures) for pictures, _ in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([pictures for pictures, _ in parts]), made[0])
    assert torch.equal(torch.cat([peaks for _, peaks in parts]), made[2])


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the memory of this process from /proc"
)
def test_streaming_needs_no_more_memory_for_more_segments(klatt):
    def anonymous_mb():
        return (
            next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
            / 1024
        )

    many = klatt.take(np.arange(2000) % len(klatt))
    stream = sp.batches(many, observation="padded")
    next(stream)
    before = most = anonymous_mb()
    for _ in stream:
        most = max(most, anonymous_mb())
    assert most - before < 100  # their pictures would take 660 MB


def test_phases_after_the_end_keep_a_voice(few, made):
    """A picture stretched into the padding sounds as loud there with these phases as before."""
    k = int(np.argmin(made[3]))
    count = made[3][k]
    stretched = made[0][k].clone()
    stretched[..., count : count + 40] = stretched[..., count // 2 : count // 2 + 1]
    wave = to_audio(stretched, made[1][k], made[2][k], count + 40)
    before, after = wave[16 * (count // 2) : 16 * count], wave[16 * count : 16 * (count + 40)]
    assert np.sqrt(np.mean(after**2)) > 0.4 * np.sqrt(np.mean(before**2))


def test_griffin_lim_fits_the_magnitudes_and_repeats(made):
    pictures, _, peaks, frames = made
    wave = griffin_lim(pictures[0], peaks[0], frames=frames[0])
    assert len(wave) == 16 * frames[0] and np.isfinite(wave).all() and np.abs(wave).max() > 1e-3
    assert (wave == griffin_lim(pictures[0], peaks[0], frames=frames[0])).all()
    wanted = magnitude(pictures[0, 0], peaks[0])[:, 20:40].numpy()
    got = np.abs(
        librosa.stft(wave[20 * 16 + 8 - 256 :], n_fft=512, hop_length=16, win_length=400, center=False)
    )[:, :20]
    assert np.linalg.norm(got - wanted) < 0.35 * np.linalg.norm(wanted)


def test_silence_is_an_empty_picture(few):
    import dataclasses

    hush = dataclasses.replace(few.take([0]), sounds={"klatt": [np.zeros(4000, np.float32)] * 99})
    for one in sp.OBSERVATIONS.values():
        (picture,), (peak,) = sp.images(hush, observation=one), sp.peaks(hush, observation=one)
        assert (picture == 0).all() and peak == 0
        assert (to_audio(picture, torch.zeros(one.bins, one.frames), duration=0.1) == 0).all()


@pytest.mark.parametrize("snr", [20, 0])
def test_noise_is_added_at_its_ratio_and_pairs_up(few, snr):
    noise = add_noise(snr, seed=4)
    row = few.table.iloc[2]
    length = row.end - row.start
    clean = few.clip(2)
    added = noise("one", clean, length) - clean
    inside = slice(sp.LEAD, sp.LEAD + length)
    assert 10 * np.log10(np.mean(clean[inside] ** 2) / np.mean(added**2)) == pytest.approx(snr, abs=0.3)
    assert np.array_equal(noise("one", clean, length), add_noise(snr, seed=4)("one", clean, length))
    assert not np.array_equal(noise("one", clean, length), noise("two", clean, length))
    assert torch.equal(sp.images(few, noise)[[2, 0]], sp.images(few.take([2, 0]), noise))
    assert not torch.equal(sp.images(few, noise), sp.images(few))


def test_quantize_has_256_levels():
    x = torch.tensor([0.0, 1 / 256, 0.999 / 256, 0.5, 1.0])
    assert sp.quantize(x).tolist() == [0, 1, 0, 128, 255]


def test_a_picture_of_another_shape_is_refused():
    with pytest.raises(
        InputError, match=r"no observation \(257, 288\), frequency x time; there are vowel \(256x96\)"
    ):
        to_audio(torch.zeros(257, 288), torch.zeros(257, 288))


def test_pink_noise_and_babble_have_the_ratio_that_was_asked_for(klatt):
    clip = klatt.clip(0)
    length = int(klatt.table.end[0] - klatt.table.start[0])
    inside = slice(sp.LEAD, sp.LEAD + length)
    for kind in ("white", "pink", "babble"):
        noise = add_noise(10, 3, kind, klatt)("one", clip, length) - clip
        ratio = 10 * np.log10(np.mean(clip[inside] ** 2) / np.mean(noise[inside] ** 2))
        assert ratio == pytest.approx(10, abs=0.5 if kind == "white" else 1e-3), kind
        low, high = np.abs(np.fft.rfft(noise))[1:200].mean(), np.abs(np.fft.rfft(noise))[-200:].mean()
        assert (low > 2 * high) == (kind != "white")
    with pytest.raises(InputError, match="not 'brown'"):
        add_noise(10, kind="brown")


def test_noise_gets_the_length_of_the_segment(few):
    lengths = []

    def noise(key, clip, length):
        lengths.append((len(clip) - 2 * sp.LEAD, length))
        return clip

    images = sp.images(few, noise)
    assert all(around >= length for around, length in lengths)
    assert [length for _, length in lengths] == list(few.table.end - few.table.start)
    assert torch.equal(images, sp.images(few))


def test_a_padded_picture_takes_its_duration_for_its_frames(few, made):
    """A duration that is no whole number of frames is rounded up, as ``frame_count`` does."""
    pictures, phases, peaks, frames = made
    k = next(k for k in range(len(few)) if len(few.sound(k)) % 16)
    given = pictures[k], phases[k], peaks[k]
    assert np.array_equal(to_audio(*given, duration=seconds(few, k)), to_audio(*given, frames[k]))
    ways = {"duration": seconds(few, k)}, {"frames": frames[k]}
    one, other = (griffin_lim(pictures[k], peaks[k], iterations=2, **way) for way in ways)
    assert np.array_equal(one, other) and len(one) == 16 * frames[k]
    with pytest.raises(InputError, match="frames are 1 to 288, not 289"):
        to_audio(*given, duration=0.2881)


def test_griffin_lim_takes_the_longest_picture_and_a_silent_one(made):
    picture = made[0][0]
    assert len(griffin_lim(picture, frames=288, iterations=0)) == 288 * 16
    assert not griffin_lim(picture, peak=0.0, iterations=1).any()


def test_every_voice_of_babble_is_as_loud(klatt):
    rng = np.random.default_rng(0)
    voice = _one_voice(klatt, 40_000, rng)  # several times its length
    assert len(voice) == 40_000 and np.sqrt(np.mean(voice**2)) == pytest.approx(1, abs=0.05)


@pytest.fixture(scope="module")
def even(few):
    return sp.images(few), sp.peaks(few), sp.phases(few)  # ``vowel`` pictures unless others are asked for


def seconds(corpus, k):
    return (corpus.table.end[k] - corpus.table.start[k]) / 16_000


def test_vowel_pictures_have_no_padding_and_true_phase_gives_the_segment_back(few, even):
    pictures, peaks, phases = even
    assert pictures.shape == (10, 1, 256, 96) and phases.shape == (10, 256, 96)
    assert pictures.amax((1, 2, 3)).eq(1).all() and (pictures[..., -1] > 0).any((1, 2)).all()
    for k in range(len(few)):
        back = to_audio(pictures[k], phases[k], peaks[k], duration=seconds(few, k))
        assert len(back) == len(few.sound(k)) and measures.error_db(few.sound(k), back) < -60


def test_vowel_frames_are_centred_in_equal_shares_of_the_segment(few, even):
    samples = len(few.sound(2))
    clip = np.pad(few.clip(2), 256)
    for column in (0, 40, 95):
        centre = int((column + 0.5) * samples / 96) + sp.LEAD + 256
        frame = clip[centre - 200 : centre + 200] * np.hanning(401)[:400]
        power = 20 * np.log10(np.abs(np.fft.rfft(frame, 512))[:256])
        wanted = np.clip((power - 20 * np.log10(even[1][2].item())) / 80 + 1, 0, 1)
        assert np.abs(even[0][2, 0, :, column].numpy() - wanted).max() < 1e-3


def test_another_duration_keeps_the_pitch(klatt):
    """Half as long again: as many samples more, and the same distance between harmonics."""
    some = klatt.filter(phone="aa").take([0])
    picture, phase = (make(some, observation="vowel")[0] for make in (sp.images, sp.phases))
    own = seconds(some, 0)
    longer = to_audio(picture, phases_at(phase, own, 1.5 * own), duration=1.5 * own)
    same = to_audio(picture, phase, duration=own)
    assert len(longer) == round(1.5 * own * 16_000) and np.isfinite(longer).all()
    assert torch.allclose(phases_at(phase, own, own).cos(), phase.cos(), atol=1e-2)

    def spectrum(wave):
        return np.log(np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8192))[:1024] + 1e-3)

    assert np.corrcoef(spectrum(same), spectrum(longer))[0, 1] > 0.8


def test_a_transform_of_another_length_is_speech_played_faster():
    """512 r points see what 512 points see of a recording r times as fast: a tone at f lies at r f."""
    times = np.arange(4000) / 16_000
    wave = torch.from_numpy(np.sin(2 * np.pi * 2000 * times).astype(np.float32))
    for fft in (480, 512, 544):
        pictures, _ = sp.vowel_pictures([wave], [0], [3000], [fft])
        assert pictures.shape == (1, 1, 256, 96)
        assert abs(pictures[0, 0, :, 48].argmax().item() - 2000 * fft / 16_000) <= 1


def test_griffin_lim_of_a_vowel_picture(few, even):
    picture, peak = even[0][0], even[1][0]
    wave = griffin_lim(picture, peak, duration=seconds(few, 0))
    assert (
        len(wave) == len(few.sound(0))
        and (wave == griffin_lim(picture, peak, duration=seconds(few, 0))).all()
    )
    assert 0.5 < np.std(wave) / np.std(few.sound(0)) < 2


def test_what_an_observation_cannot_see_is_refused_or_left_out(few):
    import dataclasses

    table = few.table.copy()
    table.loc[0, "end"] = table.start[0] + 100  # 6 ms
    table.loc[1, "end"] = table.start[1] + 5000  # 312 ms
    odd = dataclasses.replace(few, table=table)
    with pytest.raises(InputError, match=r"lasts 6.2 ms; 'vowel' takes 12.5 to 1000 ms"):
        sp.images(odd, observation="vowel")
    with pytest.raises(InputError, match=r"lasts 312.5 ms; 'padded' takes"):
        sp.phases(odd, observation="padded")
    left = sp.usable(odd, "vowel")
    assert len(left) == 9 and left.left_out.iloc[-1].to_dict() | {} == {
        "corpus": "klatt", "reason": "shorter than 12.5 ms", "phone": table.phone[0], "sex": table.sex[0], "count": 1,
    }  # fmt: skip
    assert sp.usable(odd, "padded").left_out.reason.iloc[-1] == "longer than 288 ms"
    assert len(sp.usable(odd, "padded")) == 9 and sp.usable(few, "padded") is few
    with pytest.raises(
        InputError, match=r"no observation 'square', .* there are vowel \(256x96\), padded \(288x288\)"
    ):
        sp.images(few, observation="square")
    with pytest.raises(InputError, match=r"no observation \(9, 9\)"):
        magnitude(torch.zeros(9, 9))
    with pytest.raises(InputError, match=r"a vowel picture lasts 0.0125 to 1 s, not duration=None"):
        to_audio(torch.zeros(256, 96), torch.zeros(256, 96))


@pytest.mark.parametrize("variable", ["TIMIT_SAMPLE", "LIBRISPEECH_EXCERPT"])
def test_real_segments_come_back_from_vowel_pictures(variable):
    import os

    from vowelflow import load_corpus

    if variable not in os.environ:
        pytest.skip(f"{variable} names no folder")
    corpus = load_corpus(
        variable.split("_")[0].lower().replace("timit", "timit-sample"), os.environ[variable], "all"
    )
    lengths = (corpus.table.end - corpus.table.start).sort_values()
    chosen = corpus.take(
        np.r_[lengths.index[:40], lengths.index[-40:], lengths.index[:: len(lengths) // 120]]
    )
    parts = [make(chosen, observation="vowel") for make in (sp.images, sp.phases, sp.peaks)]
    errors = [
        measures.error_db(
            chosen.sound(k), to_audio(*(part[k] for part in parts), duration=seconds(chosen, k))
        )
        for k in range(len(chosen))
    ]
    assert np.median(errors) < -60 and max(errors) < -38
