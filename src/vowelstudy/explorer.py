"""Explorer: moves through the space of codes, and widgets to try them.

Widgets show the picture and the sound of a move first and the judge's measurements later. While one move is
computed, only the newest later move is remembered.
"""

from __future__ import annotations

import html
import io
import threading
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

from vowelflow.audio import griffin_lim, to_audio
from vowelflow.base import LEAD, RATE, InputError
from vowelflow.latent import random_code
from vowelflow.spectrogram import BINS, FLOOR_DB, VOWEL, phases, stft, vowel_pictures

from .experiments.denoising import Noisy
from .experiments.directions import CLASSES, contrast
from .figures import listening_level
from .folds import Fold, Setting
from .judges import FORMANTS, features_of
from .methods import flow_method, principal
from .tokens import Tokens, codes_of

TOKENS = 12  # tokens to start from
SHORTEST = 480  # samples of a recording, 30 ms
NOISE_DB = 10  # signal-to-noise ratio of the noisy tokens for the direction of noise
PAIRS = (("aa", "ae"), ("aa", "iy"), ("aa", "ow"))
SEX = {"f": "woman", "m": "man"}
OWN = -1  # ``start`` of a ``Place`` for the reader's own recording


def start_tokens(tokens: Tokens, fold: Fold, count: int = TOKENS) -> np.ndarray:
    """Up to ``count`` rows of evaluation tokens, taking vowels and speakers in turn."""
    rows = tokens.rows(fold.evaluation, scored=True)
    table = tokens.table.iloc[rows]
    turn = table.groupby(["phone", "speaker"]).cumcount()
    return rows[np.lexsort((table.sex, table.phone, turn))][:count]


def names_of(table: pd.DataFrame) -> list[str]:
    """Names of tokens from their labels, such as "aa, a woman (fmem0)"; equal names are numbered."""
    names = table.phone + ", a " + table.sex.map(SEX) + " (" + table.speaker + ")"
    place = names.groupby(names).cumcount() + 1
    numbered = names + ", " + place.astype(str)
    return numbered.where(names.duplicated(keep=False), names).to_list()


def moves_of(tokens: Tokens, fold: Fold, draws: int, seed: int) -> dict[str, torch.Tensor]:
    """Displacements ``(1, d)`` of codes by name, estimated from fit tokens.

    They lead from vowel to vowel and from sex to sex, as in the chapters, from the mean of one speaker to
    that of another of the same sex, from clean to noisy tokens, and one standard deviation along each of the
    first three principal directions, which need no labels. Displacements without tokens are left out.
    """
    table, codes = tokens.table.iloc[fold.fit], codes_of(fold.flow, tokens, seed, draws)[fold.fit]
    displacement, found = flow_method(fold.flow).displacement, {}
    for pair in PAIRS:
        labels = table.phone.map(dict(zip(pair, CLASSES["phone"])))
        found[f"{pair[0]} to {pair[1]}"] = displacement(codes, contrast(table, "phone", labels))
    found["woman to man"] = displacement(codes, contrast(table, "sex"))
    for people in table.groupby("sex").speaker.unique():
        if len(people) > 1:
            first, second = sorted(people)[:2]
            labels = table.speaker.map({first: "f", second: "m"})  # ``contrast`` then averages over vowels
            found[f"speaker {first} to {second}"] = displacement(codes, contrast(table, "sex", labels))
    few = fold.fit[:64]
    noisy = Noisy(tokens, seed).codes(fold.flow, few, "white", NOISE_DB)
    noise = (noisy - codes_of(fold.flow, tokens, seed)[few]).mean(0, keepdim=True)
    found[f"clean to noisy, {NOISE_DB} dB"] = noise
    for place, (move, deviation) in enumerate(zip(*principal(codes, 3)), start=1):
        found[f"principal direction {place}"] = deviation * move[None]
    return {name: move for name, move in found.items() if move.abs().max() > 0}


@dataclass(frozen=True)
class Place:
    """A point in the space of codes: a start, moves from it, and factors that the code is multiplied by.

    Attributes:
        start: one of the explorer's tokens; None for a random code, ``OWN`` for a recording.
        seed, temperature: seed and standard deviation of a random code.
        other: another token; the code first moves a share ``between`` of the way to it.
        moves: steps along displacements, by name.
        top, fine: factors of the top code, and of the rest.
        true_phase: whether the sound has the phase of the start; otherwise Griffin-Lim's.
    """

    start: int | None = 0
    seed: int = 0
    other: int = 0
    between: float = 0.0
    moves: dict[str, float] = field(default_factory=dict)
    temperature: float = 0.7
    top: float = 1.0
    fine: float = 1.0
    true_phase: bool = True


