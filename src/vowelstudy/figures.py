"""Figures: pictures, tables and sounds as matplotlib figures and play buttons, in one style."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import soundfile
from IPython.display import HTML
from matplotlib.patches import Ellipse

from vowelflow.base import FRAMES, RATE, save_atomically
from vowelflow.corpus import Corpus
from vowelflow.spectrogram import BINS, FLOOR_DB

COLOURS = "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9".split()  # Okabe and Ito, for colour-blind readers
LISTENING_RMS = 0.08  # level of all sounds, so that loudness gives no hint
WIDEST = 10  # margins that ``forest`` shows on each side
FADE = RATE // 200  # 5 ms, against clicks where a segment was cut


def style() -> None:
    """Set the style of matplotlib; every notebook calls this once."""
    plt.rcParams.update(
        {
            "figure.dpi": 110, "figure.facecolor": "white", "savefig.facecolor": "white", "font.size": 9,
            "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9, "legend.frameon": False,
            "axes.prop_cycle": plt.cycler(color=COLOURS), "image.cmap": "magma", "figure.constrained_layout.use": True,
        }
    )  # fmt: skip


def banner(corpus: Corpus, profile: str = "cpu") -> HTML:
    """The speech that a notebook runs on and why; and a warning if it is a smoke run."""
    speech = "synthetic speech" if corpus.name == "klatt" else "recorded speech"
    text = (
        f"<strong>This page was made from {html.escape(corpus.name)}</strong>, {speech}: {len(corpus)} vowels of "
        f"{corpus.table.speaker.nunique()} speakers ({html.escape(corpus.note)}). Licence: {html.escape(corpus.licence)}."
    )
    if profile == "smoke":
        text += (
            " <strong>It is a smoke run</strong> with few tokens and a flow that is hardly trained. It shows that"
            " everything works; its numbers and verdicts mean nothing."
        )
    return HTML(f'<div class="vf-banner" role="note">{text}</div>')


def spectrograms(pictures, titles, columns: int = 5, row_titles=None):
    """A grid of pictures ``(n, 1, side, frames)`` of 0 to 8 kHz with one colour bar in dB.

    The time axis is in ms for padded pictures, and in percent of the duration otherwise.
    """
    pictures = _decibels(pictures)
    rows, side = -(-len(pictures) // columns), min(1.75, 7.6 / columns)  # inches that fit a page
    size = side * columns + 0.8, max(side, 1.45) * rows + 0.5
    figure, axes = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis, picture, title in zip(axes.flat, pictures, titles, strict=False):
        drawn = _draw(axis, picture, -FLOOR_DB, 0)
        axis.set_title(title)
    for axis in axes.flat[len(pictures) :]:
        axis.set_visible(False)
    place = {"xycoords": "axes fraction", "rotation": 90, "va": "center", "ha": "center", "weight": "bold"}
    for axis, name in zip(axes[:, 0], row_titles or []):
        axis.annotate(name.replace(" to ", " to\n"), (-0.42, 0.5), **place)
    _label(figure, pictures.shape[-1])
    figure.colorbar(drawn, ax=axes, label="dB below the peak", shrink=0.9 if rows < 3 else 0.5)
    return figure


def sample_page(groups: dict[str, np.ndarray], path, columns: int = 24) -> None:
    """Write a page of small pictures as PNG: one block for each name, of pictures ``(n, 1, side, frames)``."""
    blocks = []
    for pictures in groups.values():
        inside = np.clip(np.asarray(pictures)[:, 0, :BINS][:, ::-1], 0, 1)
        framed = np.pad(inside, ((0, -len(inside) % columns), (0, 6), (0, 4)), constant_values=1.0)
        rows = framed.reshape(-1, columns, *framed.shape[1:]).transpose(0, 2, 1, 3)
        blocks.append(rows.reshape(rows.shape[0] * rows.shape[1], -1))
    heights = [len(block) for block in blocks]
    size = 12, 12 * sum(heights) / blocks[0].shape[1] + 0.4 * len(blocks)
    figure, axes = plt.subplots(len(blocks), 1, figsize=size, height_ratios=heights, squeeze=False)
    for axis, block, name in zip(axes.flat, blocks, groups):
        axis.imshow(block, vmin=0, vmax=1, cmap="magma", aspect="auto", interpolation="nearest")
        axis.set_title(name, loc="left", fontsize=10)
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    page = PIL.Image.open(io.BytesIO(_png(figure, dpi=110))).convert("RGB")
    page.quantize(256).save(path, format="PNG", optimize=True)  # a palette: less than half the size


def allocation(pictures, maps, titles):
    """Pictures ``(n, 1, side, frames)``, and below each the bits of its pixels ``(n, side, frames)``, with colour bars."""
    count = len(titles)
    figure, axes = plt.subplots(
        2, count, figsize=(1.4 * count + 1, 3.6), sharex=True, sharey=True, squeeze=False
    )
    bits = np.asarray(maps)[:, :BINS]
    rows = ((_decibels(pictures), -FLOOR_DB, 0, "dB below the peak"), (bits, 0, 8, "bits"))
    for row, (values, least, most, label) in zip(axes, rows):
        drawn = [_draw(axis, one, least, most) for axis, one in zip(row, values)]
        figure.colorbar(drawn[-1], ax=row, label=label)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title)
    _label(figure, bits.shape[-1])
    return figure


def _decibels(pictures) -> np.ndarray:
    """Pictures ``(n, 1, side, frames)``, clamped, in dB below the peak: the bins from 0 to 8 kHz."""
    return np.clip(np.asarray(pictures)[:, 0, :BINS], 0, 1) * FLOOR_DB - FLOOR_DB


def _label(figure, frames: int) -> None:
    figure.supxlabel("time, ms" if frames == FRAMES else "time, % of the duration", size=9)
    figure.supylabel("frequency, kHz", size=9)


def _draw(axis, picture, least: float, most: float):
    """Draw one picture of 0 to 8 kHz; padded ones have a column for each millisecond."""
    frames = picture.shape[-1]
    extent = (0, frames if frames == FRAMES else 100, 0, RATE / 2000)
    limits = {"vmin": least, "vmax": most}
    return axis.imshow(
        picture, origin="lower", aspect="auto", extent=extent, interpolation="nearest", **limits
    )


def _png(figure, **options) -> bytes:
    """A figure as PNG; closes it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", **options)
    plt.close(figure)
    return file.getvalue()


