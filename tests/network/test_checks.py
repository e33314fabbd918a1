"""Arguments that do not fit are refused while a program is traced, with what is expected."""

import functools

import jax
import numpy as np
import pytest

from alexnet_jax.network import inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, architecture
from alexnet_jax.network.batch_normalization import batch_norm
from alexnet_jax.network.convolution import conv, grouped_conv
from alexnet_jax.network.normalization import local_response_norm, same_map_norm
from alexnet_jax.network.pooling import average_pool, max_pool
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training.step import score

KEY = jax.random.key(0)
SMALL = ARCHITECTURES['small']


def zeros(*shape: int, dtype='float32') -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


@functools.cache
def variables_of(name: str):
    return inference.variable_shapes(AlexNet(ARCHITECTURES[name], 10))


def shapes_of(name: str, images, fields=(), **arguments):
    """Traces the net alone: nothing is compiled."""
    net = AlexNet(ARCHITECTURES[name], 10, **dict(fields))
    return jax.eval_shape(
        lambda variables, images: net.apply(variables, images, **arguments),
        variables_of(name), images,
    )  # fmt: skip


@pytest.mark.parametrize(('name', 'given'), [
    *(('paper', (2, side, side, 3)) for side in (32, 223, 225, 227, 256)),
    *(('caffe', (2, side, side, 3)) for side in (224, 226, 228, 229)),
    ('torchvision', (2, 225, 225, 3)),
    ('batchnorm227', (2, 224, 224, 3)),
    ('cifar18', (2, 33, 33, 3)),
    ('small', (28, 28, 3)),  # no batch
    ('small', (2, 3, 28, 28)),  # channels first
    ('small', (2, 28, 28, 1)),
    ('small', (2, 28, 28, 4)),
    ('small', (2, 28, 27, 3)),
    ('small', (2, 28, 28)),
    ('small', (0, 28, 28, 3)),
    ('small', (1, 2, 28, 28, 3)),
    ('small', ()),
])  # fmt: skip
def test_images_of_another_shape(name, given):
    side = ARCHITECTURES[name].input_size
    with pytest.raises(ValueError, match='images has the shape') as raised:
        shapes_of(name, zeros(*given))
    assert f'{given}; expected: (batch, {side}, {side}, 3)' in str(raised.value)
    assert f'network {name} takes RGB images, channels last' in str(raised.value)


@pytest.mark.parametrize('dtype', ['uint8', 'int32', 'bool', 'complex64'])
def test_images_of_another_type(dtype):
    message = f'images has the type {dtype}; expected: floating; inference.normalize makes them'
    with pytest.raises(ValueError, match=message):
        shapes_of('small', zeros(2, 28, 28, 3, dtype=dtype))


IMAGES = zeros(4, 28, 28, 3)
FOUR = np.arange(4)
CALLS = [
    ({'exchange': 'shout'}, {}, "exchange is 'shout'; expected: one of gather, scatter"),
    ({'exchange': None}, {}, 'exchange is None'),
    ({'compute': 'float16'}, {}, "compute is 'float16'; expected: one of float32, bfloat16"),
    ({'compute': 'f32'}, {}, "compute is 'f32'"),
    ({}, {'rngs': {'dropout': KEY}}, 'rngs has dropout, .*expected: dropout_key=KEY'),
    ({}, {'rngs': {'dropout': KEY, 'noise': KEY}}, 'rngs has dropout, noise, '),
    ({}, {'dropout_key': 3}, 'dropout_key is 3; expected: one key'),
    ({}, {'dropout_key': 'key'}, "dropout_key is 'key'"),
    ({}, {'dropout_key': True}, 'dropout_key is True'),
    ({}, {'dropout_key': np.float32(1)}, r'dropout_key is float32 of the shape \(\)'),
    ({}, {'dropout_key': jax.random.split(KEY, 4)}, r'of the shape \(4,\); expected: one key'),
    ({}, {'dropout_key': np.zeros((4, 2), np.uint32)}, r'uint32 of the shape \(4, 2\)'),
    ({}, {'dropout_key': KEY, 'examples': FOUR[:3]}, r'examples has the shape \(3,\); expected: \(4,\)'),
    ({}, {'dropout_key': KEY, 'examples': FOUR[:, None]}, r'examples has the shape \(4, 1\)'),
    ({}, {'dropout_key': KEY, 'examples': 7}, r'examples has the shape \(\)'),
    ({}, {'dropout_key': KEY, 'examples': FOUR / 1}, 'examples has the type float64; expected: integer'),
    ({}, {'dropout_key': KEY, 'examples': FOUR > 1}, 'examples has the type bool'),
]  # fmt: skip


