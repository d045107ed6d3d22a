"""Explorer: moves in the space of codes that a reader can try, and widgets to try them with.

The picture and sound of a move come first, the judge's readings follow. While one move is computed, only the newest of the
moves that follow is kept.
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
from vowelflow.base import FRAMES, LEAD, RATE, InputError, frames_in
from vowelflow.latent import random_code
from vowelflow.spectrogram import BINS, EXCERPT, FLOOR_DB, phases, pictures_of, spectrum_of

from .experiments.denoising import Noisy
from .experiments.directions import CLASSES, contrast, displacement
from .figures import listening_level
from .folds import Fold, Setting, Tokens, codes_of
from .methods import principal
from .vowel_judge import SHORTEST, features

TOKENS = 12  # to start from
NOISE_DB = 10  # of the noisy tokens that a direction of noise leads to
PAIRS = (("aa", "ae"), ("aa", "iy"), ("aa", "ow"))
SEX = {"f": "woman", "m": "man"}
OWN = -1  # the start that is a recording of the reader's


def start_tokens(tokens: Tokens, fold: Fold, count: int = TOKENS) -> np.ndarray:
    """Up to ``count`` rows of evaluation tokens, the vowels and speakers in turn."""
    rows = tokens.rows(fold.evaluation, scored=True)
    table = tokens.table.iloc[rows]
    turn = table.groupby(["phone", "speaker"]).cumcount()
    return rows[np.lexsort((table.sex, table.phone, turn))][:count]


def names_of(table: pd.DataFrame) -> list[str]:
    """Names of tokens, given their labels: "aa, a woman (fmem0)", numbered where several have the same."""
    names = table.phone + ", a " + table.sex.map(SEX) + " (" + table.speaker + ")"
    place = names.groupby(names).cumcount() + 1
    return [
        f"{name}, {k}" if many else name for name, k, many in zip(names, place, names.duplicated(keep=False))
    ]


def moves_of(tokens: Tokens, fold: Fold, draws: int, seed: int) -> dict[str, torch.Tensor]:
    """Displacements ``(1, d)`` of codes, by name, estimated from fit tokens.

    Vowels and sex as in the chapters; from one speaker's mean to that of another of the same sex; from clean to noisy tokens; and one
    deviation along the first three principal directions, for which nobody needed a label. What there are no tokens for is left out.
    """
    table, codes = tokens.table.iloc[fold.fit], codes_of(fold.flow, tokens, seed, draws)[fold.fit]
    found = {}
    for pair in PAIRS:
        labels = table.phone.map(dict(zip(pair, CLASSES["phone"])))
        found[f"{pair[0]} to {pair[1]}"] = displacement(codes, contrast(table, "phone", labels))
    found["woman to man"] = displacement(codes, contrast(table, "sex"))
    for people in table.groupby("sex").speaker.unique():
        if len(people) > 1:
            first, second = sorted(people)[:2]
            labels = table.speaker.map({first: "f", second: "m"})  # vowel by vowel, as for sex
            found[f"speaker {first} to {second}"] = displacement(codes, contrast(table, "sex", labels))
    few = fold.fit[:64]
    noise = (
        Noisy(tokens, seed).codes(fold.flow, few, "white", NOISE_DB) - codes_of(fold.flow, tokens, seed)[few]
    )
    found[f"clean to noisy, {NOISE_DB} dB"] = noise.mean(0, keepdim=True)
    for place, (move, deviation) in enumerate(zip(*principal(codes, 3)), start=1):
        found[f"principal direction {place}"] = deviation * move[None]
    return {name: move for name, move in found.items() if move.abs().max() > 0}


@dataclass(frozen=True)
class Place:
    """Where a reader is: what it starts from, how far it has moved, and by what its code is multiplied.

    Attributes:
        start: a row of the explorer's tokens; None for a random code, ``OWN`` for a recording.
        other: another token, towards which ``between`` of the way is gone first.
        moves: steps along displacements, by name.
        temperature: deviation of a random code.
        top, fine: what the coarsest quarter of the code, and the rest, are multiplied by.
        true_phase: whether the sound has the start's own phase; else Griffin-Lim's.
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
    """Moves through the codes of one flow: what is at a place, and widgets to go there.

    Args:
        setting: the flow of its first fold is explored, with evaluation tokens.
    """

    def __init__(self, setting: Setting):
        self.setting, self.fold, tokens = setting, setting.folds[0], setting.tokens
        self.rows = start_tokens(tokens, self.fold)
        self.names = names_of(tokens.table.iloc[self.rows])
        self.moves = moves_of(tokens, self.fold, setting.protocol.draws, setting.seed)
        self.codes = codes_of(self.model, tokens, setting.seed)[self.rows]
        self.frames = tokens.frames[self.rows]
        self.phases = phases(tokens.corpus.take(self.rows))
        self.own: tuple[torch.Tensor, torch.Tensor, int] | None = (
            None  # code, phase and frames of a recording
        )

    @property
    def model(self):
        return self.fold.flow

    def record(self, sound: bytes) -> None:
        """Take a WAV (or FLAC, ...) file with one vowel as a start.

        Raises:
            InputError: not a sound file, more than one channel, or shorter or longer than a picture may show.
        """
        try:
            wave, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
        except (soundfile.SoundFileError, TypeError) as error:
            raise InputError(f"no sound file: {error}; give a WAV file") from None
        if wave.ndim > 1:
            raise InputError(f"{wave.shape[1]} channels; give a recording with one")
        if not np.isfinite(wave).all():
            raise InputError("samples that are no sound: not finite; make the recording again")
        if rate != RATE:
            import librosa

            wave = librosa.resample(wave, orig_sr=rate, target_sr=RATE)
        count = int(frames_in(len(wave)))
        if not SHORTEST <= count <= FRAMES or not np.abs(wave).max() > 0:
            raise InputError(
                f"{1000 * len(wave) / RATE:.0f} ms; cut one vowel out, of {SHORTEST} to {FRAMES} ms"
            )
        clip = torch.from_numpy(np.pad(wave, LEAD, "reflect"))
        picture, _ = pictures_of([clip])
        spectrum = spectrum_of(torch.from_numpy(np.pad(wave, (LEAD, EXCERPT - LEAD - len(wave)), "reflect")))
        self.own = self.model.encode(picture, self.setting.seed).flat, spectrum.angle(), count

    def start(self, place: Place) -> tuple[torch.Tensor, torch.Tensor | None, int]:
        """Code ``(1, d)``, phase ``(257, 288)`` or None, and frames of what a place starts from."""
        if place.start == OWN and self.own:
            return self.own
        if place.start is None:
            return place.temperature * random_code(1, self.model.config.size, place.seed), None, FRAMES
        return self.codes[[place.start]], self.phases[place.start], int(self.frames[place.start])

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
        """The picture at a place ``(1, 288, 288)``."""
        return self.model.decode(self.code(place))[0]

    def sound(self, place: Place, picture: torch.Tensor) -> np.ndarray:
        """What the picture at a place sounds like, at 16 kHz, at the level of all sounds of the book."""
        _, phase, frames = self.start(place)
        frames = max(frames, int(self.frames[place.other])) if place.between else frames
        invented = phase is None or not place.true_phase
        wave = griffin_lim(picture, frames=frames) if invented else to_audio(picture, phase, frames=frames)
        return listening_level(wave)

    def readings(self, place: Place, picture: torch.Tensor) -> dict:
        """What is measured at a place: squared norm over dimensions, bits per dimension, posteriors, formants and their tracks."""
        measured = features(picture[None])
        clear = picture[None].nan_to_num(0).clamp(0, 1)
        return {
            "squared norm / d": self.code(place).square().mean().item(),
            "bits per dimension": self.model.bits_per_dim(clear, draws=1).item(),
            "vowel": self.setting.judge.posterior(measured, "phone").iloc[0].to_dict(),
            "sex": self.setting.judge.posterior(measured, "sex").iloc[0].to_dict(),
            "Hz": dict(zip(("f0", "f1", "f2", "f3"), np.exp(measured[0, -4:]).tolist())),
            "tracks": formant_tracks(picture, self.start(place)[2]),
        }

    def still(self):
        """A figure of every move: the first token, one step each way."""
        from .figures import spectrograms

        steps = (-1.0, 0.0, 1.0)
        places = [Place(moves={name: step}) for name in self.moves for step in steps]
        pictures = torch.stack([self.picture(place) for place in places])
        return spectrograms(pictures, [f"{s:+.0f}" if s else self.names[0] for s in steps] * len(self.moves), 3,
                            row_titles=[name.replace(", ", "\n") for name in self.moves])  # fmt: skip

    @cached_property
    def widget(self) -> Controls:
        """Widgets for a running notebook; show ``explorer.widget.box``."""
        return Controls(self)


