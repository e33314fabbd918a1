"""The counter on handwritten programs, and on compiled steps with numbers by hand."""

import subprocess
import sys

import pytest

from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import PAPER
from alexnet_jax.network.communication import step_traffic
from alexnet_jax.network.variants import with_lrn_across_columns
from alexnet_jax.training import compiled_collectives
from tests.network import parity
from tests.training.test_mesh import TINY

# Eight devices, 4×2: columns are neighbors, {0,1}, ..., and data {0,2,4,6}, {1,3,5,7}.
COLUMN, DATA = '{{0,1},{2,3},{4,5},{6,7}}', '{{0,2,4,6},{1,3,5,7}}'


def program(*lines: str, rest: str = '') -> str:
    body = '\n'.join(f'  {line}' for line in lines)
    return f'HloModule jit_f\n\n{rest}\nENTRY %main.1_spmd (p: f32[8]) -> f32[8] {{\n{body}\n}}\n'


@pytest.mark.parametrize(('line', 'kind', 'axis', 'sent'), [
    # 64 floats made of two parts: 32 sent to the one other.
    (f'f32[8,8]{{1,0}} all-gather(%x), replica_groups={COLUMN}, dimensions={{1}}',
     'all-gather', 'column', 128),
    ('f32[8,8]{1,0} all-gather(%x), replica_groups=[4,2]<=[8], dimensions={1}',
     'all-gather', 'column', 128),
    # Of four: a part is 16 and goes to three.
    (f'f32[64]{{0:T(8)}} all-gather(%x), replica_groups={DATA}, dimensions={{0}}',
     'all-gather', 'data', 192),
    ('f32[64]{0} all-gather(%x), replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}',
     'all-gather', 'data', 192),
    ('(f32[32]{0}, f32[64]{0}) all-gather-start(%x), replica_groups=[4,2]<=[8]',
     'all-gather', 'column', 128),
    ('((f32[32]{0}, bf16[32]{0}), (f32[64]{0}, bf16[64]{0})) all-gather-start(%x, %y),'
     ' replica_groups=[4,2]<=[8]', 'all-gather', 'column', 128 + 64),
    # A quarter of 64 remains: the three others' quarters are sent.
    (f'f32[16]{{0}} reduce-scatter(%x), replica_groups={DATA}, to_apply=%add',
     'reduce-scatter', 'data', 192),
    (f'((f32[64]), f32[16]) reduce-scatter-start(%x), replica_groups={DATA}, to_apply=%add',
     'reduce-scatter', 'data', 192),
    (f'f32[64]{{0}} all-reduce(%x), replica_groups={DATA}, to_apply=%add',
     'all-reduce', 'data', 384),
    (f'f32[64]{{0}} all-reduce-start(%x), replica_groups={DATA}, to_apply=%add',
     'all-reduce', 'data', 384),
    (f'(f32[32]{{0}}, f32[5,6]{{1,0}}, /*index=2*/f32[], pred[4]) all-reduce(%x, %y, %z),'
     f' replica_groups={COLUMN}, to_apply=%add', 'all-reduce', 'column', 4 * 63 + 4),
    ('f32[64]{0} all-reduce(%x), replica_groups={}, to_apply=%add', 'all-reduce', 'both', 448),
    ("f32[64]{0} all-reduce(%x), replica_groups=mesh['a'=4,'b'=2,'c'=1] {'a'}, to_apply=%add",
     'all-reduce', 'data', 2 * 3 / 4 * 256),
    ("f32[64]{0} all-reduce(%x), replica_groups=mesh['a'=2,'b'=2,'c'=2] {'a','b'}, to_apply=%add",
     'all-reduce', 'data', 2 * 3 / 4 * 256),
    ("f32[64]{0} all-reduce(%x), replica_groups=mesh['a'=4,'b'=2] {'b'}, to_apply=%add",
     'all-reduce', 'column', 256),
    ('f32[64]{0} all-reduce(%x), replica_groups=[1,8]<=[8], to_apply=%add',
     'all-reduce', 'both', 448),
    ('f32[64]{0} all-reduce(%x), replica_groups={{0,3},{1,2},{4,7},{5,6}}, to_apply=%add',
     'all-reduce', 'other', 256),
    (f'bf16[64]{{0}} all-to-all(%x), replica_groups={DATA}', 'all-to-all', 'data', 96),
    # Half of the devices send 256 bytes: 128 on average.
    ('f32[64]{0} collective-permute(%x), source_target_pairs={{0,1},{2,3},{4,5},{6,7}}',
     'collective-permute', 'column', 128),
    ('(f32[64]{0}, f32[64]{0}, u32[], u32[]) collective-permute-start(%x),'
     ' source_target_pairs={{0,2},{2,4},{4,6},{6,0},{1,3},{3,5},{5,7},{7,1}}',
     'collective-permute', 'data', 256),
    ('f32[64]{0} collective-permute(%x), source_target_pairs={{0,3}}',
     'collective-permute', 'both', 32),
])  # fmt: skip
def test_every_form_of_a_collective(line, kind, axis, sent):
    metadata = 'metadata={op_name="jit(f)/transpose(jvp())/all_reduce"}'
    (found,) = compiled_collectives.count(program(f'%x.1 = {line}, {metadata}'), (4, 2))
    assert (found.collective, found.axis, found.sent) == (kind, axis, sent)
    assert found.times == 1 and found.backward


