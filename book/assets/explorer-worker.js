// The explorer's work: codes and moves -> a code -> the flow's picture -> a sound. Runs in a worker, so the page never waits.

let about, tensors, session, tools;

const HALVES = new Float32Array(65536); // every float16 as a number
for (let bits = 0; bits < 65536; bits++) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) HALVES[bits] = fraction ? NaN : sign * Infinity;
  else HALVES[bits] = sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

const floats = (buffer) => Float32Array.from(new Uint16Array(buffer), (bits) => HALVES[bits]);

// ---- loading

async function fetched(base, name, progress) {
  const response = await fetch(base + name);
  if (!response.ok) throw new Error(`${name}: the server answers ${response.status}`);
  const { bytes, sha256 } = about.files[name];
  const whole = new Uint8Array(bytes);
  let place = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (place + value.length > bytes) throw new Error(`${name} is longer than it should be; load the page again`);
    whole.set(value, place);
    place += value.length;
    progress(value.length);
  }
  if (place !== bytes) throw new Error(`${name} came incomplete; load the page again`);
  if (crypto.subtle) { // only where the page comes by https, or from this machine
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== sha256) throw new Error(`${name} is not the file that this page was made with; load the page again`);
  }
  return whole.buffer;
}

async function load(base) {
  const response = await fetch(`${base}explorer/explorer.json`);
  if (!response.ok) throw new Error(`explorer.json: the server answers ${response.status}`);
  about = await response.json();
  const total = Object.values(about.files).reduce((sum, file) => sum + file.bytes, 0);
  let loaded = 0;
  const progress = (count) => postMessage({ kind: "loading", loaded: (loaded += count), total });
  const names = Object.keys(about.files);
  const buffers = await Promise.all(names.map((name) => fetched(`${base}explorer/`, name, progress)));
  const file = Object.fromEntries(names.map((name, place) => [name, buffers[place]]));
  tensors = {
    codes: floats(file["codes.bin"]),
    moves: new Int8Array(file["moves.bin"]),
    phases: new Int8Array(file["phases.bin"]),
    check: new Uint8Array(file["check.bin"]),
  };
  tools = transformer(about.sound, about.picture);
  postMessage({ kind: "starting" });
  const device = await start(base, file["decode.onnx"]);
  postMessage({ kind: "ready", about, device });
}

// A GPU first, where the browser has one for us and it computes what torch did; else WebAssembly.
async function start(base, model) {
  const adapter = "Suspending" in WebAssembly && navigator.gpu ? await navigator.gpu.requestAdapter().catch(() => null) : null;
  for (const [device, script] of [...(adapter ? [["webgpu", "ort.jspi.min.mjs"]] : []), ["wasm", "ort.wasm.min.mjs"]]) {
    try {
      const ort = await import(`${base}ort/${script}`);
      ort.env.wasm.wasmPaths = `${base}ort/`;
      ort.env.wasm.numThreads = 1;
      ort.env.logLevel = "fatal";
      session = { ort, run: await ort.InferenceSession.create(model.slice(0), { executionProviders: [device] }) };
      const wrong = await difference();
      if (wrong > 0.02) throw new Error(`this browser's ${device} computes another picture than it should (by ${wrong.toFixed(3)})`);
      return device;
    } catch (error) {
      if (device === "wasm") throw error;
    }
  }
}

// Root mean square difference of the first token's picture from torch's.
async function difference() {
  const picture = await decode(tensors.codes.slice(0, about.size));
  const { bins, frames } = about.picture;
  let sum = 0;
  for (let place = 0; place < bins * frames; place++) {
    sum += (Math.min(Math.max(picture[place], 0), 1) - tensors.check[place] / 255) ** 2;
  }
  return Math.sqrt(sum / (bins * frames));
}

// ---- codes and pictures

function code(state) {
  const { size, top } = about;
  const result = new Float32Array(size);
  if (state.start < 0) random(result, state.seed, state.temperature);
  else result.set(tensors.codes.subarray(state.start * size, (state.start + 1) * size));
  if (state.between) {
    const other = tensors.codes.subarray(state.other * size, (state.other + 1) * size);
    for (let k = 0; k < size; k++) result[k] += state.between * (other[k] - result[k]);
  }
  state.moves.forEach((step, move) => {
    if (!step) return;
    const change = tensors.moves.subarray(move * size, (move + 1) * size);
    const length = step * about.moves[move].scale;
    for (let k = 0; k < size; k++) result[k] += length * change[k];
  });
  for (let k = 0; k < size; k++) result[k] *= k < top ? state.top : state.fine;
  return result;
}

