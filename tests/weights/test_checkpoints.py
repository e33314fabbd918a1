"""PyTorch's checkpoints as they really are: the weights found among all else, and nothing of
the rest run. By hand, so that PyTorch is not needed, and by PyTorch where it is installed."""

import argparse
import collections
import datetime
import enum
import functools
import math
import operator
import pathlib
import pickle
import pickletools
import subprocess
import sys
import types
import warnings
import zipfile

import numpy as np
import pytest

from alexnet_jax.weights import torch_file
from tests.weights import forms, handmade
from tests.weights.handmade import Steps, Tensor
from tests.weights.torch_checkpoints import (
    ARRAYS,
    MOMENTUM,
    MORE,
    STORAGES,
    TENSORS,
    notes,
    read,
    refusal,
)


def named(prefix: str = '', inside: str = '') -> dict[str, Tensor]:
    """The tensors under other names: `inside` stands behind the first part."""
    return {
        f'{prefix}{name.split(".", 1)[0]}.{inside}{name.split(".", 1)[1]}': x
        for name, x in TENSORS.items()
    }


PREFIXES = {
    'plain': named(), 'DataParallel': named('module.'), 'of the features': named('', 'module.'),
    'Lightning': named('model.'), 'compiled': named('_orig_mod.'),
    'compiled DataParallel': named('_orig_mod.module.'),
    'DataParallel compiled': named('module._orig_mod.'),
    'compiled in Lightning': named('model._orig_mod.'), 'deep': named('a.b.net.'),
    'all': named('model._orig_mod.module.', 'module.'),
}  # fmt: skip
PREFIXES['only the features wrapped'] = {
    name.replace('features.', 'features.module.'): x for name, x in TENSORS.items()
}


@pytest.mark.parametrize('name', PREFIXES)
def test_names_of_wrappers_and_larger_programs(name, write_checkpoint):
    for checkpoint in (PREFIXES[name], {'state_dict': PREFIXES[name], 'epoch': 3}):
        assert forms.same(read(write_checkpoint(checkpoint)), ARRAYS)


KEYS = ('state_dict', 'model', 'net', 'model_state_dict', 'network', 'model_state', 'weights',
        'module', 'params', 'generator', 'ema', 'state_dict_ema', 'x y')  # fmt: skip


@pytest.mark.parametrize('key', KEYS)
def test_keys_of_the_weights(key, write_checkpoint):
    optimizer = {'state': {0: {'step': 3, 'exp_avg': MOMENTUM}}, 'param_groups': [{'lr': 0.1}]}
    path = write_checkpoint(
        {'epoch': 3, key: named('module.'), 'optimizer': optimizer, 'best': MOMENTUM}
    )
    assert forms.same(read(path), ARRAYS) and not notes(path)
    assert forms.same(read(write_checkpoint({'a': {'b': {key: TENSORS}}})), ARRAYS)


class Phase(enum.Enum):
    TRAIN = 1


class Custom:
    def __init__(self):
        self.x = self


def with_everything() -> dict:
    """What training programs keep beside weights; all that `pickle` itself knows."""
    return {
        'a namespace': argparse.Namespace(lr=0.1, arch='alexnet', inner=argparse.Namespace(x=1)),
        'a simple namespace': types.SimpleNamespace(x=1), 'NumPy scalar': np.float64(0.5),
        'NumPy whole number': np.int64(7), 'NumPy truth': np.bool_(True),
        'array': np.arange(5.0), 'array of objects': np.array([{}, None], object),
        'structured': np.zeros(2, 'i4,f8'), 'dtype': np.dtype('f4'),
        'random state': np.random.RandomState(0).get_state(),
        'generator': np.random.default_rng(0).bit_generator.state,
        'ordered': collections.OrderedDict(a=1), 'defaults': collections.defaultdict(list, a=[1]),
        'counter': collections.Counter('abc'), 'deque': collections.deque([1, 2], 3),
        'date': datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), 'delta': datetime.timedelta(3),
        'path': pathlib.PurePosixPath('/a/b'), 'member': Phase.TRAIN, 'class': Custom,
        'object': Custom(), 'function': math.sqrt, 'partial': functools.partial(int, base=2),
        'getter': operator.itemgetter(1), 'set': {1, 2}, 'frozen': frozenset({3}),
        'complex': 1 + 2j, 'bytes': b'ab' * 300, 'bytearray': bytearray(b'cd'), 'slice': slice(3),
        'range': range(9), 'none': None, 'large': 1 << 300, 'larger': -(1 << 3000), 'huge': 1e308,
        'tuple keys': {(1, 2): 3, None: 4, 2.5: 5, b'x': 6, True: 7, Phase.TRAIN: 8},
        'nested': [[{'a': ({'b': [set()]},)}]], 'text': 'é\n\x00\U0001f600', 'exception': ValueError('x'),
    }  # fmt: skip