class Explorer:
    """Picture, sound and measurements of any ``Place``, and widgets to move there.

    Args:
        setting: its first fold's flow and evaluation tokens are explored.
    """

    def __init__(self, setting: Setting):
        self.setting, self.fold, tokens = setting, setting.folds[0], setting.tokens
        self.rows = start_tokens(tokens, self.fold)
        self.names = names_of(tokens.table.iloc[self.rows])
        self.moves = moves_of(tokens, self.fold, setting.protocol.draws, setting.seed)
        self.codes = codes_of(self.model, tokens, setting.seed)[self.rows]
        self.samples = tokens.samples[self.rows]
        self.phases = phases(tokens.corpus.take(self.rows))
        self.own: tuple[torch.Tensor, torch.Tensor, int] | None = None  # code, phase, samples of a recording

    @property
    def model(self):
        return self.fold.flow

    def record(self, sound: bytes) -> None:
        """Use a sound file with one vowel, such as a WAV or FLAC file, as a start.

        Raises:
            InputError: not a sound file, more than one channel, no sound, or too short or too long for a
                picture.
        """
        try:
            wave, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
        except (soundfile.SoundFileError, TypeError) as error:
            raise InputError(f"no sound file: {error}; use a WAV file") from None
        if wave.ndim > 1:
            raise InputError(f"{wave.shape[1]} channels; use a recording with one channel")
        if not np.isfinite(wave).all():
            raise InputError("some samples are not finite; make the recording again")
        if rate != RATE:
            import librosa

            wave = librosa.resample(wave, orig_sr=rate, target_sr=RATE)
        if not SHORTEST <= len(wave) <= VOWEL.longest or not np.abs(wave).max() > 0:
            length = f"{1000 * len(wave) / RATE:.0f} ms"
            limits = f"{1000 * SHORTEST // RATE} to {1000 * VOWEL.longest // RATE} ms"
            raise InputError(f"{length}; cut one vowel out, of {limits}, that is not silent")
        clip = torch.from_numpy(np.pad(wave, LEAD, "reflect"))
        picture, _ = vowel_pictures([clip], [0], [len(wave)])
        phase = stft(clip, VOWEL.centres(len(wave))).T[: VOWEL.bins].angle()
        self.own = self.model.encode(picture, self.setting.seed).flat, phase, len(wave)

    def start(self, place: Place) -> tuple[torch.Tensor, torch.Tensor | None, int]:
        """Code ``(1, d)``, phase ``(256, 96)`` or None, and duration in samples of the start of a place."""
        if place.start == OWN and self.own:
            return self.own
        if place.start is None:
            code = place.temperature * random_code(1, self.model.config.size, place.seed)
            return code, None, int(np.median(self.samples))
        return self.codes[[place.start]], self.phases[place.start], int(self.samples[place.start])

    def code(self, place: Place) -> torch.Tensor:
        """The code at a place ``(1, d)``."""
        code, _, _ = self.start(place)
        code = torch.lerp(code, self.codes[[place.other]], place.between)
        for name, step in place.moves.items():
            code = code + step * self.moves[name]
        factors = torch.full_like(code, place.fine)
        factors[:, : self.model.top_size] = place.top
        return code * factors

    def picture(self, place: Place) -> torch.Tensor:
        """The picture at a place ``(1, 256, 96)``."""
        return self.model.decode(self.code(place))[0]

    def sound(self, place: Place, picture: torch.Tensor) -> np.ndarray:
        """The sound of the picture at a place: 16 kHz, at the same level as all sounds of the book."""
        _, phase, samples = self.start(place)
        if phase is None or not place.true_phase:
            return listening_level(griffin_lim(picture, duration=samples / RATE))
        return listening_level(to_audio(picture, phase, duration=samples / RATE))

    def readings(self, place: Place, picture: torch.Tensor) -> dict:
        """Squared norm and bits per dimension, posteriors, formants and formant tracks at a place."""
        judges, row = self.setting.judges, self.rows[place.start if place.start not in (None, OWN) else 0]
        clear = picture[None].nan_to_num(0).clamp(0, 1)
        measured = features_of(clear, [self.start(place)[2]], [self.setting.tokens.ceilings[row]])
        hertz = np.exp(measured.acoustics.iloc[0][list(FORMANTS.values())])
        return {
            "squared norm / d": self.code(place).square().mean().item(),
            "bits per dimension": self.model.bits_per_dim(clear, draws=1).item(),
            "vowel": judges.posterior(measured, "phone").iloc[0].to_dict(),
            "sex": judges.posterior(measured, "sex").iloc[0].to_dict(),
            "Hz": dict(zip(FORMANTS, hertz.tolist())),
            "tracks": formant_tracks(picture, self.start(place)[2]),
        }

    def still(self):
        """A figure with a row for each move: the first token in the middle, one step to each side."""
        from .figures import spectrograms

        steps = (-1.0, 0.0, 1.0)
        places = [Place(moves={name: step}) for name in self.moves for step in steps]
        pictures = torch.stack([self.picture(place) for place in places])
        titles = [f"{step:+.0f}" if step else self.names[0] for step in steps] * len(self.moves)
        return spectrograms(pictures, titles, 3, row_titles=[name.replace(", ", "\n") for name in self.moves])

    @cached_property
    def widget(self) -> Controls:
        """Widgets for a running notebook: display ``explorer.widget.box``."""
        return Controls(self)


