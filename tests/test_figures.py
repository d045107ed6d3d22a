import base64
import html
import io
import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import soundfile

from vowelflow.spectrogram import images
from vowelstudy import figures
from vowelstudy.statistics import REPRODUCED, UNDECIDED, YES


def sounds_of(row):
    clips = re.findall(r"base64,([^\"]+)", row.data)
    return [soundfile.read(io.BytesIO(base64.b64decode(clip))) for clip in clips]


def test_sounds_are_played_at_one_loudness_without_clipping_or_clicks():
    time = np.arange(3200) / 16_000
    quiet, loud = 0.001 * np.sin(900 * time), 30 * np.sin(900 * time)
    click = np.zeros(3200)
    click[1600] = 1.0
    clips = sounds_of(figures.play_row([quiet, loud, click], ["quiet", "loud", "click"]))
    levels = [np.sqrt(np.mean(wave[800:-800] ** 2)) for wave, rate in clips]
    assert levels[0] == pytest.approx(levels[1], rel=0.01) == pytest.approx(figures.LISTENING_RMS, rel=0.05)
    for wave, rate in clips:
        assert rate == 16_000 and len(wave) == 3200 + 1600 and np.abs(wave).max() <= 0.901
        assert np.abs(wave[:805]).max() < 0.01 and np.abs(wave[-805:]).max() < 0.01


def test_labels_are_escaped():
    row = figures.play_row([np.ones(800)], ['<script>alert("x")</script>'])
    assert "<script>" not in row.data and html.escape('<script>alert("x")</script>') in row.data


def test_a_sound_is_in_the_row_once_and_its_link_waits_for_a_script():
    row = figures.play_row([np.ones(800)], ['a woman\'s "aa", 25%']).data
    assert (
        row.count("base64,") == 1 and base64.b64decode(re.search('base64,([^"]+)', row)[1])[8:12] == b"WAVE"
    )
    link = re.search("</audio><a [^>]*>", row)[0]  # the script takes the address from the element before it
    assert " hidden " in link and "href" not in link
    assert 'aria-label="Download a woman&#x27;s &quot;aa&quot;, 25% as WAV"' in link
    assert 'download="a_womans_aa_25_percent.wav"' in link


def test_names_of_sound_files_say_what_their_labels_say():
    labels = ["aa to ae, -1", "aa to ae, +1", "flow, 0.4", "é/../x: *", "...", ""]
    names = ["aa_to_ae_-1", "aa_to_ae_+1", "flow_0.4", "é_.._x", "sound", "sound"]
    assert [figures.wav_name(label) for label in labels] == [f"{name}.wav" for name in names]


def test_banner_says_which_speech(klatt):
    text = figures.banner(klatt).data
    assert "made from klatt" in text and "synthetic speech" in text and "80 vowels of 8 speakers" in text


SEEN = {
    "vowel": ("time, % of the duration", [0, 100, 0, 8], (256, 96)),
    "padded": ("time, ms", [0, 288, 0, 8], (257, 288)),
}


@pytest.mark.parametrize("observation", SEEN)
def test_spectrograms_have_axes_and_one_colour_bar(klatt, observation):
    pictures, (time, extent, shape) = images(klatt.take(range(3)), observation=observation), SEEN[observation]
    figure = figures.spectrograms(pictures, list("abc"), columns=2)
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert figure._supxlabel.get_text() == time and figure._supylabel.get_text() == "frequency, kHz"
    assert labels.count("dB below the peak") == 1
    shown = figure.axes[0].images[0]
    assert shown.get_extent() == extent and shown.get_clim() == (-80, 0)
    assert shown.get_array().shape == shape
    assert np.allclose(shown.get_array(), np.asarray(pictures[0, 0, :257]) * 80 - 80)
    plt.close(figure)