@pytest.mark.parametrize(('fields', 'arguments', 'message'), CALLS)
def test_other_arguments_of_the_net(fields, arguments, message):
    with pytest.raises(ValueError, match=message):
        shapes_of('small', IMAGES, fields.items(), **arguments)


@pytest.mark.parametrize('key', [KEY, jax.random.PRNGKey(0)])
def test_keys_of_either_kind_are_taken(key):
    logits, _ = shapes_of('small', IMAGES, dropout_key=key, examples=FOUR)
    assert logits.shape == (len(IMAGES), 10)


@pytest.mark.parametrize('classes', [0, -1, 2.0, '10', None, True, 10**12])
def test_classes_that_cannot_be(classes):
    with pytest.raises(InputError, match=r'network small has .* classes; allowed: a whole number'):
        jax.eval_shape(AlexNet(SMALL, classes).init, KEY, IMAGES)


def test_an_input_too_small_for_the_table():
    with pytest.raises(InputError, match=r'leaves nothing of conv1 .*; allowed: at least 39'):
        jax.eval_shape(AlexNet(architecture('caffe', 9), 10).init, KEY, zeros(1, 9, 9, 3))


PIXELS = zeros(2, 8, 8, 3, dtype='uint8')
MEAN = zeros(3)
NORMALIZE = [
    ((zeros(8, 8, 3), MEAN, 1.0), r'images has the shape \(8, 8, 3\); expected: \(batch, size, size, 3\)'),
    ((zeros(2, 3, 8, 8), MEAN, 1.0), r'images has the shape \(2, 3, 8, 8\)'),
    ((zeros(2, 8, 8, 1), MEAN, 1.0), 'images has the shape'),
    ((zeros(2, 8, 9, 3), MEAN, 1.0), 'expected: squares'),
    ((zeros(0, 8, 8, 3), MEAN, 1.0), 'images has the shape'),
    ((zeros(2, 8, 8, 3, dtype='bool'), MEAN, 1.0), 'images has the type bool'),
    ((zeros(2, 8, 8, 3, dtype='complex64'), MEAN, 1.0), 'images has the type complex64'),
    ((PIXELS, zeros(9, 9, 3), 1.0), r'mean has the shape \(9, 9, 3\); expected: \(3,\) or \(8, 8, 3\)'),
    ((PIXELS, zeros(8, 8, 1), 1.0), 'mean has the shape'),
    ((PIXELS, zeros(2, 8, 8, 3), 1.0), 'mean has the shape'),
    ((PIXELS, 100.0, 1.0), r'mean has the shape \(\)'),
    ((PIXELS, MEAN, zeros(8, 8, 3)), r'scale has the shape \(8, 8, 3\); expected: \(\) or \(3,\)'),
    ((PIXELS, MEAN, zeros(1)), 'scale has the shape'),
    ((PIXELS, MEAN, 1.0, zeros(3)), r'color_shift has the shape \(3,\); expected: \(2, 3\)'),
    ((PIXELS, MEAN, 1.0, zeros(1, 3)), r'color_shift has the shape \(1, 3\)'),
]  # fmt: skip


