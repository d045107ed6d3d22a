// The explorer's page: native controls, two canvases and a play button; the work is done in explorer-worker.js.

(() => {
const root = document.getElementById("explorer-app");
const base = new URL("../_static/", document.baseURI).href;
const find = (name) => root.querySelector(`[data-part="${name}"]`);
const shown = { number: 0, busy: false, late: false, times: [] };
let about, worker, wave, began;

// ---- controls

function control(kind, label, options = {}) {
  const line = document.createElement("div");
  line.className = "vf-control";
  const id = `explorer-${label.replace(/[^a-z0-9]+/gi, "-")}`;
  const title = document.createElement("label");
  title.htmlFor = id;
  title.textContent = label;
  const element = document.createElement(kind);
  element.id = id;
  Object.assign(element, options);
  line.append(title, element);
  if (element.type === "range") {
    const value = document.createElement("output");
    value.htmlFor = id;
    line.append(value);
    const tell = () => (value.textContent = Number(element.value).toFixed(2));
    element.addEventListener("input", tell);
    element.tell = tell;
    tell();
  }
  element.addEventListener("input", moved);
  return { line, element };
}

const slider = (label, min, max, value, step) => control("input", label, { type: "range", min, max, step, value, defaultValue: value });

function choices(label, names, values) {
  const made = control("select", label);
  names.forEach((name, place) => made.element.append(new Option(name, values[place])));
  return made;
}

const controls = {};

function build() {
  const names = about.tokens.map((token) => token.name);
  const numbers = names.map((_, place) => place);
  const add = (group, key, made) => {
    controls[key] = made.element;
    find(group).append(made.line);
  };
  add("from", "start", choices("start from", [...names, "a random code"], [...numbers, -1]));
  add("from", "seed", control("input", "seed of the random code", { type: "number", min: 0, max: 9999, step: 1, value: 0, defaultValue: 0 }));
  add("from", "temperature", slider("its temperature", 0, 1.5, 0.7, 0.05));
  about.moves.forEach(({ name }, place) => add("moves", `move${place}`, slider(name, -3, 3, 0, 0.1)));
  add("towards", "other", choices("towards", names, numbers));
  add("towards", "between", slider("how far", 0, 1, 0, 0.05));
  add("keep", "top", slider("of the coarsest quarter", 0, 1.5, 1, 0.05));
  add("keep", "fine", slider("of the rest", 0, 1.5, 1, 0.05));
  add("keep", "phase", choices("phase of the sound", ["the token's own", "invented (Griffin-Lim)"], ["own", "invented"]));
  controls.other.value = String(Math.min(1, names.length - 1));
  const kind = about.synthetic ? "synthetic vowels" : "recorded vowels";
  find("what").textContent = `Made from ${about.corpus}, ${kind} of people whom the flow ${about.flow} has not met. Tokens: ${about.licence}. Flow: ${about.flow_licence}.`;
}

function state() {
  const number = (key) => Number(controls[key].value);
  return {
    start: number("start"), seed: Math.max(0, Math.round(number("seed"))) || 0, temperature: number("temperature"), other: number("other"),
    between: number("between"), moves: about.moves.map((_, place) => number(`move${place}`)), top: number("top"), fine: number("fine"),
    truePhase: controls.phase.value === "own",
  };
}

// ---- the address holds what differs from the start

function initial(element) {
  if (element.tagName === "SELECT") return element === controls.other ? String(Math.min(1, about.tokens.length - 1)) : element.options[0].value;
  return element.defaultValue;
}

function toAddress() {
  const parts = Object.entries(controls).filter(([, element]) => element.value !== initial(element));
  const text = parts.map(([key, element]) => `${key}=${encodeURIComponent(element.value)}`).join("&");
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [key, element] of Object.entries(controls)) {
    const before = initial(element);
    element.value = given.get(key) ?? before;
    if (element.tagName === "SELECT" && element.selectedIndex < 0) element.value = before; // an address of another corpus
    element.tell?.();
  }
}

// ---- moving: while one move is being worked on, only the last of those that come is kept

function moved() {
  clearTimeout(moved.timer);
  moved.timer = setTimeout(toAddress, 300);
  send();
}

function send() {
  if (shown.busy) {
    shown.late = true;
    return;
  }
  Object.assign(shown, { busy: true, late: false, number: shown.number + 1 });
  began = performance.now();
  worker.postMessage({ kind: "move", number: shown.number, state: state() });
}

function draw(canvas, picture) {
  const { bins, frames } = about.picture;
  const style = getComputedStyle(root);
  const sharp = window.devicePixelRatio || 1;
  const [left, top, right, bottom] = [38, 6, 14, 34];
  const [width, height] = [canvas.clientWidth || 320, 260];
  Object.assign(canvas, { width: width * sharp, height: height * sharp });
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  const pixels = new ImageData(frames, bins);
  for (let bin = 0; bin < bins; bin++) {
    for (let frame = 0; frame < frames; frame++) {
      const level = Math.round(255 * Math.min(Math.max(picture[bin * frames + frame], 0), 1)) || 0;
      pixels.data.set([...about.colours[level], 255], 4 * ((bins - 1 - bin) * frames + frame));
    }
  }
  const small = new OffscreenCanvas(frames, bins);
  small.getContext("2d").putImageData(pixels, 0, 0);
  const [wide, tall] = [width - left - right, height - top - bottom];
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, left, top, wide, tall);
  Object.assign(pen, { fillStyle: style.color, strokeStyle: style.color, font: "12px sans-serif", textAlign: "center" });
  for (let percent = 0; percent <= 100; percent += 25) pen.fillText(percent, left + (wide * percent) / 100, height - bottom + 14);
  pen.fillText("time, % of the duration", left + wide / 2, height - 4);
  pen.textAlign = "right";
  for (let hertz = 0; hertz <= about.sound.rate / 2; hertz += 2000) {
    pen.fillText(hertz, left - 4, top + tall * (1 - hertz / (about.sound.rate / 2)) + 4);
  }
}