// Normal numbers by Box and Muller from a small generator (mulberry32), the same for one seed everywhere.
function random(into, seed, deviation) {
  let word = seed >>> 0;
  const uniform = () => {
    word = (word + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(word ^ (word >>> 15), 1 | word);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  for (let k = 0; k < into.length; k += 2) {
    const radius = deviation * Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    into[k] = radius * Math.cos(angle);
    if (k + 1 < into.length) into[k + 1] = radius * Math.sin(angle);
  }
}

let kept = {}; // the picture that moves start from, until it is another

async function startPicture({ start, seed, temperature }) {
  const key = `${start} ${seed} ${temperature}`;
  const state = { start, seed, temperature, between: 0, moves: [], top: 1, fine: 1 };
  if (kept.key !== key) kept = { key, picture: await decode(code(state)) };
  return kept.picture;
}

async function decode(vector) {
  const { image } = await session.run.run({ code: new session.ort.Tensor("float32", vector, [1, vector.length]) });
  return image.data;
}

// ---- sound

// Short-time transforms of one window length, as the package does them.
function transformer({ fft, window }, { bins, frames }) {
  const lift = (fft - window) / 2;
  const hann = Float64Array.from({ length: fft }, (_, k) =>
    k < lift || k >= lift + window ? 0 : 0.5 - 0.5 * Math.cos((2 * Math.PI * (k - lift)) / window));
  const bits = Math.log2(fft);
  const swapped = Uint16Array.from({ length: fft }, (_, k) => {
    let back = 0;
    for (let bit = 0; bit < bits; bit++) back |= ((k >> bit) & 1) << (bits - 1 - bit);
    return back;
  });
  const cosines = Float64Array.from({ length: fft / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / fft));
  const sines = Float64Array.from({ length: fft / 2 }, (_, k) => Math.sin((2 * Math.PI * k) / fft));
  const real = new Float64Array(fft);
  const imaginary = new Float64Array(fft);

  // In place; sign -1 forward, 1 inverse without the division by fft.
  function transform(sign) {
    for (let k = 0; k < fft; k++) {
      const other = swapped[k];
      if (other > k) {
        [real[k], real[other]] = [real[other], real[k]];
        [imaginary[k], imaginary[other]] = [imaginary[other], imaginary[k]];
      }
    }
    for (let half = 1; half < fft; half *= 2) {
      const stride = fft / (2 * half);
      for (let first = 0; first < fft; first += 2 * half) {
        for (let k = 0; k < half; k++) {
          const c = cosines[k * stride];
          const s = sign * sines[k * stride];
          const a = first + k;
          const b = a + half;
          const re = real[b] * c - imaginary[b] * s;
          const im = real[b] * s + imaginary[b] * c;
          real[b] = real[a] - re;
          imaginary[b] = imaginary[a] - im;
          real[a] += re;
          imaginary[a] += im;
        }
      }
    }
  }

  // What points outside the window would be if a bin at 8 kHz of value 1 were added.
  const highest = Float64Array.from({ length: fft }, (_, k) => (k % 2 ? -1 : 1));
  const outside = hann.reduce((count, value) => count + (value === 0), 0);

  // Centres of the frames, spread evenly over so many samples.
  const centres = (samples) => Array.from({ length: frames }, (_, k) => Math.floor(((k + 0.5) * samples) / frames));

  // Magnitudes and phases (bins x frames) -> so many samples, by weighted overlap-add.
  function added(magnitudes, angles, samples) {
    const sum = new Float64Array(samples + 2 * fft);
    const weight = new Float64Array(samples + 2 * fft);
    centres(samples).forEach((centre, frame) => {
      real.fill(0);
      imaginary.fill(0);
      for (let bin = 0; bin < bins; bin++) {
        const place = bin * frames + frame;
        real[bin] = magnitudes[place] * Math.cos(angles[place]);
        imaginary[bin] = bin ? magnitudes[place] * Math.sin(angles[place]) : 0;
        if (bin) {
          real[fft - bin] = real[bin];
          imaginary[fft - bin] = -imaginary[bin];
        }
      }
      transform(1);
      let left = 0; // the bin at 8 kHz is the one that best makes the points outside the window vanish
      for (let k = 0; k < fft; k++) if (hann[k] === 0) left += real[k] * highest[k];
      for (let k = 0; k < fft; k++) {
        sum[centre + k] += ((real[k] - (left / outside) * highest[k]) / fft) * hann[k];
        weight[centre + k] += hann[k] ** 2;
      }
    });
    return Float64Array.from({ length: samples }, (_, k) => sum[fft / 2 + k] / weight[fft / 2 + k]);
  }

  // Phases (bins x frames) of a sound, written into angles.
  function measured(sound, angles) {
    centres(sound.length).forEach((centre, frame) => {
      for (let k = 0; k < fft; k++) {
        real[k] = (sound[centre - fft / 2 + k] || 0) * hann[k];
        imaginary[k] = 0;
      }
      transform(-1);
      for (let bin = 0; bin < bins; bin++) angles[bin * frames + frame] = Math.atan2(imaginary[bin], real[bin]);
    });
  }

  return { added, measured };
}

function sound(state, picture) {
  const { bins, frames, floor_db: floor } = about.picture;
  const invented = state.start < 0 || !state.truePhase;
  const samples = state.start < 0 ? about.sound.samples : about.tokens[state.start].samples;
  const magnitudes = new Float64Array(bins * frames);
  for (let place = 0; place < magnitudes.length; place++) {
    const level = Math.min(Math.max(picture[place], 0), 1);
    magnitudes[place] = level > 0 ? 10 ** (((level - 1) * floor) / 20) : 0;
  }
  const angles = new Float64Array(bins * frames);
  if (invented) {
    const draw = new Float32Array(angles.length);
    random(draw, 1, 10);
    angles.set(draw);
    for (let round = 0; round < 12; round++) { // Griffin and Lim 1984
      tools.measured(tools.added(magnitudes, angles, samples), angles);
    }
  } else {
    const own = tensors.phases.subarray(state.start * bins * frames);
    for (let place = 0; place < angles.length; place++) angles[place] = (own[place] * Math.PI) / 127;
  }
  return Float32Array.from(tools.added(magnitudes, angles, samples));
}

// ---- messages

onmessage = async ({ data }) => {
  try {
    if (data.kind === "load") await load(data.base);
    else {
      const before = await startPicture(data.state);
      const after = await decode(code(data.state));
      postMessage({ kind: "picture", number: data.number, before, after });
      postMessage({ kind: "sound", number: data.number, wave: sound(data.state, after) });
    }
  } catch (error) {
    postMessage({ kind: "problem", text: error.message || String(error) });
  }
};