@pytest.mark.parametrize(('arguments', 'message'), NORMALIZE)
def test_what_normalize_takes(arguments, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(inference.normalize, *arguments)


LOGITS, LABELS, MASK = zeros(4, 10), zeros(4, dtype='int32'), zeros(4)
SCORE = [
    ((zeros(10), LABELS, MASK), r'logits has the shape \(10,\); expected: \(batch, classes\)'),
    ((zeros(4, 2, 10), LABELS, MASK), r'logits has the shape \(4, 2, 10\)'),
    ((zeros(4, 0), LABELS, MASK), r'logits has the shape \(4, 0\)'),
    ((zeros(0, 10), zeros(0, dtype='int32'), zeros(0)), r'logits has the shape \(0, 10\)'),
    ((zeros(4, 10, dtype='int32'), LABELS, MASK), 'logits has the type int32; expected: floating'),
    ((LOGITS, zeros(4, 1, dtype='int32'), MASK), r'labels has the shape \(4, 1\); expected: \(4,\)'),
    ((LOGITS, zeros(3, dtype='int32'), MASK), r'labels has the shape \(3,\)'),
    ((LOGITS, zeros(4), MASK), 'labels has the type float32; expected: integer'),
    ((LOGITS, zeros(4, 10, dtype='int32'), MASK), r'labels has the shape \(4, 10\)'),
    ((LOGITS, LABELS, zeros(4, 1)), r'mask has the shape \(4, 1\); expected: \(4,\)'),
    ((LOGITS, LABELS, zeros()), r'mask has the shape \(\)'),
    ((LOGITS, LABELS, zeros(4, dtype='complex64')), 'mask has the type complex64'),
]  # fmt: skip


@pytest.mark.parametrize(('arguments', 'message'), SCORE)
def test_what_score_takes(arguments, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(score, *arguments)


MAPS, KERNEL, BIAS = zeros(2, 8, 8, 6), zeros(3, 3, 6, 4), zeros(4)


def convolved(x=MAPS, kernel=KERNEL, bias=BIAS, stride=1, padding=(1, 1)):
    return jax.eval_shape(lambda *arrays: conv(*arrays, stride, padding), x, kernel, bias)


def in_groups(groups, x=MAPS, kernel=KERNEL, bias=BIAS):
    return jax.eval_shape(lambda *arrays: grouped_conv(*arrays, 1, (1, 1), groups), x, kernel, bias)


def called(function, x=MAPS, *arguments, **options):
    return jax.eval_shape(lambda x: function(x, *arguments, **options), x)


def batch_normed(x=MAPS, scale=6, bias=6, epsilon=1e-3):
    return jax.eval_shape(
        lambda *arrays: batch_norm(*arrays, epsilon), x, zeros(scale), zeros(bias)
    )


lrn = functools.partial(called, local_response_norm)
same_map = functools.partial(called, same_map_norm)
pool_by = {name: functools.partial(called, function) for name, function in
           {'max_pool': max_pool, 'average_pool': average_pool}.items()}  # fmt: skip
NAN, INF = float('nan'), float('inf')
OPERATIONS = [
    (lambda: convolved(stride=0), 'stride is 0; expected: a whole number from 1'),
    (lambda: convolved(stride=-1), 'stride is -1'),
    (lambda: convolved(stride=1.0), r'stride is 1\.0'),
    (lambda: convolved(padding=(-1, 0)), r'padding is \(-1, 0\); expected: a pair'),
    (lambda: convolved(padding=1), 'padding is 1;'),
    (lambda: convolved(padding=(1, 1, 1)), 'padding is'),
    (lambda: convolved(padding='SAME'), 'padding is'),
    (lambda: convolved(x=zeros(8, 8, 6)), r'x has the shape \(8, 8, 6\); expected: \(batch, height'),
    (lambda: convolved(x=zeros(0, 8, 8, 6)), 'x has the shape'),
    (lambda: convolved(x=zeros(2, 8, 8, 6, dtype='int32')), 'x has the type int32'),
    (lambda: convolved(x=zeros(2, 8, 8, 5)), r'kernel has the shape \(3, 3, 6, 4\); expected: \(size, size, 5,'),
    (lambda: convolved(kernel=zeros(3, 6, 4)), 'kernel has the shape'),
    (lambda: convolved(kernel=zeros(0, 0, 6, 4)), 'kernel has the shape'),
    (lambda: convolved(kernel=zeros(11, 11, 6, 4)), r'a kernel of \(11, 11\) over a map of \(8, 8\)'),
    (lambda: convolved(kernel=zeros(11, 3, 6, 4)), r'a kernel of \(11, 3\)'),
    (lambda: convolved(bias=zeros(1)), r'bias has the shape \(1,\); expected: \(4,\)'),
    (lambda: in_groups(0), 'groups is 0'),
    (lambda: in_groups(-2), 'groups is -2'),
    (lambda: in_groups(4), '6 maps and 4 features in 4 groups'),
    (lambda: in_groups(3), '6 maps and 4 features in 3 groups'),
    (lambda: in_groups(2), r'kernel has the shape .*; expected: \(size, size, 3, features\)'),
    *((lambda size=size: lrn(size=size), f'size is {size}; expected: an odd whole number')
      for size in (2, 4, 6, 0, -1, 5.0, None)),
    (lambda: lrn(alpha=NAN), 'alpha is nan; expected: a finite number from 0 on'),
    (lambda: lrn(alpha=-1e-4), 'alpha is -0.0001'),
    (lambda: lrn(alpha=INF), 'alpha is inf'),
    (lambda: lrn(beta=NAN), 'beta is nan'),
    (lambda: lrn(beta=-INF), 'beta is -inf'),
    (lambda: lrn(k=0), 'k is 0; expected: a finite number above 0'),
    (lambda: lrn(k=-1.0), r'k is -1\.0'),
    (lambda: lrn(k=1e-50), 'k is 1e-50'),
    (lambda: lrn(zeros(2, 6, dtype='int8')), 'a has the type int8'),
    (lambda: lrn(zeros()), r'a has the shape \(\)'),
    (lambda: same_map(size=4), 'size is 4; expected: an odd'),
    (lambda: same_map(k=0), 'k is 0'),
    (lambda: same_map(alpha=NAN), 'alpha is nan'),
    (lambda: same_map(zeros(2, 6)), r'x has the shape \(2, 6\)'),
    *((lambda pool=pool: pool(MAPS, size=2, stride=3), f'{name}: stride is 3 for windows of 2×2; expected: at most 2')
      for name, pool in pool_by.items()),
    *((lambda pool=pool: pool(MAPS, size=0), f'{name}: size is 0') for name, pool in pool_by.items()),
    *((lambda pool=pool: pool(MAPS, stride=0), f'{name}: stride is 0') for name, pool in pool_by.items()),
    *((lambda pool=pool: pool(MAPS, size=3.0), f'{name}: size is 3.0') for name, pool in pool_by.items()),
    *((lambda pool=pool: pool(MAPS, size=10, stride=2), r'over a map of \(8, 8\); expected: a map of at least 9 pixels')
      for pool in pool_by.values()),
    *((lambda pool=pool: pool(zeros(8, 8, 3)), f'{name}: x has the shape') for name, pool in pool_by.items()),
    *((lambda pool=pool: pool(zeros(1, 8, 8, 3, dtype='uint8')), f'{name}: x has the type uint8')
      for name, pool in pool_by.items()),
    (lambda: batch_normed(epsilon=0), 'epsilon is 0; expected: a finite number above 0'),
    (lambda: batch_normed(epsilon=NAN), 'epsilon is nan'),
    (lambda: batch_normed(scale=1), r'scale has the shape \(1,\); expected: \(6,\)'),
    (lambda: batch_normed(bias=5), 'bias has the shape'),
    (lambda: batch_normed(x=zeros(6)), 'x has the shape'),
    (lambda: batch_normed(x=zeros(0, 6)), 'x has the shape'),
    (lambda: batch_normed(x=zeros(2, 6, dtype='int32')), 'x has the type int32'),
]  # fmt: skip


@pytest.mark.parametrize(('call', 'message'), OPERATIONS)
def test_what_operations_take(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_fits_is_taken():
    assert convolved().shape == in_groups(2, kernel=zeros(3, 3, 3, 4)).shape == (2, 8, 8, 4)
    assert convolved(kernel=zeros(10, 10, 6, 4)).shape == (2, 1, 1, 4)
    assert lrn(size=1).shape == lrn(size=9, alpha=0, beta=-1.0).shape == MAPS.shape
    assert batch_normed(x=zeros(2, 6))[0].shape == (2, 6)
    for pool in pool_by.values():
        assert pool(MAPS, size=9, stride=2).shape == (2, 1, 1, 6)
        assert pool(MAPS, size=2, stride=2).shape == (2, 4, 4, 6)
        assert pool(MAPS, size=1, stride=1).shape == MAPS.shape
