// Pictures on canvases: spectrograms, tokens, and the level while recording.

const SIZE = 1024; // samples of a spectrum
const RANGE = 75; // dB from the loudest to the ground of the picture
const STOPS = [[13, 20, 32], [32, 52, 92], [42, 104, 128], [92, 158, 140], [214, 196, 138], [252, 243, 214]];
const PALETTE = Uint8Array.from({ length: 3 * 256 }, (_, i) => mixed(STOPS, Math.floor(i / 3) / 255)[i % 3]);

function mixed(stops, at) {
  const place = Math.min(Math.max(at, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(place), stops.length - 2);
  return stops[i].map((value, c) => value + (stops[i + 1][c] - value) * (place - i));
}

/** Make a canvas as sharp as the screen; returns its context and size. */
function prepared(canvas) {
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  return { context: canvas.getContext("2d"), width: canvas.width, height: canvas.height, scale };
}

/** Fourier transform in place, of a length that is a power of two. */
function transform(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const angle = (-2 * Math.PI * k) / size;
      const c = Math.cos(angle), s = Math.sin(angle);
      for (let a = k; a < n; a += size) {
        const b = a + size / 2;
        const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
        re[b] = re[a] - x;
        im[b] = im[a] - y;
        re[a] += x;
        im[a] += y;
      }
    }
  }
}

const mel = (hertz) => Math.log1p(hertz / 700);
const hertz = (mels) => 700 * Math.expm1(mels);

/** Draw the spectrogram of samples over so many seconds; frequencies by the mel scale, low ones below. */
export function drawSpectrogram(canvas, samples, rate, seconds) {
  const { context, width, height, scale } = prepared(canvas);
  const hann = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
  const bins = Array.from({ length: height }, (_, y) => {
    const at = (hertz((mel(rate / 2) * (height - 1 - y)) / (height - 1)) * SIZE) / rate;
    return Math.min(at, SIZE / 2 - 1);
  });
  const levels = new Float32Array(width * height);
  const re = new Float32Array(SIZE), im = new Float32Array(SIZE), power = new Float32Array(SIZE / 2 + 1);
  let loudest = -Infinity;
  for (let x = 0; x < width; x++) {
    const start = Math.round(((x + 0.5) / width) * seconds * rate - SIZE / 2);
    for (let i = 0; i < SIZE; i++) re[i] = (samples[start + i] || 0) * hann[i];
    im.fill(0);
    transform(re, im);
    for (let k = 0; k <= SIZE / 2; k++) power[k] = 10 * Math.log10(re[k] * re[k] + im[k] * im[k] + 1e-9);
    for (let y = 0; y < height; y++) {
      const k = Math.floor(bins[y]), part = bins[y] - k;
      const level = power[k] * (1 - part) + power[k + 1] * part;
      levels[y * width + x] = level;
      if (level > loudest) loudest = level;
    }
  }
  const floor = Math.max(loudest, 0) - RANGE; // silence stays dark
  const image = context.createImageData(width, height);
  levels.forEach((level, i) => paint(image.data, i, (level - floor) / RANGE));
  context.putImageData(image, 0, 0);
  context.font = `${11 * scale}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.shadowColor = "#000";
  context.shadowBlur = 4 * scale;
  context.fillStyle = "#e4e8ea";
  for (const tick of [1000, 2000, 4000, 8000].filter((tick) => tick < 0.8 * rate / 2)) {
    const y = (height - 1) * (1 - mel(tick) / mel(rate / 2));
    context.fillText(`${tick / 1000} kHz`, 7 * scale, y);
  }
}

function paint(data, i, at) {
  const colour = 3 * Math.round(255 * Math.min(Math.max(at, 0), 1));
  data.set(PALETTE.subarray(colour, colour + 3), 4 * i);
  data[4 * i + 3] = 255;
}

/** Draw rows of tokens, a column each, over so many seconds; a value's colour is its share of the largest in its row. */
export function drawTokens(canvas, rows, secondsPerFrame, seconds) {
  const { context, width, height, scale } = prepared(canvas);
  const nTokens = rows[0].length;
  const largest = rows[0].map((_, k) => rows.reduce((most, row) => Math.max(most, row[k]), 1));
  const step = (secondsPerFrame / seconds) * width, cell = height / nTokens;
  const gap = step > 6 * scale ? scale : 0;
  context.fillStyle = "#0d1420";
  context.fillRect(0, 0, width, height);
  rows.forEach((row, f) => row.forEach((token, k) => {
    const [r, g, b] = mixed(STOPS, 0.12 + 0.88 * (token / largest[k]));
    context.fillStyle = `rgb(${r}, ${g}, ${b})`;
    context.fillRect(f * step, k * cell, step - gap, cell - (cell > 4 * scale ? scale : 0));
  }));
}

/** Draw levels 0 to 1, the newest at the right, as bars. */
export function drawLevels(canvas, levels) {
  const { context, width, height, scale } = prepared(canvas);
  const step = 5 * scale, n = Math.floor(width / step);
  context.fillStyle = getComputedStyle(canvas).color;
  levels.slice(-n).reverse().forEach((level, i) => {
    const bar = Math.max(2 * scale, Math.min(1, level) * height);
    context.fillRect(width - (i + 1) * step, (height - bar) / 2, 3 * scale, bar);
  });
}
