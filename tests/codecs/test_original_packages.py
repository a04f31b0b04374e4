"""The packages of DAC's and EnCodec's authors, in a process where what else they import is a stand-in."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from silk_fast.cpu.library import why_not

STAND_INS = """
import sys, types, warnings
from importlib.machinery import ModuleSpec
import torch
warnings.simplefilter("ignore")

def stand_in(name, **attributes):  # neither package can be imported beside this torch: torchaudio has no build for it
    module = sys.modules[name] = types.ModuleType(name)
    module.__spec__, module.__path__ = ModuleSpec(name, None), []
    vars(module).update(attributes)
    return module

class BaseModel(torch.nn.Module):
    INTERN, EXTERN = [], []

stand_in("torchaudio")
ml = stand_in("audiotools.ml", BaseModel=BaseModel, Accelerator=object)
core = stand_in("audiotools.core", util=None)
stand_in("audiotools", AudioSignal=object, STFTParams=object, ml=ml, core=core)
stand_in("argbind", bind=lambda *a, **k: lambda f: f)

from silk_fast import accelerate_, restore_
from silk_fast.acceleration import swap
swap._why_no_kernels = lambda model: "no card"  # also where Triton's interpreter would serve

def check(model, n_channels, gain):
    for module in model.modules():
        if hasattr(module, "alpha") and isinstance(module.alpha, torch.nn.Parameter):
            torch.nn.init.uniform_(module.alpha, 0.5, 2.0)
        if hasattr(module, "weight_g"):
            module.weight_g.data.mul_(gain)
    audio = 0.3 * torch.randn(2, n_channels, 4001, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = model.encoder(audio)
        expected = model.decoder(latents)
    kinds = [type(module) for module in model.modules()]
    report = accelerate_(model)
    assert any(name == "encoder" for name in report.swapped) and set(report.refused.values()) == {"no card"}, report
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(audio), latents, rtol=0, atol=1e-5 * latents.abs().max().item())
        decoded = model.decoder(latents)
        torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
        assert 0.01 < expected.std() < 2 and not torch.equal(decoded, expected), expected
    restore_(model)
    assert [type(module) for module in model.modules()] == kinds
    with torch.no_grad():
        assert torch.equal(model.decoder(latents), expected)
"""
DESCRIPT = """
import dac
torch.manual_seed(0)
model = dac.DAC(encoder_dim=16, encoder_rates=[2, 5], decoder_dim=64, decoder_rates=[5, 2], n_codebooks=2)
check(model.eval(), 1, 1.2)
"""
ENCODEC = """
from encodec.modules import SEANetDecoder, SEANetEncoder

class Codec(torch.nn.Module):
    def __init__(self, n_channels, **options):
        super().__init__()
        options |= {"n_filters": 8, "ratios": [5, 2], "dimension": 16, "channels": n_channels, "true_skip": False}
        self.encoder, self.decoder = SEANetEncoder(**options), SEANetDecoder(**options)

for n_channels, options in ((1, {"causal": True, "norm": "weight_norm"}), (2, {"norm": "time_group_norm"})):
    torch.manual_seed(0)
    check(Codec(n_channels, **options).eval(), n_channels, 1.7)
"""


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize(
    ("package", "distribution", "check"), [("dac", "descript-audio-codec", DESCRIPT), ("encodec", "encodec", ENCODEC)]
)
def test_models_compute_the_same_and_are_restored(package, distribution, check):
    if find_spec(package) is None:
        pytest.skip(f"no {distribution}: pip install --no-deps {distribution}")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", STAND_INS + check]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
