// The page: record or open sound, let the server encode and decode it, show and play both.
import { drawLevels, drawSpectrogram, drawTokens } from "./pictures.js";
import { read, startRecording, toWav } from "./sound.js";

const LONGEST = 120; // seconds of a recording
const $ = (id) => document.getElementById(id);
const players = { original: $("original"), decoded: $("decoded") };
let model = null; // what /v1/models says
let recording = null;
let shown = null; // the result on the page

/** An error whose text is meant for whoever looks at the page. */
class Told extends Error {}

// ---------------------------------------------------------------- state and words

function become(state, text) {
  document.body.dataset.state = state;
  $("status").textContent = text;
  $("record-text").textContent = state === "recording" ? "Stop" : "Record";
  $("record").disabled = state === "loading" || state === "working";
  for (const id of ["open", "example"]) $(id).disabled = state !== "ready";
}

function complain(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? wordsOf(error) : "";
  if (error && !(error instanceof Told)) console.error(error);
}

function wordsOf(error) {
  if (error instanceof Told) return error.message;
  switch (error.name) {
    case "NotAllowedError": return "The browser does not let this page use the microphone. Allow it beside the address, and record again; or open a file.";
    case "NotFoundError": return "There is no microphone. Connect one and record again, or open a file.";
    case "NotReadableError": return "The microphone is in use by another program. Close that one and record again, or open a file.";
    default: return `Something went wrong in the browser: ${error.message}`;
  }
}

const seconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`;
const count = (value) => value.toLocaleString("en");

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Told("The server cannot be reached. See whether it still runs, and try again.");
  }
  if (answer.ok) return answer;
  const error = (await answer.json().catch(() => null))?.error;
  if (answer.status === 503) throw new Told("The server has as much to do as it takes. Wait a moment, and try again.");
  throw Object.assign(new Told(`The server refused it: ${error?.message ?? `status ${answer.status}`}`), { status: answer.status });
}

// ---------------------------------------------------------------- from sound to result

/** Do what may fail, and say so if it does. */
async function attempt(work) {
  complain(null);
  try {
    await work();
  } catch (error) {
    complain(error);
  }
}

/** Do what leads to another result; nothing else can be begun meanwhile. */
async function run(work) {
  await attempt(work);
  if (document.body.dataset.state !== "recording") become("ready", shown ? "" : invitation());
}

const invitation = () => `Record up to ${Math.min(LONGEST, model.max_seconds)} s of speech, open a file, or drop one here.`;

async function toggleRecording() {
  if (recording) return stopRecording();
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Told("Browsers give the microphone only to pages of this very machine, or over HTTPS. Open a file instead, or reach the server as localhost.");
  }
  pause();
  const levels = [];
  become("working", "Waiting for the microphone …");
  recording = await startRecording(model.sample_rate, (samples, time) => {
    const power = samples.reduce((sum, value) => sum + value * value, 0) / samples.length;
    levels.push(Math.max(0, 1 + Math.log10(power + 1e-9) / 5)); // -50 dB to full scale
    if (levels.length % 8 === 0) {
      drawLevels($("level"), levels.filter((_, i) => i % 8 === 0));
      $("status").textContent = `Recording, ${time.toFixed(1)} s`;
    }
    if (time >= Math.min(LONGEST, model.max_seconds - 1)) void run(stopRecording);
  });
  become("recording", "Recording");
}

async function stopRecording() {
  const current = recording;
  recording = null;
  if (!current) return; // stopped already
  become("working", "Resampling …");
  const samples = await current.stop();
  if (!samples.length) throw new Told("The microphone gave no sound. Record a little longer.");
  await process(toWav(samples, model.sample_rate), samples);
}

async function openFile(file) {
  if (!file) return;
  if (file.size > model.max_bytes) {
    throw new Told(`${file.name} has ${count(file.size)} bytes; the server takes at most ${count(model.max_bytes)}.`);
  }
  if (!file.size) throw new Told(`${file.name} is empty.`);
  become("working", "Reading …");
  await process(file, await read(file, model.sample_rate));
}

/** Encode a file, of which `samples` are what the browser reads in it, or null; decode; show. */
async function process(file, samples) {
  pause();
  become("working", "Encoding …");
  const begun = performance.now();
  let answer;
  try {
    answer = await ask("v1/codec/encode", { method: "POST", body: file });
  } catch (error) {
    if (error.status !== 422 || !samples?.length) throw error;
    file = toWav(samples, model.sample_rate); // of a kind that the browser reads, and the server does not
    answer = await ask("v1/codec/encode", { method: "POST", body: file });
  }
  const text = await answer.text();
  const encoded = JSON.parse(text);
  const encodeSeconds = (performance.now() - begun) / 1000;

  become("working", "Decoding …");
  const between = performance.now();
  const wav = await (await ask("v1/codec/decode", { method: "POST", body: text })).blob();
  const decodeSeconds = (performance.now() - between) / 1000;
  const decoded = await read(wav, model.sample_rate);
  if (shown) shown.urls.forEach((url) => URL.revokeObjectURL(url));
  const heard = samples ? toWav(samples, model.sample_rate) : null;
  shown = { file, text, encoded, samples, decoded, encodeSeconds, decodeSeconds };
  shown.urls = [heard, wav].map((blob) => (blob ? URL.createObjectURL(blob) : ""));
  show();
}

// ---------------------------------------------------------------- the result

function show() {
  const { encoded, samples, encodeSeconds, decodeSeconds, urls, file } = shown;
  const length = encoded.n_samples / encoded.sample_rate;
  const nTokens = encoded.n_frames * model.tokens_per_frame;
  [players.original.src, players.decoded.src] = urls;
  $("play-original").disabled = !samples;
  $("about-original").textContent = samples ? `${seconds(length)}, ${file.name ?? "recorded"}` : "This browser cannot play this kind of file.";
  $("about-tokens").textContent = `${count(encoded.n_frames)} frames × ${model.tokens_per_frame}`;
  $("about-decoded").textContent = seconds(length);
  $("axis-end").textContent = seconds(length);
  $("numbers").textContent = encoded.tokens.map((row) => row.join(" ")).join("\n");
  $("save-wav").href = urls[1];
  $("save-silk").hidden = !model.bits_per_frame;

  const facts = [["Tokens", count(nTokens), `${(nTokens / length).toFixed(1)} a second`]];
  if (model.bits_per_frame) {
    const bits = encoded.n_frames * model.bits_per_frame;
    const pcm = 16 * encoded.n_samples * model.n_channels;
    facts.push(["Size", `${count(bits / 8)} bytes`, `1/${Math.round(pcm / bits)} of 16-bit sound`]);
    facts.push(["Bit rate", `${count(Math.round(bits / length))} bit/s`, `16-bit sound: ${count((pcm / length) / 1000)} kbit/s`]);
  }
  facts.push(["Encoding took", seconds(encodeSeconds), `${(length / encodeSeconds).toFixed(0)} × real time`]);
  facts.push(["Decoding took", seconds(decodeSeconds), `${(length / decodeSeconds).toFixed(0)} × real time`]);
  $("facts").replaceChildren(...facts.map(([name, value, more]) => {
    const group = document.createElement("div");
    for (const [tag, text] of [["dt", name], ["dd", value]]) group.append(Object.assign(document.createElement(tag), { textContent: text }));
    group.lastChild.append(Object.assign(document.createElement("small"), { textContent: more }));
    return group;
  }));
  $("result").hidden = false;
  draw();
  move();
}

function draw() {
  if (!shown) return;
  const { encoded, samples, decoded } = shown, rate = encoded.sample_rate;
  const length = encoded.n_samples / rate;
  const canvas = (id) => $(id).querySelector("canvas");
  drawSpectrogram(canvas("seek-original"), samples ?? new Float32Array(0), rate, length);
  drawTokens(canvas("seek-tokens"), encoded.tokens, encoded.frame_samples / rate, length);
  drawSpectrogram(canvas("seek-decoded"), decoded ?? new Float32Array(0), rate, length);
}

// ---------------------------------------------------------------- playing

function pause() {
  Object.values(players).forEach((player) => player.pause());
}

/** Play one sound from where the other was. */
async function play(name) {
  const player = players[name], other = players[name === "original" ? "decoded" : "original"];
  if (!player.paused) return player.pause();
  if (!other.paused) {
    player.currentTime = other.currentTime;
    other.pause();
  }
  await player.play();
}

function seek(name, time) {
  const player = players[name];
  if (!Number.isFinite(player.duration)) return;
  player.currentTime = Math.min(Math.max(time, 0), player.duration);
  move(name);
}

/** Put the lines of the pictures where the sound that was last heard is. */
let last = "original";
function move(name) {
  if (name) last = name;
  const player = players[last], length = shown ? shown.encoded.n_samples / shown.encoded.sample_rate : 1;
  const at = Math.min(player.currentTime / length, 1);
  document.querySelectorAll(".head-line").forEach((line) => { line.style.left = `${100 * at}%`; });
  $("result").classList.toggle("playing", player.currentTime > 0 || !player.paused);
  for (const [id, sound] of [["seek-original", players.original], ["seek-decoded", players.decoded]]) {
    $(id).setAttribute("aria-valuemax", length.toFixed(2));
    $(id).setAttribute("aria-valuenow", sound.currentTime.toFixed(2));
    $(id).setAttribute("aria-valuetext", `${sound.currentTime.toFixed(1)} of ${length.toFixed(1)} seconds`);
  }
  if (!player.paused) requestAnimationFrame(() => move());
}

for (const [name, player] of Object.entries(players)) {
  const button = $(`play-${name}`);
  const pressed = () => {
    button.setAttribute("aria-pressed", String(!player.paused));
    move(player.paused ? undefined : name);
  };
  for (const event of ["play", "pause", "ended"]) player.addEventListener(event, pressed);
  button.addEventListener("click", () => attempt(() => play(name)));
  const picture = $(`seek-${name}`);
  picture.addEventListener("keydown", (event) => {
    const frame = model.frame_samples / model.sample_rate;
    const to = { ArrowLeft: player.currentTime - frame, ArrowRight: player.currentTime + frame, Home: 0, End: player.duration }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    seek(name, to);
  });
}
for (const [id, name] of [["seek-original", "original"], ["seek-tokens", "decoded"], ["seek-decoded", "decoded"]]) {
  $(id).addEventListener("click", (event) => {
    const box = $(id).getBoundingClientRect();
    seek(name, ((event.clientX - box.left) / box.width) * (shown.encoded.n_samples / shown.encoded.sample_rate));
    if (players[name].paused) attempt(() => play(name));
  });
}

// ---------------------------------------------------------------- controls

$("record").addEventListener("click", () => run(toggleRecording));
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  await run(() => openFile($("file").files[0]));
  $("file").value = ""; // so that the same file can be opened again
});
$("example").addEventListener("click", () => run(async () => {
  become("working", "Fetching the example …");
  const blob = await (await ask("example.flac")).blob();
  await openFile(new File([blob], "example.flac"));
}));
$("save-silk").addEventListener("click", () => attempt(async () => {
  const answer = await ask("v1/codec/encode?format=silk", { method: "POST", body: shown.file });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(await answer.blob()), download: "speech.silk" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}));
$("copy").addEventListener("click", () => attempt(async () => {
  if (!navigator.clipboard) throw new Told("This browser does not let the page copy. Open “Tokens as numbers” and copy there.");
  await navigator.clipboard.writeText(JSON.stringify(shown.encoded.tokens));
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy tokens"; }, 2000);
}));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const button = { r: "record", 1: "play-original", 2: "play-decoded" }[event.key.toLowerCase()];
  if (button && !$(button).disabled && (shown || button === "record")) $(button).click();
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragged", kind === "dragover");
    if (kind === "drop" && document.body.dataset.state === "ready") run(() => openFile(event.dataTransfer.files[0]));
  });
}
let redraw = 0;
window.addEventListener("resize", () => {
  clearTimeout(redraw);
  redraw = setTimeout(draw, 150);
});

async function begin() {
  try {
    [model] = (await (await ask("v1/models")).json()).data;
  } catch (error) {
    $("model").textContent = "";
    complain(error);
    become("loading", "");
    return;
  }
  const perSecond = model.sample_rate / model.frame_samples;
  const parts = [model.id, `${model.sample_rate / 1000} kHz`, `${+(perSecond * model.tokens_per_frame).toFixed(2)} tokens a second`];
  if (model.bits_per_frame) parts.push(`${count(Math.round(perSecond * model.bits_per_frame))} bit/s`);
  $("model").textContent = parts.join(" · ");
  become("ready", invitation());
}

void begin();