# Mean and standard deviation of F1, then of F2, in Hz, at the steady state of vowels in h_d: the descriptive
# statistics that Hillenbrand, Getty, Clark and Wheeler (1995) published with their data.
HILLENBRAND = {
    "f": {
        "aa": (921.1, 96.7, 1525.8, 125.0), "ae": (675.7, 69.3, 2334.8, 158.7), "iy": (437.3, 40.6, 2761.3, 147.4),
        "ow": (555.5, 80.6, 1035.5, 122.6), "uh": (518.6, 41.2, 1228.6, 144.6),
    },
    "m": {
        "aa": (756.5, 62.3, 1308.9, 111.0), "ae": (591.4, 41.9, 1930.2, 132.8), "iy": (342.7, 28.2, 2322.8, 136.3),
        "ow": (497.7, 42.6, 910.4, 98.1), "uh": (469.3, 28.2, 1122.8, 97.3),
    },
}  # fmt: skip


def vowel_space(measured):
    """F1 against F2 with phoneticians' axes, for women and men, with ellipses of two deviations from ``HILLENBRAND``.

    Args:
        measured: the table of ``judges.vowel_space``, with phone, sex, f1 and f2 in Hz.
    """
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.3), sharex=True, sharey=True)
    for axis, sex, name in zip(axes, "fm", ("women", "men")):
        for (phone, (f1, f1_spread, f2, f2_spread)), colour in zip(HILLENBRAND[sex].items(), COLOURS):
            tokens = measured[(measured.sex == sex) & (measured.phone == phone)]
            axis.scatter(tokens.f2, tokens.f1, s=7, color=colour, alpha=0.7, linewidths=0)
            size = {"width": 4 * f2_spread, "height": 4 * f1_spread}
            axis.add_patch(Ellipse((f2, f1), **size, edgecolor=colour, facecolor="none"))
            axis.text(f2, f1, phone, color=colour, ha="center", va="center", weight="bold", size=11)
        axis.set(title=name, xlabel="F2, Hz")
    axes[0].set(xlim=(3300, 500), ylim=(1250, 150), ylabel="F1, Hz")
    return figure