function drawBoth() {
  if (!shown.picture) return;
  draw(find("before"), shown.before);
  draw(find("after"), shown.picture);
}

// One loudness for all sounds, faded at the edges, never clipped.
function level(samples) {
  const result = Float32Array.from(samples, (one) => (Number.isFinite(one) ? one : 0));
  const fade = Math.min(about.sound.rate / 200, result.length);
  for (let k = 0; k < fade; k++) {
    const share = Math.sin(((k / Math.max(fade - 1, 1)) * Math.PI) / 2) ** 2;
    result[k] *= share;
    result[result.length - 1 - k] *= share;
  }
  let [energy, peak] = [0, 0];
  for (const one of result) {
    energy += one * one;
    peak = Math.max(peak, Math.abs(one));
  }
  const gain = Math.min(about.sound.rms / Math.max(Math.sqrt(energy / result.length), 1e-9), 0.9 / Math.max(peak, 1e-9));
  return result.map((one) => one * gain);
}

function said() {
  const now = state();
  const steps = now.moves.map((step, place) => (step ? `${about.moves[place].name}: ${step > 0 ? "+" : ""}${step}` : "")).filter(Boolean);
  if (now.between) steps.push(`${Math.round(100 * now.between)} % of the way to ${about.tokens[now.other].name}`);
  const from = now.start < 0 ? `a random code, seed ${now.seed}` : about.tokens[now.start].name;
  return steps.length ? `${from}; ${steps.join("; ")}` : from;
}

function heard({ data }) {
  if (shown.problem) return; // what was under way when it failed tells nothing any more
  if (data.kind === "loading") {
    const done = (count) => (count / 1e6).toFixed(1);
    find("progress").max = data.total;
    find("progress").value = data.loaded;
    find("status").textContent = `loading ${done(data.loaded)} of ${done(data.total)} MB, and the engine (14 MB)`;
  } else if (data.kind === "starting") find("status").textContent = "starting the flow ...";
  else if (data.kind === "ready") {
    about = data.about;
    build();
    fromAddress();
    find("loading").hidden = true;
    find("panel").hidden = false;
    shown.device = data.device;
    shown.readyAfter = performance.now();
    send();
  } else if (data.kind === "picture") {
    shown.before = data.before;
    shown.picture = data.after;
    drawBoth();
    find("said").textContent = said();
  } else if (data.kind === "sound") {
    wave = shown.wave = level(data.wave);
    shown.raw = data.wave;
    shown.times.push(performance.now() - began);
    shown.busy = false;
    find("play").disabled = false;
    if (shown.late) send();
  } else if (data.kind === "problem") failed(data.text);
}

function failed(text) {
  shown.busy = false;
  shown.problem = text;
  find("loading").hidden = false;
  find("progress").hidden = true;
  find("status").textContent = `The explorer cannot run here: ${text}`;
}

// ---- sound, and files of picture and sound

let context;

function play() {
  context = context || new AudioContext({ sampleRate: about.sound.rate });
  context.resume();
  const buffer = context.createBuffer(1, wave.length, about.sound.rate);
  buffer.copyToChannel(wave, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  play.source?.stop();
  play.source = source;
  shown.meter = shown.meter || context.createAnalyser();
  source.connect(shown.meter).connect(context.destination);
  source.start();
}

function wav(samples, rate) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (place, letters) => [...letters].forEach((letter, k) => bytes.setUint8(place + k, letter.charCodeAt(0)));
  text(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true);
  bytes.setUint16(22, 1, true);
  bytes.setUint32(24, rate, true);
  bytes.setUint32(28, 2 * rate, true);
  bytes.setUint16(32, 2, true);
  bytes.setUint16(34, 16, true);
  text(36, "data");
  bytes.setUint32(40, 2 * samples.length, true);
  samples.forEach((one, k) => bytes.setInt16(44 + 2 * k, Math.round(32767 * one), true));
  return new Blob([bytes], { type: "audio/wav" });
}

function keep(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// ---- start

function start() {
  window.vowelflowExplorer = shown;
  find("play").addEventListener("click", play);
  find("save-sound").addEventListener("click", () => keep(wav(wave, about.sound.rate), "vowel.wav"));
  find("save-picture").addEventListener("click", () => find("after").toBlob((blob) => keep(blob, "vowel.png")));
  find("reset").addEventListener("click", () => {
    history.replaceState(null, "", location.pathname + location.search);
    fromAddress();
    moved();
  });
  for (const event of ["resize", "beforeprint", "afterprint"]) window.addEventListener(event, drawBoth); // paper has colours of its own
  window.addEventListener("hashchange", () => {
    if (about) {
      fromAddress();
      send();
    }
  });
  if (location.protocol === "file:") return failed("a page opened as a file may not load others; serve the folder, as make serve does");
  if (typeof WebAssembly !== "object" || typeof Worker !== "function") return failed("this browser has no WebAssembly or no workers");
  worker = new Worker(`${base}explorer-worker.js`, { type: "module" });
  worker.onmessage = heard;
  worker.onerror = (event) => failed(event.message || "its worker did not start");
  worker.postMessage({ kind: "load", base });
}

start();
})();