def test_what_is_no_exchange():
    lines = (
        '%a = f32[64] all-reduce(%x), replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}',
        '%b = f32[64] all-gather-done(%a), metadata={op_name="jit(f)/all-gather(x)"}',
        'ROOT %all-reduce.2 = f32[64] add(%a, %b)',
    )
    unused = '%never (p: f32[8]) -> f32[8] {\n  %r = f32[8] all-reduce(%p), replica_groups={}\n}\n'
    assert compiled_collectives.count(program(*lines, rest=unused), (4, 2)) == []


LOOP = """%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}
%body.3 (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %r.1 = f32[8] all-reduce(%p), replica_groups={}, to_apply=%add
  %c.1 = f32[8] call(%r.1), to_apply=%inner
}
%inner (p: f32[8]) -> f32[8] {
  ROOT %g.1 = f32[8] all-gather(%p), replica_groups=[4,2]<=[8]
}
"""


PIECE = """%{name} (p: f32[8], q: f32[8]) -> f32[8] {{
  %r.{name} = f32[8] all-reduce(%p), replica_groups={{}}, frontend_attributes={{chain_id="{chain}"}}
  ROOT %m.{name} = f32[8] multiply(%q, %q)
}}
"""


def test_a_collective_sent_in_pieces_is_one():
    """Two of them, the first in three pieces, each in a fusion with another operation."""
    pieces = [('start', 0), ('step', 0), ('done', 0), ('other', 1)]
    rest = ''.join(PIECE.format(name=name, chain=chain) for name, chain in pieces)
    lines = [
        f'%f.{name} = f32[8] fusion(%x, %y), kind=kCustom, calls=%{name}' for name, _ in pieces
    ]
    found = compiled_collectives.count(program(*lines, rest=rest), (4, 2))
    assert [(one.collective, one.sent) for one in found] == 2 * [('all-reduce', 2 * 7 / 8 * 32)]


BACK = 'metadata={op_name="jit(f)/transpose(jvp())/conv_general_dilated"}'
CONVOLUTIONS = {
    'tpu': '%c.1 = f32[3,3] fusion(%x), kind=kOutput, calls=%convolves',
    'gpu': f'%c.1 = (f32[3,3]) custom-call(%x), custom_call_target="__cudnn$convBackwardFilter", {BACK}',
    'cpu': f'%c.1 = f32[3,3] convolution(%x, %y), window={{size=3x3}}, {BACK}',
}  # fmt: skip


@pytest.mark.parametrize('platform', CONVOLUTIONS)
def test_what_starts_before_the_last_convolution_is_sent_early(platform):
    """Three quarters: 48 of 64 numbers; neither the scores count, nor a convolution forward."""
    rest = f'%convolves (p: f32[8]) -> f32[8] {{\n  ROOT %r = f32[8] convolution(%p), {BACK}\n}}\n'

    def summed(numbers: int, way: str) -> str:
        return f'%r.{numbers} = f32[{numbers}] all-reduce(%x), replica_groups={DATA}{way}'

    forward, back = (
        f', metadata={{op_name="jit(f)/{way}/psum"}}' for way in ('jvp()', 'transpose()')
    )
    after = BACK.replace('transpose(jvp())', 'jvp()')
    lines = [
        summed(999, forward), summed(48, back), CONVOLUTIONS[platform], summed(16, ''),
        f'%d.1 = f32[3,3] convolution(%x, %y), {after}',
    ]  # fmt: skip
    early = compiled_collectives.sent_early
    assert early(program(*lines, rest=rest), (4, 2)) == 48 / 64
    assert early(program(*lines[1:3], rest=rest), (4, 2)) == 1
    assert early(program(lines[0], lines[2], rest=rest), (4, 2)) is None
    assert early(program(lines[1], lines[4], rest=rest), (4, 2)) is None


