// Passes what the microphone gives to the page, mixed down to one channel.
class Recorder extends AudioWorkletProcessor {
  process([channels]) {
    if (channels.length) {
      const mixed = new Float32Array(channels[0]);
      for (let c = 1; c < channels.length; c++) channels[c].forEach((value, i) => { mixed[i] += value; });
      if (channels.length > 1) mixed.forEach((value, i) => { mixed[i] = value / channels.length; });
      this.port.postMessage(mixed, [mixed.buffer]);
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