def training_curve(log: pd.DataFrame):
    """Bits per dimension of train pictures and of validation speakers during training, from ``log.csv``."""
    figure, axis = plt.subplots(figsize=(6, 2.8))
    axis.plot(log.step, log.train, label="train speakers")
    axis.plot(log.step, log.valid, label="validation speakers")
    top = min(4.0, log.train.max()) if len(log) else None
    axis.set(xlabel="step", ylabel="bits per dimension", ylim=(None, top))
    axis.legend()
    return figure


def save_training_curve(folder: Path) -> Path:
    """Draw the ``log.csv`` of a folder as ``curve.svg``."""
    style()
    return save_vector(training_curve(pd.read_csv(folder / "log.csv")), folder / "curve.svg")


def save_vector(figure, path: Path) -> Path:
    """Save a figure as SVG and close it. Equal figures give equal bytes."""
    with plt.rc_context({"svg.hashsalt": "vowelflow"}):
        save_atomically(
            path, lambda temporary: figure.savefig(temporary, format="svg", metadata={"Date": None})
        )
    plt.close(figure)
    return path


def cost_table(found: dict) -> pd.DataFrame:
    """Seconds of a training step and pictures per second of each library, from ``benchmarks/flow.json``."""
    steps, rates = pd.Series(found["seconds_a_step"]), pd.Series(found["pictures_a_second"])
    return pd.DataFrame(
        {"seconds a step": steps.map("{:.3f}".format), "pictures a second": rates.map("{:.1f}".format)}
    )


def play_row(waves, labels) -> HTML:
    """A row of play buttons with labels, one for each sound, all at one loudness without clipping.

    A link beside each button saves the sound. It is hidden until the page's script (``vowelflow.js``) gives it the
    address of the sound: the page then holds the sound only once, and without scripts shows no dead link.
    """
    buttons = []
    for wave, label in zip(waves, labels, strict=True):
        text = html.escape(str(label))
        save = f"Download {text} as WAV"
        buttons.append(
            f'<span class="vf-sound"><button type="button" class="vf-play" aria-label="Play {text}" '
            f'onclick="this.nextElementSibling.play()">▶ {text}</button>'
            f'<audio preload="auto" src="data:audio/wav;base64,{_wav(wave)}"></audio>'
            f'<a class="vf-save" hidden download="{wav_name(label)}" aria-label="{save}" title="{save}">↓</a></span>'
        )
    return HTML(f'<div class="vf-row">{"".join(buttons)}</div>')


def wav_name(label) -> str:
    """The file name for a label: ``aa to ae, -1`` becomes ``aa_to_ae_-1.wav``."""
    plain = re.sub(r"['\u2019]", "", str(label).replace("%", " percent"))
    return (re.sub(r"[^\w.+-]+", "_", plain).strip("_.") or "sound") + ".wav"


def listening_level(wave) -> np.ndarray:
    """A sound for playing: with faded edges, at ``LISTENING_RMS`` or as loud as possible without clipping."""
    wave = np.nan_to_num(np.asarray(wave, dtype=np.float64)).copy()
    ramp = np.sin(np.linspace(0, np.pi / 2, FADE)) ** 2
    wave[:FADE] *= ramp[: len(wave)]
    wave[-FADE:] *= ramp[::-1][-len(wave) :]
    rms, peak = np.sqrt(np.mean(wave**2)), np.abs(wave).max()
    return wave * min(LISTENING_RMS / max(rms, 1e-9), 0.9 / max(peak, 1e-9))