def formant_tracks(picture: torch.Tensor, frames: int) -> pd.DataFrame:
    """F1 to F3 in Hz (Praat, Burg) of the sound that Griffin-Lim makes of a picture, every 5 ms: columns ms, f1, f2, f3."""
    import parselmouth

    sound = parselmouth.Sound(griffin_lim(picture, iterations=16, frames=frames).astype(np.float64), RATE)
    if sound.duration < 2 * SHORTEST / 1000:
        return pd.DataFrame(columns=["ms", "f1", "f2", "f3"])
    found = sound.to_formant_burg(time_step=0.005, maximum_formant=5500.0)
    times = np.arange(0.015, sound.duration - 0.01, 0.005)
    tracks = {f"f{k}": [found.get_value_at_time(k, time) for time in times] for k in (1, 2, 3)}
    return pd.DataFrame({"ms": 1000 * times} | tracks)


class Controls:
    """The widgets of an explorer. Work is done in a thread of its own, so that none of them ever waits."""

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
        """Where the widgets say the reader is."""
        return Place(
            start=self.start.value, seed=self.seed.value,
            other=self.other.value, between=self.between.value, temperature=self.temperature.value, top=self.top.value, fine=self.fine.value,
            moves={name: one.value for name, one in self.moves.items() if one.value}, true_phase=self.phase.value,
        )  # fmt: skip

    def wait(self, seconds: float = 30.0) -> bool:
        """Wait until everything shown is of the place that the widgets say."""
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
                    self._tell(place)
                self.status.value = ""
            except Exception as error:  # a thread that ends would leave dead widgets behind
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

    def _tell(self, place: Place) -> None:
        readings = self.explorer.readings(place, self.now)
        self.image.value = self._canvas.draw(None, self.now, readings["tracks"])
        rows = [(name, f"{readings[name]:.2f}") for name in ("squared norm / d", "bits per dimension")]
        rows += [(f"F{k}" if k else "F0", f"{readings['Hz'][f'f{k}']:.0f} Hz") for k in range(4)]
        rows += [
            (f"{what} {name}", f"{chance:.0%}")
            for what in ("vowel", "sex")
            for name, chance in readings[what].items()
        ]
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
    """One figure that is drawn again and again: before and after, with formant tracks."""

    def __init__(self):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(6.4, 2.6), dpi=100, layout=None)
        self.canvas, self.lines, self.images = FigureCanvasAgg(self.figure), [], []
        for place, title in enumerate(("before", "after")):
            axis = self.figure.add_axes(
                (0.09 + 0.46 * place, 0.18, 0.42, 0.7), title=title, xlabel="time, ms"
            )
            blank, extent = np.zeros((BINS, FRAMES)), (0, FRAMES, 0, RATE / 2000)
            limits = {"vmin": -FLOOR_DB, "vmax": 0, "cmap": "magma"}
            self.images.append(axis.imshow(blank, origin="lower", aspect="auto", extent=extent, **limits))
            axis.set_yticks(range(0, 9, 2), labels=None if place == 0 else [""] * 5)
        self.figure.axes[0].set_ylabel("frequency, kHz")
        self.lines = [self.figure.axes[1].plot([], [], "w.", ms=3)[0] for _ in range(3)]

    def draw(self, before, after, tracks: pd.DataFrame | None = None) -> bytes:
        """PNG of two pictures; a picture that is None stays as it was drawn last."""
        for image, picture in zip(self.images, (before, after)):
            if picture is not None:
                image.set_data(np.clip(picture[0, :BINS], 0, 1) * FLOOR_DB - FLOOR_DB)
        for place, line in enumerate(self.lines, start=1):
            line.set_data(*(([], []) if tracks is None else (tracks.ms, tracks[f"f{place}"] / 1000)))
        file = io.BytesIO()
        self.canvas.print_png(file, pil_kwargs={"compress_level": 1})
        return file.getvalue()