@pytest.mark.parametrize("observation", SEEN)
def test_bits_have_a_colour_bar_of_their_own(klatt, observation):
    pictures, (time, extent, shape) = images(klatt.take([0, 1]), observation=observation), SEEN[observation]
    figure = figures.allocation(pictures, 4 * pictures[:, 0], ["aa", "ae"])
    assert [axis.get_ylabel() for axis in figure.axes[4:]] == ["dB below the peak", "bits"]
    above, below = figure.axes[0].images[0], figure.axes[2].images[0]
    assert below.get_clim() == (0, 8) and above.get_clim() == (-80, 0) and below.get_array().shape == shape
    assert figure._supxlabel.get_text() == time and below.get_extent() == extent
    plt.close(figure)


def test_slider_frames_follow_the_slider(klatt):
    box = figures.frame_slider(images(klatt.take(range(2))), ["first", "second"])
    slider, stack = box.children
    assert slider.max == 1 and len(stack.children) == 2
    alt, picture = re.fullmatch(
        r'<img style="[^"]*" alt="(.*)" src="data:image/png;base64,(.*)">', stack.children[1].value
    ).groups()
    assert alt == "second" and base64.b64decode(picture).startswith(b"\x89PNG")


def test_vowel_space_draws_every_segment_and_its_reference():
    measured = pd.DataFrame(
        {"phone": ["aa", "iy", "iy"], "sex": ["f", "f", "m"], "f1": [900, 400, 300], "f2": [1500, 2700, 2300]}
    )
    axes = figures.vowel_space(measured).axes
    assert [axis.get_title() for axis in axes] == ["women", "men"]
    assert [sum(len(dots.get_offsets()) for dots in axis.collections) for axis in axes] == [2, 1]
    assert (
        [len(axis.patches) for axis in axes] == [5, 5]
        and axes[0].yaxis_inverted()
        and axes[0].xaxis_inverted()
    )


def test_costs_are_those_of_the_benchmark():
    from vowelstudy.results import benchmark

    found = benchmark("flow")
    table = figures.cost_table(found)
    assert list(table.index) == list(found["seconds_a_step"]) and "normflows, float32" in table.index
    assert table.loc["ours, float32", "seconds a step"] == f"{found['seconds_a_step']['ours, float32']:.3f}"


def test_forest_shows_the_hardest_baseline_in_margins(tmp_path):
    def rows(claim, question, *gaps, **others):
        differences = [{"difference": {"estimate": e, "interval": [e - 0.1, e + 0.1]}} for e in gaps]
        won = {"effect": REPRODUCED, "flow": YES}[question]
        answer = won if min(gaps, default=0) > 0.5 else UNDECIDED
        found = {"claim": claim, "question": question, "primary": True, "margin": 0.5, "answer": answer}
        return [found | {"baselines": dict(enumerate(differences))} | others]

    unknown = {"of nobody": {"difference": {"estimate": None, "interval": None}}}
    klatt = rows("gaussian", "effect", 2.0, 1.0) + rows("gaussian", "flow", 0.75)
    klatt += rows("samples", "effect", -30.0) + rows("silence", "effect", baselines=unknown)
    klatt += rows("samples", "flow", 3.0, primary=False) + rows(
        "density", "effect"
    )  # with nothing to compare
    drawn = figures.forest({("klatt", "flow"): klatt, ("timit", "flow"): rows("gaussian", "effect", 0.25)})

    def dots(axis):
        found = [line for line in axis.lines if line.get_marker() == "o" and len(line.get_xdata())]
        return [(dot.get_xdata()[0], dot.get_markerfacecolor() != "white") for dot in found]

    nulls, methods = drawn.axes
    assert "is it there?" in nulls.get_title() and "does it need the flow?" in methods.get_title()
    assert dots(nulls) == [(2.0, True), (-figures.WIDEST, False), (0.5, False)]
    assert dots(methods) == [(1.5, True)]
    assert [label.get_text() for label in nulls.get_yticklabels()] == ["gaussian", "samples", "silence"]
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["flow on klatt", "flow on timit"]
    assert figures.save_vector(drawn, tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
