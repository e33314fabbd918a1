"""Kernels of GPU programs, counted by hand."""

import pytest

from alexnet_jax.experiment.ahead_of_time import kernels

PROGRAM = """HloModule jit_f

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%gemm_fusion_dot.1_computation (x: bf16[8,16], w: bf16[16,4]) -> f32[8,4] {
  %x = bf16[8,16]{1,0} parameter(0)
  %w = bf16[16,4]{1,0} parameter(1)
  ROOT %dot.1 = f32[8,4]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%fused (p: f32[8,4]) -> (f32[8,4], f32[8]) {
  %p = f32[8,4]{1,0} parameter(0)
  %zero = f32[] constant(0)
  %sums = f32[8]{0} reduce(%p, %zero), dimensions={1}, to_apply=%add
  ROOT %both = (f32[8,4]{1,0}, f32[8]{0}) tuple(%p, %sums)
}

%body (t: (s32[], f32[100])) -> (s32[], f32[100]) {
  %t = (s32[], f32[100]{0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %v = f32[100]{0} get-tuple-element(%t), index=1
  %twice = f32[100]{0} fusion(%v, %v), kind=kLoop, calls=%fused
  ROOT %next = (s32[], f32[100]{0}) tuple(%i, %twice)
}

ENTRY %main (image: bf16[2,9,9,3], kernel: bf16[4,3,3,3], x: bf16[8,16], w: bf16[16,4]) -> f32[8,4] {
  %image = bf16[2,9,9,3]{3,2,1,0} parameter(0)
  %kernel = bf16[4,3,3,3]{3,2,1,0} parameter(1)
  %x = bf16[8,16]{1,0} parameter(2)
  %w = bf16[16,4]{1,0} parameter(3)
  %conv = (bf16[2,7,7,4]{3,2,1,0}, u8[64]{0}) custom-call(%image, %kernel), window={size=3x3}, custom_call_target="__cudnn$convForward"
  %maps = bf16[2,7,7,4]{3,2,1,0} get-tuple-element(%conv), index=0
  %product = f32[8,4]{1,0} fusion(%x, %w), kind=kCustom, calls=%gemm_fusion_dot.1_computation
  %other = (f32[8,4]{1,0}, s8[32]{0}) custom-call(%x, %w), custom_call_target="__cublas$gemm"
  %both = (f32[8,4]{1,0}, /*index=1*/f32[8]{0}) fusion(%product), kind=kInput, calls=%fused
  %start = f32[8,4]{1,0} all-reduce-start(%product), replica_groups={{0,1}}, to_apply=%add
  %done = f32[8,4]{1,0} all-reduce-done(%start)
  %copy = f32[8,4]{0,1} copy(%done)
  %waited = f32[8,4]{0,1} async-done(%copy)
  %loop = (s32[], f32[100]{0}) while(%begin), condition=%less, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %out = f32[8,4]{1,0} bitcast(%copy)
}
"""


def test_kernels_by_hand():
    found = kernels.count(PROGRAM)
    assert found.counts == {'convolution': 1, 'product': 2, 'fusion': 1 + 5, 'other operation': 1}
    convolution = 2 * (2 * 81 * 3 + 4 * 27 + 2 * 49 * 4) + 64
    product = 2 * (128 + 64) + 4 * 32
    fusion = 4 * (32 + 32 + 8)
    in_loop = 4 * (100 + 100)  # the operand that is named twice is read once
    assert found.accessed == convolution + 2 * product + 32 + fusion + 5 * in_loop + 4 * 2 * 32


def test_a_loop_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match='a loop of unknown length: %loop = '):
        kernels.count(PROGRAM.replace('"known_trip_count"', '"trip_count"'))