def test_loops_run_their_collectives_as_often_as_they_turn():
    loop = '%w = (s32[], f32[8]) while(%t), condition=%cond.2, body=%body.3'
    known = loop + ', backend_config={"known_trip_count":{"n":"5"}}'
    found = compiled_collectives.count(program(known, known, rest=LOOP), (4, 2))
    assert [(one.collective, one.times) for one in found] == 2 * [
        ('all-reduce', 5),
        ('all-gather', 5),
    ]
    with pytest.raises(ValueError, match='unknown length'):
        compiled_collectives.count(program(loop, rest=LOOP), (4, 2))
    branches = '%i = f32[8] conditional(%p, %x), branch_computations={%inner, %inner}'
    assert len(compiled_collectives.count(program(branches, rest=LOOP), (4, 2))) == 2


def test_groups_in_a_form_that_is_not_known():
    line = '%x = f32[8] all-reduce(%x), replica_groups=@unheard_of'
    with pytest.raises(ValueError, match='replica_groups'):
        compiled_collectives.count(program(line), (4, 2))


def counted(net, classes, mesh, batch):
    compiled = compiled_collectives.compile_step(
        AlexNet(net, classes), device_mesh.make_mesh(*mesh), batch, parity.QUICK
    )
    return compiled_collectives.count(compiled.as_text() or '', mesh)


def test_neighbors_across_columns_are_the_only_permutes():
    """Two maps to the left and right at two layers, forward and back."""
    found = counted(with_lrn_across_columns(TINY, 'across'), 10, (1, 2), 16)
    permutes = [one for one in found if one.collective == 'collective-permute']
    assert [one.backward for one in permutes] == [False] * 4 + [True] * 4
    assert {one.axis for one in permutes} == {'column'}


def test_the_paper_s_net_sends_the_least():
    """Compiled on 2×2: at most five collectives of columns each way."""
    found = counted(PAPER, 1000, (2, 2), 8)
    least = step_traffic(PAPER, 1000, (2, 2), 8)
    for axis, allowed in (('column', 4 * 242_688), ('data', 4 * 30_482_612)):
        sent = sum(one.times * one.sent for one in found if one.axis == axis)
        assert sent == sum(one.sent for one in least if one.axis == axis)
        assert sent <= {'column': 1.05, 'data': 1.01}[axis] * allowed
    assert {one.axis for one in found} == {'column', 'data'}
    assert {one.collective for one in found} == {'all-gather', 'reduce-scatter', 'all-reduce'}
    for backward in (False, True):
        each_way = [one for one in found if one.axis == 'column' and one.backward == backward]
        assert sum(one.times for one in each_way) <= 5


@pytest.mark.slow
@pytest.mark.parametrize(('mesh', 'batch'), [('4x2', 1024), ('32x2', 64)])
def test_the_command_on_more_devices_than_the_tests_have(mesh, batch, monkeypatch):
    monkeypatch.delenv('XLA_FLAGS')
    command = [sys.executable, '-m', 'alexnet_jax.network', 'paper', '--mesh', mesh]
    done = subprocess.run(
        [*command, '--batch', str(batch)], capture_output=True, text=True, check=True
    )
    rows = {tuple(line.split()[:2]): line.split()[-5:] for line in done.stdout.splitlines() if line}
    data = int(mesh.split('x')[0])
    sent = f'{batch // data * 230_304:,}'
    assert rows['column', 'total'] == ['4', '3', sent, sent, '1.0000']
    sent = f'{2 * (data - 1) * 4 * (30_483_112 + 4) // data:,}'
    assert rows['data', 'total'][2:] == [sent, sent, '1.0000']