def _wav(wave) -> str:
    quiet = np.zeros(RATE // 20)  # 50 ms, since sound cards drop the first few
    file = io.BytesIO()
    soundfile.write(
        file, np.concatenate([quiet, listening_level(wave), quiet]), RATE, format="WAV", subtype="PCM_16"
    )
    return base64.b64encode(file.getvalue()).decode()


def frame_slider(pictures, labels, name: str = "step"):
    """A slider over pictures that also works in a page without a kernel."""
    import ipywidgets

    frames = []
    for picture, label in zip(pictures, labels, strict=True):
        figure = spectrograms(np.asarray(picture)[None], [label], columns=1)
        figure.set_size_inches(3.6, 2.8)
        source = f"data:image/png;base64,{base64.b64encode(_png(figure, dpi=100)).decode()}"
        alt = html.escape(str(label))
        frames.append(ipywidgets.HTML(f'<img style="width:380px;max-width:100%" alt="{alt}" src="{source}">'))
    stack = ipywidgets.Stack(frames, selected_index=0)
    slider = ipywidgets.IntSlider(0, 0, len(frames) - 1, description=name)
    ipywidgets.jslink((slider, "value"), (stack, "selected_index"))
    return ipywidgets.VBox([slider, stack])


def forest(found: dict[tuple[str, str], list[dict]]):
    """Two panels, one for each question: every claim's difference to its hardest baseline.

    Args:
        found: rows of ``verdicts.json`` by corpus and flow.

    Differences and intervals are in units of the margin: right of 1, the flow is better by the margin. Filled
    dots are answers *reproduced* and *yes*, which take Holm's correction into account.
    """
    style()
    primary = {setting: [row for row in rows if row["primary"]] for setting, rows in found.items()}
    names = list(dict.fromkeys(row["claim"] for rows in primary.values() for row in rows if row["baselines"]))
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 0.42 * len(names) + 1.5), sharey=True)
    titles = {"effect": "is it there? against nulls", "flow": "does it need the flow? against simple methods"}
    for axis, (question, title) in zip(axes, titles.items()):
        for place, (setting, rows) in enumerate(primary.items()):
            colour, shift = COLOURS[place % len(COLOURS)], 0.22 * (place - (len(found) - 1) / 2)
            label = f"{setting[1]} on {setting[0]}"
            axis.plot([], [], "o", ms=5, color=colour, label=label)
            for row in (one for one in rows if one["question"] == question and one["baselines"]):
                _forest_row(axis, row, names.index(row["claim"]) + shift, colour)
        axis.axvline(0, color="grey", lw=0.8)
        axis.axvline(1, color="grey", lw=0.8, ls=":")
        axis.set(
            title=title,
            xlim=(-WIDEST * 1.05, WIDEST * 1.05),
            xlabel=f"difference, in margins (cut at {WIDEST})",
        )
    axes[0].set(yticks=range(len(names)), yticklabels=names)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(found))
    return figure


def _forest_row(axis, row: dict, y: float, colour) -> None:
    gaps = [one["difference"] for one in row["baselines"].values() if one["difference"]["interval"]]
    if not gaps:
        return
    smallest = min(gaps, key=lambda one: one["interval"][0])
    middle, low, high = np.array([smallest["estimate"], *smallest["interval"]]) / row["margin"]
    axis.plot(np.clip([low, high], -WIDEST, WIDEST), [y, y], color=colour, lw=1.6)
    face = colour if row["answer"] in ("reproduced", "yes") else "white"
    axis.plot(np.clip(middle, -WIDEST, WIDEST), y, "o", ms=5, color=colour, mfc=face)
