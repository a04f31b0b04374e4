"""What is not implemented is refused by name; nothing is guessed."""

import pytest

from tests.ptx.support import HEAD, run_ptx
from tests.ptx.translation.parse import UnsupportedPTX

UNKNOWN = [
    "mul24.lo.s32 %r4, %r1, %r2",
    "add.rn.ftz.f16 %h4, %h1, %h2",
    "fma.rna.f32 %r4, %r1, %r2, %r3",
    "cvt.rs.f16x2.f32 %r4, %r1, %r2, %r3",
    "cvt.rn.satfinite.e4m3x2.f32 %h4, %r1, %r2",
    "ld.global.b128 %r4, [%to]",
    "ld.weird.b32 %r4, [%to]",
    "ld.shared::cluster.b32 %r4, [%shared]",
    "st.async.shared::cluster.b32 [%shared], %r4",
    "atom.global.add.noftz.f16x2 %r4, [%to], %r1",
    "atom.global.inc.u32 %r4, [%to], %r1",
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%shared], [%to], 16, [%shared]",
    "barrier.cluster.arrive.aligned",
    "bar.arrive 0, 32",
    "bar.warp.sync 255",
    "mma.sync.aligned.m16n8k16.row.col.f32.e4m3.e4m3.f32 {%r4}, {%r4}, {%r4}, {%r4}",
    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.f16.f32 {%r4}, {%r4}, {%r4}, {%r4}",
    "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r4, %r5}, [%shared]",
    "wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16 {%r4, %r5}, 0, 0, 1, 1, 1, 0, 0",
    "frobnicate.b32 %r4, %r1",
    "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%shared], 32",
    "setp.eq.f16x2 %p1|%p2, %r1, %r2",
    "mov.u32 %r4, %smid",
    "mov.b64 %d4, %r1",
    "add.s32 %r4, %r1, %d1",
    "add.s32 %r4, %r1, nowhere",
    "shfl.up.b32 %r4, %r1, 1, 0",
    "bra.uni",
]


@pytest.mark.parametrize("instruction", UNKNOWN)
def test_the_instruction_and_its_line_are_named(instruction):
    with pytest.raises(UnsupportedPTX) as caught:
        run_ptx(f"\n{instruction};\n")
    assert f"`{instruction}`" in str(caught.value)
    assert f"line {HEAD.count(chr(10)) + 2}: " in str(caught.value)


@pytest.mark.parametrize(
    "variables", [".shared .align 4 .b8 fixed[16];", ".visible .entry other(.param .u32 x)\n{ ret; }"]
)
def test_what_surrounds_the_kernel_is_refused_too(variables):
    with pytest.raises(UnsupportedPTX):
        run_ptx("", variables=variables)
