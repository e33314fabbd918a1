"""PyTorch's files: by hand, by PyTorch itself, and with pickles that would do harm."""

import pickle
import struct
import zipfile

import numpy as np
import pytest

from tests.weights import forms, handmade
from tests.weights.handmade import Tensor
from tests.weights.torch_checkpoints import read, refusal

VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
BYTES = VALUES.tobytes()


def write(path, form: str, tensors: dict[str, Tensor], storages: dict[str, bytes], itemsize=4):
    pickled = handmade.state_dict(tensors.items(), form == 'legacy')
    return write_pickle(path, form, pickled, storages, itemsize)


def write_pickle(path, form: str, pickled: bytes, storages={'0': BYTES}, itemsize=4):  # noqa: B006
    if form == 'zip':
        return handmade.write_zip(path, pickled, storages)
    sized = {key: (len(content) // itemsize, content) for key, content in storages.items()}
    return handmade.write_legacy(path, pickled, sized)


@pytest.fixture(params=['zip', 'legacy'])
def form(request) -> str:
    return request.param


def test_arrays_that_are_parts_of_a_storage(form, tmp_path):
    tensors = {
        'whole': handmade.whole('0', VALUES),
        'turned': Tensor('0', 24, (4, 6), (1, 4)),
        'part': Tensor('0', 24, (2, 3), (6, 1), offset=5),
        'one': Tensor('0', 24, (), (), offset=23),
        'thin': Tensor('1', 3, (3, 1, 1), (1, 3, 1 << 70)),
    }
    storages = {'0': BYTES, '1': BYTES[:12]}
    found = read(write(tmp_path / 'a.pth', form, tensors, storages))
    flat = VALUES.ravel()
    expected = {
        'whole': VALUES, 'turned': flat.reshape(6, 4).T, 'one': flat[23],
        'part': np.array([flat[5:8], flat[11:14]]), 'thin': flat[:3].reshape(3, 1, 1),
    }  # fmt: skip
    assert forms.same(found, expected)


@pytest.mark.parametrize(('kind', 'numbers'), [
    ('HalfStorage', np.array([1.5, -2, 3], '<f2')),
    ('BFloat16Storage', (np.array([1.5, -2, 3], '<f4').view('<u4') >> 16).astype('<u2')),
    ('DoubleStorage', np.array([1.5, -2, 3], '<f8')),
])  # fmt: skip
def test_other_floats_come_as_float32(form, kind, numbers, tmp_path):
    tensors = {'x': Tensor('0', 3, (3,), (1,), kind=kind)}
    path = write(tmp_path / 'a.pth', form, tensors, {'0': numbers.tobytes()}, numbers.itemsize)
    assert forms.same(read(path), {'x': np.array([1.5, -2, 3], np.float32)})


@pytest.mark.parametrize('kind', ['FloatStorage', 'HalfStorage', 'BFloat16Storage'])
def test_a_big_endian_archive(kind, tmp_path):
    content = {'FloatStorage': '3fc00000', 'HalfStorage': '3e00', 'BFloat16Storage': '3fc0'}[kind]
    pickled = handmade.state_dict([('x', Tensor('0', 1, (1,), (1,), kind=kind))])
    storages = {'0': bytes.fromhex(content)}
    path = handmade.write_zip(tmp_path / 'a.pth', pickled, storages, byteorder=b'big')
    assert read(path)['x'] == 1.5
    path = handmade.write_zip(tmp_path / 'b.pth', pickled, storages, byteorder=b'odd')
    assert 'byteorder' in refusal(path)


def test_parameters_as_pytorch_wrote_them_before(tmp_path):
    """An OrderedDict of Python 2 has its items as its argument."""
    tensor = handmade.tensor_steps(handmade.whole('0', VALUES), legacy=True)
    tensor = tensor.replace(b'_rebuild_tensor_v2', b'_rebuild_tensor').replace(
        b'\x89' + handmade.ORDERED_DICT, b''
    )
    parameter = b'ctorch.nn.parameter\nParameter\n(' + tensor + b'\x88tR(\x88\x89}tb'
    pickled = b'\x80\x02ccollections\nOrderedDict\n(](](U\x01a' + parameter + b'eetR.'
    path = handmade.write_legacy(tmp_path / 'a.pth', pickled, {'0': (24, BYTES)})
    assert forms.same(read(path), {'a': VALUES})


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_what_pytorch_writes(form, protocol, tmp_path):
    torch = pytest.importorskip('torch')
    base = torch.arange(24.0)
    state = {
        'parameter': torch.nn.Parameter(torch.randn(2, 1, 3)), 'turned': torch.randn(3, 4).t(),
        'shared': base[2:8].view(2, 3), 'every third': base[::3], 'half': torch.randn(5).half(),
        'bfloat16': torch.randn(2, 2).bfloat16(), 'double': torch.randn(3).double(),
        'number': torch.tensor(3.0),
    }  # fmt: skip
    expected = {name: x.detach().float().numpy() for name, x in state.items()}
    wrapped = {f'module.{name}': x for name, x in state.items()}
    checkpoint = {'epoch': 3, 'lr': 0.1, 'best': torch.tensor(3), 'state_dict': wrapped}
    path = tmp_path / 'a.pth'
    for saved in (state, checkpoint):
        how = {'_use_new_zipfile_serialization': form == 'zip', 'pickle_protocol': protocol}
        torch.save(saved, path, **how)
        assert forms.same(read(path), expected)


@pytest.mark.parametrize('name', ['a long name', 'many names', 'a list again and again'])
def test_steps_that_make_much_of_few_bytes(form, name, tmp_path):
    """Names put together, and lists copied; a file that does it once is read."""
    text = [b'X' + struct.pack('<I', n) + b'm' * n for n in (1000, 900)]
    names = b''.join(b'X\x02\x00\x00\x00' + b'%02d' % n + b'q' + bytes([n]) for n in range(40))
    modules = b''.join(text[1][:-2] + b'%02d' % n + b'q' + bytes([n]) for n in range(40, 80))
    pairs = b''.join(b'J' + struct.pack('<i', n) + b'K\x01\x86' for n in range(10_000))
    steps, message = {
        'a long name': (text[0] + b'X\x01\x00\x00\x00n\x93', 'a name of 1002 characters'),
        'many names': (
            names + modules
            + b''.join(b'h' + bytes([m]) + b'h' + bytes([n]) + b'\x930' for m in range(40, 80)
                       for n in range(40)),
            'more than 1048576 items',
        ),
        'a list again and again': (
            b'](' + pairs + b'e\x85q\x00ccollections\nOrderedDict\nq\x01' + b'h\x01h\x00R0' * 60,
            'more than 1048576 items',
        ),
    }[name]  # fmt: skip
    content = handmade.state_dict([('x', handmade.whole('0', VALUES))], form == 'legacy')
    path = tmp_path / 'a.pth'
    for repeated in (steps, b''):
        pickled = content[:2] + repeated + content[2:]
        write_pickle(path, form, pickled)
        if repeated:
            assert message in refusal(path)
    assert forms.same(read(path), {'x': VALUES})


def test_keys_of_absurd_length_are_left_out(tmp_path):
    tensors = [(name, handmade.whole('0', VALUES)) for name in ('x', 'k' * 1001)]
    path = handmade.write_zip(tmp_path / 'a.pth', handmade.state_dict(tensors), {'0': BYTES})
    assert forms.same(read(path), {'x': VALUES})


@pytest.mark.parametrize('kind', ['neg', 'conj', 'subclass'])
def test_numbers_that_are_negated_as_they_are_read(form, kind, tmp_path):
    """PyTorch states it in the last argument, and stores the numbers as they were."""
    torch = pytest.importorskip('torch')
    value = torch._neg_view(torch.ones(3))
    if kind == 'conj':
        value = torch.ones(3, dtype=torch.complex64).conj()
    if kind == 'subclass':
        value = value.as_subclass(type('Part', (torch.Tensor,), {'__module__': __name__}))
        globals()['Part'] = type(value)
    path = tmp_path / 'a.pth'
    torch.save({'x': value}, path, _use_new_zipfile_serialization=form == 'zip')
    assert 'negated or conjugated view; allowed: an ordinary tensor' in refusal(path)


@pytest.mark.parametrize(('tensor', 'printed'), [
    (Tensor('0', 24, (25,), (1,)), r'shape (25,) in a storage of 24'),
    (Tensor('0', 24, (24,), (1,), offset=1), 'in a storage of 24'),
    (Tensor('0', 24, (4, 6), (7, 1)), 'in a storage of 24'),
    (Tensor('0', 24, (1 << 40,), (0,)), 'in a storage of 24'),
    (Tensor('0', 24, (0, 1 << 70), (1, 1)), 'in a storage of 24'),
    (Tensor('0', 24, (-4, -6), (6, 1)), 'makes no sense'),
    (Tensor('0', 24, (24,), (-1,), offset=23), 'makes no sense'),
    (Tensor('0', 24, (24,), (1, 1)), 'makes no sense'),
    (Tensor('0', 24, (1,) * 30, (1,) * 30), 'makes no sense'),
    (Tensor('0', -24, (1,), (1,)), 'makes no sense'),
    (Tensor('0', 1 << 60, (1 << 60,), (1,)), 'is cut short or garbled'),
    (Tensor('0', 23, (23,), (1,)), 'is cut short or garbled'),
    (Tensor('9', 24, (24,), (1,)), 'is cut short or garbled'),
    (Tensor('0', 24, (24,), (1,), kind='LongStorage'), 'x of int64; allowed: float16, bfloat16'),
    (Tensor('0', 24, (24,), (1,), kind='OddStorage'), 'torch.OddStorage; allowed: float16'),
])  # fmt: skip
def test_sizes_that_lie(form, tensor, printed, tmp_path):
    assert printed in refusal(write(tmp_path / 'a.pth', form, {'x': tensor}, {'0': BYTES}))


def test_many_arrays_of_one_storage(form, tmp_path):
    """A few bytes a name, all of the storage for each."""
    tensors = {f'x{number}': handmade.whole('0', VALUES) for number in range(2000)}
    path = write(tmp_path / 'a.pth', form, tensors, {'0': BYTES})
    assert len(read(path)) == 2000  # small ones
    big = np.zeros(1 << 20, np.float32)
    tensors = {f'x{number}': handmade.whole('0', big) for number in range(2000)}
    path = write(tmp_path / 'b.pth', form, tensors, {'0': big.tobytes()})
    assert 'more numbers than it has bytes' in refusal(path)


@pytest.mark.thorough
@pytest.mark.parametrize(('steps', 'printed'), [
    (b'}.', 'holds no weights by name'),
    (b'].', 'holds no weights by name'),
    (b'}X\x01\x00\x00\x00aK\x03s.', 'holds no weights by name'),
    (b'}K\x01K\x03s.', 'holds no weights by name'),
    (b'h\x07.', 'makes no sense'),
    (b'u.', 'makes no sense'),
    (b']K\x01K\x02s.', 'makes no sense'),
    (b'}K\x01a.', 'makes no sense'),
    (b'}', 'makes no sense'),
    (b'', 'makes no sense'),
    (b'F' + b'9' * 5000 + b'z\n.', 'makes no sense'),
    (b'}(' + b')' + b'\x85' * 500_000 + b'K\x01u.', 'holds no weights by name'),  # deep, as a key
    (b'K\x01' * 600_000 + b'.', 'holds no weights by name'),
    (b'K\x01' * 1_100_000 + b'.', 'more than 1048576 steps'),
])  # fmt: skip
def test_pickles_that_are_no_state_dict(form, steps, printed, tmp_path):
    found = refusal(write_pickle(tmp_path / 'a.pth', form, b'\x80\x02' + steps, {}))
    assert form == 'legacy' or printed in found


def test_archives_that_torch_does_not_write(tmp_path):
    pickled = handmade.state_dict([('x', handmade.whole('0', VALUES))])
    packed = {'compression': zipfile.ZIP_DEFLATED}
    path = handmade.write_zip(tmp_path / 'a.pth', pickled, {'0': BYTES}, **packed)
    assert 'compressed' in refusal(path)
    with pytest.warns(UserWarning, match='Duplicate name'), zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', pickled)
        archive.writestr('archive/data/0', BYTES)
        archive.writestr('archive/data/0', BYTES)
    assert 'two entries of one name' in refusal(path)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('other', b'')
    assert '0 entries data.pkl' in refusal(path)


def test_entries_that_say_they_are_larger_than_the_file(tmp_path):
    path = handmade.write_zip(tmp_path / 'a.pth', b'\x80\x02}.', {'0': BYTES})
    content = bytearray(path.read_bytes())
    said = content.index(b'PK\x01\x02') + 24  # in the directory at the end, of the first entry
    content[said : said + 4] = struct.pack('<I', 1 << 30)
    path.write_bytes(content)
    assert 'entries are larger' in refusal(path)


def test_a_flipped_bit_is_found_in_an_archive(tmp_path):
    pickled = handmade.state_dict([('x', handmade.whole('0', VALUES))])
    path = handmade.write_zip(tmp_path / 'a.pth', pickled, {'0': BYTES})
    content = bytearray(path.read_bytes())
    content[content.index(BYTES) + 7] ^= 1
    path.write_bytes(content)
    assert 'CRC' in refusal(path)


def test_a_legacy_file_with_other_storages_than_it_lists(tmp_path):
    pickled = handmade.state_dict([('x', handmade.whole('0', VALUES))], legacy=True)
    path = tmp_path / 'a.pth'
    for storages in ({}, {'1': (24, BYTES)}, {'0': (24, BYTES), '1': (0, b'')}):
        assert 'lists other storages' in refusal(handmade.write_legacy(path, pickled, storages))
    short = handmade.write_legacy(path, pickled, {'0': (23, BYTES)})
    assert 'storage 0 has 23 numbers, should have 24' in refusal(short)
    long = handmade.write_legacy(path, pickled, {'0': (24, BYTES + b'00')})
    assert 'it has 2 bytes after its arrays' in refusal(long)


def test_files_that_are_not_pytorchs(tmp_path):
    path = tmp_path / 'a.pth'
    assert 'cannot be read: No such file' in refusal(path)
    path.write_bytes(b'\xff\xd8\xff\xe0 a photograph')
    assert "none of PyTorch's" in refusal(path)


SYSTEM = b'cos\nsystem\n'


def harmful(command: str) -> dict[str, bytes]:
    """Pickles that run the command when Python reads them, by what in them does."""
    text = handmade.plain(command)
    python = handmade.plain(f'__import__("os").system({command!r})')
    setstate = b'}' + handmade.plain('__setstate__') + SYSTEM + b'sb'
    return {
        'REDUCE': b'\x80\x02' + SYSTEM + text + b'\x85R.',
        'REDUCE of posix': b'\x80\x02cposix\nsystem\n' + text + b'\x85R.',
        'REDUCE of eval': b'\x80\x02cbuiltins\neval\n' + python + b'\x85R.',
        'INST': b'\x80\x02(' + text + b'ios\nsystem\n.',
        'OBJ': b'(' + SYSTEM + text + b'o.',
        'NEWOBJ': b'\x80\x02cbuiltins\ntuple\ncbuiltins\nmap\n' + SYSTEM + b'(' + text
                  + b't\x86\x81\x85\x81.',
        'NEWOBJ_EX': b'\x80\x04cbuiltins\ntuple\ncbuiltins\nmap\n' + SYSTEM + b'(' + text
                     + b't\x86\x81\x85}\x92.',
        'BUILD': b'\x80\x02cargparse\nNamespace\n)\x81' + setstate + text + b'b.',
        'STACK_GLOBAL': b'\x80\x04' + handmade.plain('os') + handmade.plain('system') + b'\x93'
                        + text + b'\x85R.',
    }  # fmt: skip


@pytest.mark.parametrize('how', harmful(''))
def test_nothing_in_a_pickle_runs(form, how, tmp_path):
    """Beside weights it is passed over; in their place there are no weights."""
    marker = tmp_path / 'it_ran'
    pickled = harmful(f'touch {marker}')[how]
    pickle.loads(pickled)
    assert marker.exists()  # it does harm
    marker.unlink()

    weights = [('features.0.weight', handmade.whole('0', VALUES))]
    steps = pickled[2 if pickled.startswith(b'\x80') else 0 : -1]
    items = handmade.state_dict(weights, legacy=form == 'legacy')[:-1]
    beside = items + handmade.plain('x') + steps + b's.'
    in_place = b'\x80\x04' + handmade.ORDERED_DICT + handmade.plain('x') + steps + b's.'
    path = tmp_path / 'a.pth'
    for content in (pickled, in_place):
        refusal(write_pickle(path, form, content, {}))
    write_pickle(path, form, beside)
    assert forms.same(read(path), {'features.0.weight': VALUES})
    assert not marker.exists()


@pytest.mark.parametrize('place', range(3))
def test_nothing_runs_in_the_first_pickles_of_a_legacy_file(place, tmp_path):
    marker = tmp_path / 'it_ran'
    head = [pickle.dumps(x, protocol=2) for x in (handmade.LEGACY_MAGIC, 1001, {})]
    head[place] = harmful(f'touch {marker}')['REDUCE']
    (tmp_path / 'a.pth').write_bytes(b''.join(head) + struct.pack('<q', 0))
    refusal(tmp_path / 'a.pth')
    assert not marker.exists()


def test_a_name_out_of_a_file_is_told_on_one_line_and_shortly(tmp_path):
    for module, expected in (('m' * 900, 'mmm...'), ('new\n\nline', 'new\\n\\nline.name')):
        name = handmade.plain(module) + handmade.plain('name') + b'\x93)\x81'
        path = handmade.write_zip(tmp_path / 'a.pth', b'\x80\x04' + name + b'.', {})
        assert expected in refusal(path)
