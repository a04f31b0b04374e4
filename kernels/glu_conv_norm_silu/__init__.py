"""Middle of a Conformer convolution module: ``y = silu(layer_norm(bias + sum_k weight_k * g_{t - (K - 1) + k}))``.

``g = a * sigmoid(b)``, a and b the halves of x (GLU); the convolution is depthwise and causal, the norm is over
channels. Source: Gulati et al., 2020, with the LayerNorm of Wav2Vec2-BERT (Barrault et al., 2023).

Per frame and channel 3 accesses forward (2 reads, 1 write; eager: about 13; gate, convolution and norm as three
kernels: 7) and 2K + 40 float32 operations; 9 accesses backward. A program owns a segment of frames of one sample, all
channels. Registers decide the tile: a thread keeps K + 3 values for each of its channels, 4 where a frame has 128 or
more, which makes accesses of 16 bytes in float32 and 8 in the others. No loop spills up to 1024 channels and 31 taps.
"""

from .launch import glu_conv_norm_silu

__all__ = ["glu_conv_norm_silu"]
