// Sound in the browser: recording, resampling, reading and writing. Samples are Float32Array, mono.

/** Record until stop(). `heard` is called with each piece of samples and the seconds so far. */
export async function startRecording(rate, heard) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext(); // at the microphone's rate: not every browser takes another one here
  const pieces = [];
  let n = 0;
  try {
    await context.audioWorklet.addModule("recorder.js");
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => {
      pieces.push(data);
      n += data.length;
      heard(data, n / context.sampleRate);
    };
    context.createMediaStreamSource(stream).connect(node);
    await context.resume();
  } catch (error) {
    close();
    throw error;
  }

  function close() {
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  }

  return {
    async stop() {
      close();
      return resample(joined(pieces, n), context.sampleRate, rate);
    },
  };
}

function joined(pieces, n) {
  const samples = new Float32Array(n);
  let position = 0;
  for (const piece of pieces) {
    samples.set(piece, position);
    position += piece.length;
  }
  return samples;
}

/** Resample through an audio context that runs at the rate wanted. */
export async function resample(samples, from, to) {
  if (from === to || !samples.length) return samples;
  const context = new OfflineAudioContext(1, Math.max(1, Math.round((samples.length * to) / from)), to);
  const buffer = context.createBuffer(1, samples.length, from);
  buffer.copyToChannel(samples, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

/** Read a file as far as the browser can, at the rate wanted; null if it cannot. */
export async function read(blob, rate) {
  try {
    const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await blob.arrayBuffer());
    const samples = new Float32Array(buffer.length);
    for (let c = 0; c < buffer.numberOfChannels; c++) {
      const channel = buffer.getChannelData(c);
      for (let i = 0; i < samples.length; i++) samples[i] += channel[i] / buffer.numberOfChannels;
    }
    return samples;
  } catch {
    return null;
  }
}

/** Write a WAV file of 16 bits. */
export function toWav(samples, rate) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, word) => [...word].forEach((letter, i) => bytes.setUint8(at + i, letter.charCodeAt(0)));
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
  for (let i = 0; i < samples.length; i++) {
    bytes.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768))), true);
  }
  return new Blob([bytes], { type: "audio/wav" });
}
