"""``transformers``' EncodecModel."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silk_fast.acceleration.table import Library, Replacement, register
from silk_fast.arguments import shown
from silk_fast.codecs.cuts import Chain, Chained, Cuts, Overlapping, reach
from silk_fast.errors import SilkInputError


def replacements() -> list[Replacement]:
    from silk_fast.codecs import encodec_forms as forms
    from silk_fast.codecs.places import quantizer, replacements

    return [*replacements(forms.FORMS, forms.OTHER_PARTS), quantizer(forms.GpuEncodecQuantizer)]


def cuts(model: Any, bandwidth: float | None = None) -> Cuts:
    config = model.config
    bandwidth = config.target_bandwidths[0] if bandwidth is None else bandwidth
    if bandwidth not in config.target_bandwidths:
        known = ", ".join(map(str, config.target_bandwidths))
        raise SilkInputError(f"bandwidth must be one of {known} (kbit/s), got {shown(bandwidth)}")
    if config.chunk_length is not None:
        return _of_chunks(model, bandwidth)
    if config.normalize or not config.use_causal_conv or config.norm_type != "weight_norm":
        raise SilkInputError("an EnCodec that is not causal, or normalises, has no exact cut unless it works in chunks")
    hop, quantizer = config.hop_length, model.quantizer
    front, middle, back = _split(model.encoder.layers)
    encoder = Chain(
        *(front, middle, lambda x: quantizer.encode(back(x), bandwidth).transpose(0, 1)),
        *((reach(front, hop), reach(back, 1)), (hop, 1, 1)),
    )
    first, second, last = _split(model.decoder.layers)
    decoder = Chain(
        *(lambda codes: first(quantizer.decode(codes.transpose(0, 1))), second, last),
        *((reach(first, 1), reach(last, 1)), (1, 1, hop)),
    )
    return Chained(
        *(config.sampling_rate, config.audio_channels, hop, 1),
        strides=(1,),
        join=lambda codes: _output(codes[0][None], [None], 0),
        split=lambda encoded: [encoded.audio_codes[0]],
        encoder=encoder,
        decoder=decoder,
        n_first=1 if config.pad_mode == "constant" else max(*encoder.reaches, *decoder.reaches) + 1,
    )


def _split(layers: Any) -> tuple[nn.Module, Callable, nn.Module]:
    """The layers before the LSTM, it with its state, and the layers after it."""
    at = next(i for i, layer in enumerate(layers) if hasattr(layer, "lstm"))

    def middle(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        x = x.permute(2, 0, 1)
        y, state = layers[at].lstm(x, state)
        return (x + y).permute(1, 2, 0), state

    return nn.Sequential(*layers[:at]), middle, nn.Sequential(*layers[at + 1 :])


def _of_chunks(model: Any, bandwidth: float) -> Cuts:
    """A frame is a chunk, which overlaps the next; results are codes, scales, and how many codes a chunk has."""
    config = model.config
    n_codes = -(-config.chunk_length // config.hop_length)

    def split(encoded: Any) -> list[Tensor]:
        codes = encoded.audio_codes  # [chunks, B, K, F]
        sizes = torch.full((codes.shape[1], len(codes)), codes.shape[-1])
        sizes[:, -1] -= encoded.last_frame_pad_length or 0
        scales = [torch.ones(codes.shape[1], 1) if s is None else s for s in encoded.audio_scales]
        return [codes.permute(1, 2, 3, 0), torch.stack(scales, -1), sizes]

    def join(results: list[Tensor]) -> Any:
        codes, scales, sizes = results
        n_last = int(sizes[0, -1])
        codes = codes if codes.shape[-1] > 1 else codes[:, :, :n_last]
        listed = list(scales.unbind(-1)) if config.normalize else [None] * codes.shape[-1]
        return _output(codes.permute(3, 0, 1, 2), listed, codes.shape[2] - n_last)

    def encode(audio: Tensor) -> list[Tensor]:
        codes, *others = split(model.encode(audio, bandwidth=bandwidth))
        return [F.pad(codes, (0, 0, 0, n_codes - codes.shape[2])), *others]

    def decode(results: list[Tensor]) -> Tensor:
        encoded = join(results)
        options = {"last_frame_pad_length": encoded.last_frame_pad_length}
        return model.decode(encoded.audio_codes, encoded.audio_scales, **options).audio_values

    return Overlapping(
        *(config.sampling_rate, config.audio_channels, config.chunk_stride, 1),
        strides=(1, 1, 1),
        join=join,
        split=split,
        reaches=(1, 1),
        encode=encode,
        decode=decode,
    )


def _output(codes: Any, scales: Any, n_more: int) -> Any:
    from transformers.models.encodec.modeling_encodec import EncodecEncoderOutput

    return EncodecEncoderOutput(codes, scales, n_more)


def sizes(model: Any) -> tuple[int, int]:
    """Codebooks, and the entries of each."""
    return len(model.quantizer.layers), model.config.codebook_size


MODEL = "EncodecModel"
LIBRARY = Library("transformers", "transformers.models.encodec.modeling_encodec", tested=("5.0", "5.24"))
register(replacements, LIBRARY)