def formant_tracks(picture: torch.Tensor, samples: int) -> pd.DataFrame:
    """Formants in Hz (Praat) every 5 ms of Griffin-Lim's sound of a picture: columns ms, f1, f2, f3."""
    import parselmouth

    wave = griffin_lim(picture, iterations=16, duration=samples / RATE)
    sound = parselmouth.Sound(wave.astype(np.float64), RATE)
    if len(wave) < 2 * SHORTEST:
        return pd.DataFrame(columns=["ms", "f1", "f2", "f3"])
    found = sound.to_formant_burg(time_step=0.005, maximum_formant=5500.0)
    times = np.arange(0.015, sound.duration - 0.01, 0.005)
    tracks = {f"f{k}": [found.get_value_at_time(k, time) for time in times] for k in (1, 2, 3)}
    return pd.DataFrame({"ms": 1000 * times} | tracks)


class Controls:
    """The widgets of an explorer. A separate thread does the work, so the widgets stay responsive."""

    def __init__(self, explorer: Explorer):
        self.explorer, self._wanted, self.problems = explorer, None, []
        self._wake, self._idle = threading.Event(), threading.Event()
        self._canvas = _Canvas()
        self._make_settings()
        self._make_box()
        self._first = [one.value for one in self.settings]
        for one in self.settings:
            one.observe(self._moved, "value")
        self.upload.observe(self._uploaded, "value")
        self.reset.on_click(lambda _: self._start_again())
        self.save.on_click(lambda _: self._save())
        threading.Thread(target=self._work, daemon=True).start()
        self._moved()

    def _make_settings(self) -> None:
        import ipywidgets as w

        def slider(name, low, high, value, step=0.1):
            form = {"style": {"description_width": "15em"}, "layout": {"width": "30em"}}
            return w.FloatSlider(value, min=low, max=high, step=step, description=name, **form)

        starts = [*((name, k) for k, name in enumerate(self.explorer.names)), ("a random code", None)]
        phases = [("its own", True), ("Griffin-Lim's", False)]
        self.start = w.Dropdown(options=starts, value=0, description="start")
        self.seed = w.BoundedIntText(0, min=0, max=10_000, description="its seed")
        self.temperature = slider("its temperature", 0, 1.5, 0.7)
        self.other = w.Dropdown(options=starts[:-1], value=min(1, len(starts) - 2), description="towards")
        self.between = slider("how far", 0, 1, 0, 0.05)
        self.moves = {name: slider(name, -3, 3, 0) for name in self.explorer.moves}
        self.top, self.fine = slider("times the top", 0, 1.5, 1), slider("times the rest", 0, 1.5, 1)
        self.phase = w.ToggleButtons(options=phases, description="phase")
        walk = [self.start, self.seed, self.temperature, self.other, self.between, *self.moves.values()]
        self.settings = [*walk, self.top, self.fine, self.phase]

    def _make_box(self) -> None:
        import ipywidgets as w

        self.upload = w.FileUpload(accept="audio/*", description="a vowel of your own")
        self.reset = w.Button(description="start again")
        self.save = w.Button(description="save picture and sound")
        self.image = w.Image(format="png", layout={"max_width": "640px"})
        self.audio = w.Audio(format="wav", autoplay=False, loop=False)
        self.readings, self.status = w.HTML(), w.HTML()
        buttons = w.HBox([self.reset, self.save])
        left = w.VBox([*self.settings[:3], self.upload, *self.settings[3:-3]])
        right = w.VBox([self.image, self.audio, self.phase, self.top, self.fine, buttons, self.readings])
        sides = w.HBox([left, right], layout={"flex_flow": "row wrap"})
        self.box = w.VBox([sides, self.status])

    def place(self) -> Place:
        """The place that the widgets are set to."""
        names = ("start", "seed", "other", "between", "temperature", "top", "fine")
        moves = {name: slider.value for name, slider in self.moves.items() if slider.value}
        values = {name: getattr(self, name).value for name in names}
        return Place(**values, moves=moves, true_phase=self.phase.value)

    def wait(self, seconds: float = 30.0) -> bool:
        """Wait until picture, sound and measurements belong to the current place; False after ``seconds``."""
        return self._idle.wait(seconds)

    def _moved(self, _=None) -> None:
        self._idle.clear()
        self._wanted = self.place()
        self._wake.set()

    def _work(self) -> None:
        while self._wake.wait():
            self._wake.clear()
            place = self._wanted
            try:
                self._show(place)
                if not self._wake.is_set():  # a newer move comes first
                    self._measure(place)
                self.status.value = ""
            except Exception as error:  # without its thread, no widget would work any more
                self.problems.append(repr(error))
                self.status.value = f"<b>{html.escape(repr(error))}</b>"
            if not self._wake.is_set():
                self._idle.set()

    def _show(self, place: Place) -> None:
        before = self.explorer.picture(replace(place, moves={}, between=0.0, top=1.0, fine=1.0))
        self.now = self.explorer.picture(place)
        self.wave = self.explorer.sound(place, self.now)
        file = io.BytesIO()
        soundfile.write(file, self.wave, RATE, format="WAV", subtype="PCM_16")
        self.audio.value, self.image.value = file.getvalue(), self._canvas.draw(before, self.now)

    def _measure(self, place: Place) -> None:
        readings = self.explorer.readings(place, self.now)
        self.image.value = self._canvas.draw(
            None, self.now, readings["tracks"], self.explorer.start(place)[2]
        )
        rows = [(name, f"{readings[name]:.2f}") for name in ("squared norm / d", "bits per dimension")]
        rows += [(f"F{k}" if k else "F0", f"{readings['Hz'][f'f{k}']:.0f} Hz") for k in range(4)]
        for factor in ("vowel", "sex"):
            rows += [(f"{factor} {name}", f"{chance:.0%}") for name, chance in readings[factor].items()]
        cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{value}</td></tr>" for name, value in rows)
        self.readings.value = f"<table>{cells}</table>"

    def _uploaded(self, change) -> None:
        if not change["new"]:
            return
        try:
            self.explorer.record(bytes(change["new"][0]["content"]))
        except InputError as error:
            self.status.value = f"<b>{html.escape(str(error))}</b>"
            return
        if OWN not in [value for _, value in self.start.options]:
            self.start.options = [*self.start.options, ("your own", OWN)]
        self.start.value = OWN
        self._moved()

    def _start_again(self) -> None:
        for one, value in zip(self.settings, self._first):
            one.value = value

    def _save(self, folder: Path | None = None) -> None:
        folder = Path(folder or "explored")
        folder.mkdir(parents=True, exist_ok=True)
        count = max((int(path.stem) for path in folder.glob("*.wav") if path.stem.isdecimal()), default=0) + 1
        (folder / f"{count:03d}.png").write_bytes(self.image.value)
        (folder / f"{count:03d}.wav").write_bytes(self.audio.value)
        self.status.value = f"saved as {html.escape(str(folder / f'{count:03d}'))}.png and .wav"