@pytest.mark.parametrize('protocol', range(6))
def test_everything_else_is_passed_over(protocol, write_checkpoint, monkeypatch):
    """In every protocol, and in front of the weights as behind them."""
    monkeypatch.setattr(handmade, 'plain', lambda value: without_frames(value, protocol))
    for name, value in with_everything().items():
        for checkpoint in ({name: value, 'net': TENSORS}, {'net': TENSORS, name: value}):
            if protocol > 2 or not isinstance(value, bytes | bytearray):
                assert forms.same(read(write_checkpoint(checkpoint)), ARRAYS), name


def without_frames(value, protocol: int) -> bytes:
    """The steps of a pickle that can stand anywhere in another: no frames, and numbers in its
    memo that are its own in place of counted ones."""
    content, steps, memo = pickle.dumps(value, protocol=protocol), b'', 0
    ops = list(pickletools.genops(content))
    ends = [at for _, _, at in ops[1:]] + [len(content)]
    for (opcode, _, at), end in zip(ops, ends, strict=True):
        if opcode.name == 'MEMOIZE':
            steps, memo = steps + b'r' + memo.to_bytes(4, 'little'), memo + 1
        elif opcode.name not in ('PROTO', 'FRAME', 'STOP'):
            steps += content[at:end]
    return steps


def test_real_weights_beside_averages(write_checkpoint):
    """Trained weights stand before averages of them, with a note that says so."""
    average = {name: Tensor('9', 4, (2, 2), (2, 1)) for name in TENSORS}
    path = write_checkpoint({'state_dict_ema': average, 'state_dict': TENSORS})
    assert forms.same(read(path), ARRAYS)
    assert notes(path) == ('using state_dict, not state_dict_ema',)
    assert len(read(write_checkpoint({'ema': {'shadow': average}}))) == 3  # where they are alone
    two = {f'{net}.{name}': tensor for net in 'ab' for name, tensor in TENSORS.items()}
    path = write_checkpoint({'model': two, 'ema': average})  # where the others are of two nets
    assert notes(path) == ('using ema, not model',)


def test_weights_that_are_there_twice(write_checkpoint):
    other = {name: Tensor('9', 4, (2, 2), (2, 1)) for name in TENSORS}
    printed = refusal(
        write_checkpoint({'model': TENSORS, 'teacher_2': {'net': other}, 'student': other})
    )
    assert 'weights of the net 2 times: model, student; allowed: one of them' in printed
    path = write_checkpoint(
        {'model': TENSORS, 'net': {'module.' + name: x for name, x in TENSORS.items()}}
    )
    assert 'holds weights of the net 2 times: model, net' in refusal(path)
    printed = refusal(
        write_checkpoint({'features.0.bias': MOMENTUM, 'features.module.0.bias': MOMENTUM})
    )
    assert 'holds features.0.bias twice, once as features.module.0.bias' in printed
    printed = refusal(
        write_checkpoint({**TENSORS, 'a': TENSORS, 'b\n\x1b': TENSORS, 'c': other, 'd': other})
    )
    assert 'the outermost dictionary, a, b\\n\\x1b, c and 1 more' in printed


def test_one_dictionary_under_two_keys(write_checkpoint):
    """The same object is no second one."""
    key_a, key_b = handmade.plain('a'), handmade.plain('b')
    for legacy in (False, True):
        inner = handmade.tree_steps(TENSORS, legacy)
        steps = b'}(' + key_a + inner + b'r\x00\x01\x00\x00' + key_b + b'j\x00\x01\x00\x00u'
        assert forms.same(read(write_checkpoint(Steps(steps))), ARRAYS)


def odd_tensor(function: str) -> Steps:
    return Steps(b'ctorch._utils\n' + function.encode() + b'\n)R')


ODD = {'_rebuild_sparse_tensor': 'sparse_tensor', '_rebuild_qtensor': 'qtensor',
       '_rebuild_nested_tensor': 'nested_tensor', '_rebuild_sparse_csr_tensor': 'sparse_csr_tensor',
       '_rebuild_meta_tensor_no_storage': 'meta_tensor_no_storage'}  # fmt: skip


