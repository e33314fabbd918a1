"""Files of PyTorch made to run code, to fill the memory or to take for ever."""

import inspect
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from alexnet_jax.weights import torch_file
from tests.weights import forms, handmade
from tests.weights.handmade import Steps, Tensor
from tests.weights.torch_checkpoints import ARRAYS, STORAGES, TENSORS, read, refusal

BOMBS = {
    'memo': b']q\x00' + b'(h\x00h\x00e0h\x00' * 50_000,
    'laughs': b'K\x01' + b''.join(b'q%c0h%ch%c\x86' % (n, n, n) for n in range(1, 100)),
    'laughing dicts': b'}' + b''.join(
        b'q%c0}(' % n + handmade.plain('a') + b'h%c' % n + handmade.plain('b') + b'h%cu' % n
        for n in range(1, 60)
    ),
    'deep lists': b']' * 200_000 + b'a' * 199_999,
    'deep dicts': b''.join([b'}K\x01'] * 150_000) + b'N' + b's' * 150_000,
    'deep tuples': b')' + b'\x85' * 500_000,
    'a dict that holds itself': b'}q\x00' + handmade.plain('a') + b'h\x00s',
    'large tuple': b'(' + b'N' * 900_000 + b't',
    'dicts': b'(' + b'}' * 900_000 + b't',
    'long number': b'\x8b' + (4_000_000).to_bytes(4, 'little') + b'\x7f' * 4_000_000,
    'long numbers': (b'\x8b' + (40_000).to_bytes(4, 'little') + b'\x7f' * 40_000 + b'0') * 100 + b'N',
    'a number of digits': b'L' + b'9' * 4_000 + b'L\n',
    'long text': b'X' + (4_000_000).to_bytes(4, 'little') + b'\xf0\x9f\x98\x80' * 1_000_000,
}  # fmt: skip


LIES = {
    'text longer than the file': b'X\xff\xff\xff\x7f',
    'bytes longer than the file': b'\x8e' + (1 << 62).to_bytes(8, 'little'),
    'number longer than the file': b'\x8b\xff\xff\xff\x7f',
    'number of a length below 0': b'\x8b\xff\xff\xff\xff',
    'a number of too many digits': b'L' + b'9' * 100_000 + b'L\n',
    'a frame longer than the file': b'\x95' + (1 << 62).to_bytes(8, 'little'),
    'no such opcode': b'\xff', 'a mark that is missing': b't', 'nothing to call': b'R',
    'nothing to get': b'h\x77', 'nothing to pop': b'0' * 9, 'cut short': b'(((',
}  # fmt: skip


@pytest.mark.thorough
def test_bombs_and_lies_take_no_memory_and_no_time(tmp_path):
    """All of them in one process of bounded memory, each beside weights."""
    for name, steps in (BOMBS | LIES).items():
        content = b'\x80\x02}(' + handmade.plain('x') + steps + handmade.plain('net')
        content += handmade.tree_steps(TENSORS) + b'u.'
        handmade.write_zip(tmp_path / name, content, STORAGES)
    command = [sys.executable, '-m', 'tests.weights.bombs', str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    errors = json.loads(done.stdout)
    assert errors['outcomes'] == dict.fromkeys(BOMBS, 'read') | dict.fromkeys(LIES, 'refused')
    assert errors['grown'] < 1 << 29


def test_a_size_of_too_many_bits(write_checkpoint):
    """Its products would take minutes, and it cannot be printed."""
    wide = b'\x8b' + (1 << 20).to_bytes(4, 'little') + b'\x7f' * (1 << 20)
    for legacy in (False, True):
        steps = handmade.tensor_steps(TENSORS['features.0.weight'], legacy)
        changed = steps.replace(handmade.plain((2, 3, 2, 2)), b'(' + wide * 4 + b't')
        assert changed != steps
        assert 'makes no sense' in refusal(write_checkpoint({'features.0.weight': Steps(changed)}))


def test_nothing_of_this_process_changes(write_checkpoint):
    """No module is imported that a pickle names, and nothing of one is called."""
    before = set(sys.modules)
    harmful = {
        'hub': b'ctorch.hub\nload\n(' + handmade.plain('a/b') + handmade.plain('c') + b'tR',
        'import': b'cantigravity\nx\n)R', 'getattr': b'cbuiltins\ngetattr\ncos\nsystem\n'
        + handmade.plain('x') + b'\x86R)R', 'exec': b'cbuiltins\nexec\n' + handmade.plain('1/0')
        + b'\x85R', 'extension': b'\x82\x07', 'setstate': b'ctests.weights.harm\nX\n)\x81}b',
        'reconstruct': b'cnumpy.core.multiarray\n_reconstruct\ncos\nsystem\n' + handmade.plain('x')
        + b'\x86R(K\x01)cos\nsystem\n\x89' + handmade.plain('x') + b'tb',
        'reduce of a result': b'cos\nsystem\n)R)R)R', 'persistent': b'cos\nsystem\nQ',
        'typed': b'ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\ncos\nsystem\n)NtR',
        'a key': b'}cos\nsystem\n)RNs', 'a dict of a name': b'ccollections\nOrderedDict\n(cos\nsystem\ntR',
    }  # fmt: skip
    read_them = 0
    for name, steps in harmful.items():
        path = write_checkpoint({'x': Steps(steps), 'net': TENSORS})
        if name == 'persistent':
            assert 'makes no sense' in refusal(path)
        else:
            assert forms.same(read(path), ARRAYS), name
            read_them += 1
    assert read_them == len(harmful) - 1
    assert set(sys.modules) == before


def test_pickles_are_read_without_any_call_of_python():
    """The machine has no way to a name: neither an import, nor a look-up, nor a call."""
    from alexnet_jax.weights import pickled, tensors

    for module in (pickled, tensors, torch_file):
        source = inspect.getsource(module)
        for word in ('importlib', '__import__', 'eval(', 'exec(', 'pickle.load', 'find_class'):
            assert word not in source, word


def test_memory_is_that_of_the_weights(tmp_path):
    """An optimizer's numbers are not read."""
    big = np.zeros(32 << 20, np.uint8)
    value = {
        'net': TENSORS,
        'optimizer': Tensor('9', big.size, (big.size,), (1,), kind='ByteStorage'),
    }
    content = b'\x80\x02' + handmade.tree_steps(value) + b'.'
    path = handmade.write_zip(tmp_path / 'a', content, STORAGES | {'9': big.tobytes()})
    tracemalloc.start()
    try:
        assert forms.same(read(path), ARRAYS)
        assert tracemalloc.get_traced_memory()[1] < big.size / 8
    finally:
        tracemalloc.stop()