class _Canvas:
    """A figure that is drawn again for each move: pictures before and after it, with formant tracks."""

    def __init__(self):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(6.4, 2.6), dpi=100, layout=None)
        self.canvas, self.lines, self.images = FigureCanvasAgg(self.figure), [], []
        for place, title in enumerate(("before", "after")):
            box = (0.09 + 0.46 * place, 0.18, 0.42, 0.7)
            axis = self.figure.add_axes(box, title=title, xlabel="time, % of the duration")
            blank, extent = np.zeros(VOWEL.shape), (0, 100, 0, RATE / 2000)
            limits = {"vmin": -FLOOR_DB, "vmax": 0, "cmap": "magma"}
            self.images.append(axis.imshow(blank, origin="lower", aspect="auto", extent=extent, **limits))
            axis.set_yticks(range(0, 9, 2), labels=None if place == 0 else [""] * 5)
        self.figure.axes[0].set_ylabel("frequency, kHz")
        self.lines = [self.figure.axes[1].plot([], [], "w.", ms=3)[0] for _ in range(3)]

    def draw(self, before, after, tracks: pd.DataFrame | None = None, samples: int = RATE) -> bytes:
        """PNG of two pictures; a picture that is None stays as it was last drawn."""
        for image, picture in zip(self.images, (before, after)):
            if picture is not None:
                image.set_data(np.clip(picture[0, :BINS], 0, 1) * FLOOR_DB - FLOOR_DB)
        for place, line in enumerate(self.lines, start=1):
            percent = [] if tracks is None else tracks.ms * RATE / 10 / samples
            line.set_data(percent, [] if tracks is None else tracks[f"f{place}"] / 1000)
        file = io.BytesIO()
        self.canvas.print_png(file, pil_kwargs={"compress_level": 1})
        return file.getvalue()