@pytest.mark.parametrize('function', ODD)
def test_tensors_that_are_not_ordinary(function, write_checkpoint):
    printed = refusal(write_checkpoint({**TENSORS, 'features.3.bias': odd_tensor(function)}))
    assert f'holds features.3.bias as a {ODD[function]}; allowed: an ordinary tensor' in printed
    path = write_checkpoint({'net': TENSORS, 'other': {'x': odd_tensor(function)}})
    assert forms.same(read(path), ARRAYS)


KINDS = {'LongStorage': 'int64', 'BoolStorage': 'bool', 'ComplexFloatStorage': 'complex64',
         'QInt8Storage': 'int8', 'IntStorage': 'int32'}  # fmt: skip


@pytest.mark.parametrize('kind', KINDS)
def test_numbers_that_are_no_floats(kind, tmp_path):
    """Refused as weights; passed over, and their storage with them, anywhere else."""
    tensor = Tensor('9', 2, (2,), (1,), kind=kind)
    size = 2 * np.dtype(KINDS[kind]).itemsize
    for legacy in (False, True):
        for value, read_it in [
            ({'net': TENSORS, 'x': tensor}, True),
            (TENSORS | {'features.3.bias': tensor}, False),
        ]:
            content = b'\x80\x02' + handmade.tree_steps(value, legacy) + b'.'
            path = tmp_path / 'a'
            if legacy:
                sized = {key: (len(x) // 4, x) for key, x in STORAGES.items()}
                handmade.write_legacy(path, content, sized | {'9': (2, bytes(size))})
            else:
                handmade.write_zip(path, content, STORAGES | {'9': bytes(size)})
            if read_it:
                assert forms.same(read(path), ARRAYS)
            else:
                assert f'features.3.bias of {KINDS[kind]}; allowed: float16' in refusal(path)


def untyped(name: str, numbers: int, size: int) -> Steps:
    """A tensor as PyTorch 2.1 and later write types that have no storage of their own."""
    storage = b'(' + handmade.plain('storage') + b'ctorch.storage\nUntypedStorage\n'
    storage += handmade.plain('9') + handmade.plain('cpu') + handmade.plain(size) + b'tQ'
    place = handmade.plain(0) + handmade.plain((numbers,)) + handmade.plain((1,))
    return Steps(
        b'ctorch._utils\n_rebuild_tensor_v3\n(' + storage + place + b'\x89' + handmade.ORDERED_DICT
        + b'ctorch\n' + name.encode() + b'\ntR'
    )  # fmt: skip


def test_tensors_of_untyped_storages(tmp_path):
    path = tmp_path / 'a'
    for name, numbers, printed in [('float32', 4, ''), ('uint16', 8, 'torch.uint16; allowed'),
                                ('float8_e4m3fn', 16, 'torch.float8_e4m3fn'),
                                ('float32', 5, 'shape (5,) in a storage of 4')]:  # fmt: skip
        value = {'features.0.bias': untyped(name, numbers, 16)}
        content = b'\x80\x02' + handmade.tree_steps(value) + b'.'
        handmade.write_zip(path, content, MORE)
        if printed:
            assert printed in refusal(path)
        else:
            assert read(path)['features.0.bias'].tolist() == [0, 1, 2, 3]


def test_persistent_ids_that_are_odd(write_checkpoint):
    """Passed over where the weights do not need them. A part of a storage would be read from
    its beginning: refused."""
    for odd in (None, 3, 'text', (), ('module', 1, 2), [1], {}, ('storage',)):
        value = {'net': TENSORS, 'x': Steps(handmade.tree_steps(odd) + b'Q')}
        path = write_checkpoint(value)
        if odd == ('storage',):
            assert 'makes no sense' in refusal(path)
        elif isinstance(odd, tuple):
            assert forms.same(read(path), ARRAYS)
        else:
            assert 'makes no sense' in refusal(path) or forms.same(read(path), ARRAYS)


def test_a_part_of_a_storage_of_before_2018(tmp_path):
    steps = handmade.tensor_steps(TENSORS['features.0.bias'], legacy=True)
    assert steps.count(b'NtQ') == 1
    steps = steps.replace(b'NtQ', handmade.plain(('7', 1, 1)) + b'tQ')
    content = b'\x80\x02' + handmade.tree_steps({'features.0.bias': Steps(steps)}) + b'.'
    path = handmade.write_legacy(tmp_path / 'a', content, {'1': (2, STORAGES['1'])})
    assert 'as a tensor_v2' in refusal(path)


def test_a_whole_module(write_checkpoint):
    module = Steps(b'ctorchvision.models.alexnet\nAlexNet\n)\x81}b')
    assert 'holds torchvision.models.alexnet.AlexNet; allowed: a state dict' in refusal(
        write_checkpoint(module)
    )


def quantized(torch):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a form of the past
        return torch.quantize_per_tensor(torch.ones(3), 1.0, 0, torch.qint8)


@pytest.mark.thorough
def test_real_checkpoints_of_pytorch(tmp_path):
    torch = pytest.importorskip('torch')
    from tests.weights import torch_forms

    arrays = forms.torchvision_arrays('torchvision', np.random.default_rng(0))
    net = torch_forms.torchvision_net(forms.SHAPES['torchvision'], groups2=1)
    net.load_state_dict({name: torch.from_numpy(x) for name, x in arrays.items()})
    optimizer = torch.optim.Adam(net.parameters())
    sum(x.sum() for x in net.parameters()).backward()
    optimizer.step()
    net.load_state_dict({name: torch.from_numpy(x) for name, x in arrays.items()})
    parallel = torch.nn.DataParallel(net)
    wrapped = torch_forms.torchvision_net(forms.SHAPES['torchvision'], groups2=1)
    wrapped.load_state_dict(net.state_dict())
    wrapped.features = torch.nn.DataParallel(wrapped.features)
    beside = {
        'args': argparse.Namespace(lr=0.1, device=torch.device('cpu')), 'optimizer': optimizer.state_dict(),
        'size': torch.Size([1, 2]), 'dtype': torch.bfloat16, 'best': np.float64(3),
        'generator': torch.get_rng_state(), 'sparse': {'x': torch.eye(3).to_sparse()},
        'ints': torch.arange(3), 'complex': torch.ones(2, dtype=torch.complex64),
        'meta': {'x': torch.ones(3, device='meta')}, 'empty': torch.empty(0), 'time': datetime.datetime.now(),
        'quantized': {'x': quantized(torch)},
        'uint16': torch.ones(3, dtype=torch.uint16), 'scheduler': collections.Counter({1: 2}),
    }  # fmt: skip
    compiled = {f'_orig_mod.{name}': x for name, x in parallel.state_dict().items()}
    for key, state in {
        'state_dict': net.state_dict(), 'model': parallel.state_dict(), 'net': compiled,
        'model_state_dict': wrapped.state_dict(), 'parameters': dict(net.named_parameters()),
        'half': {name: x.half() for name, x in net.state_dict().items()},
        'bfloat16': {name: x.bfloat16() for name, x in net.state_dict().items()},
        'double': {name: x.double() for name, x in net.state_dict().items()},
        'turned': {name: x.flip(0).contiguous().flip(0) for name, x in net.state_dict().items()},
        'columns first': {name: x.mT.contiguous().mT if x.ndim > 1 else x
                          for name, x in net.state_dict().items()},
    }.items():  # fmt: skip
        for zipped in (True, False):
            path = tmp_path / f'a.{"pth.tar" if zipped else "ckpt"}'
            skipped = set() if zipped else {'uint16'}  # the older form has no such storage
            kept = {name: x for name, x in beside.items() if name not in skipped}
            torch.save({**kept, key: state}, path, _use_new_zipfile_serialization=zipped)
            plain = {name: x.float() for name, x in net.state_dict().items()}
            if key in ('half', 'bfloat16'):
                plain = {name: getattr(x, key)().float() for name, x in plain.items()}
            expected = {name: x.numpy() for name, x in plain.items()}
            assert forms.same(read(path), expected), (key, zipped)


def test_a_torchscript_archive_and_the_command_that_helps(tmp_path, monkeypatch):
    torch = pytest.importorskip('torch')
    from tests.weights import torch_forms

    net = torch_forms.torchvision_net(forms.SHAPES['torchvision'], groups2=1)
    path = tmp_path / "a 'net'.pt"
    size = forms.reduced('torchvision').input_size
    torch.jit.trace(net.eval(), torch.zeros(1, 3, size, size)).save(str(path))
    printed = refusal(path)
    assert 'is a TorchScript archive' in printed
    command = printed.partition('this writes: ')[2].replace('python ', f'{sys.executable} ', 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    expected = {name: x.numpy() for name, x in net.state_dict().items()}
    assert forms.same(read(tmp_path / torch_file.STATE_DICT), expected)


def test_an_archive_like_torchscripts(tmp_path):
    path = handmade.write_zip(tmp_path / 'a.pt', b'\x80\x02}.', {})
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('archive/constants.pkl', b'')
    assert 'is a TorchScript archive' in refusal(path)
