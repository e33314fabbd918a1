"""Every net beside an independent PyTorch net with the same weights.

Photographs' nets at a quarter of their width; at the whole of it with `pytest -m slow`.
Where PyTorch is not installed its stored numbers are compared with.
"""

import importlib.util

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.layers import Architecture
from tests.network import parity

TOLERANCE = 1e-4  # relative
GOLDEN = np.load(parity.GOLDEN)
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec('torch') is None, reason='PyTorch is not installed'
)


def our_results(
    net: Architecture, variables: dict, training: bool, options: dict | None
) -> dict[str, np.ndarray]:
    images, labels = parity.images_and_labels(net.input_size)
    key = jax.random.key(0) if training else None

    def loss(params):
        (logits, _), after = AlexNet(net, parity.CLASSES).apply(
            {**variables, 'params': params}, images, dropout_key=key, mutable=['batch_stats']
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (logits, after.get('batch_stats', {}))

    compute = jax.jit(jax.grad(loss, has_aux=True), compiler_options=options)
    gradients, (logits, statistics) = compute(variables['params'])
    layers = flatten_dict(gradients, sep='/') | flatten_dict(statistics, sep='/')
    return {name: np.asarray(x) for name, x in {'logits': logits, **layers}.items()}


def torch_results(case: str, net: Architecture, variables: dict) -> dict[str, np.ndarray]:
    from tests.network import torch_nets

    return torch_nets.results(case, variables, *parity.images_and_labels(net.input_size))


def stored(case: str) -> dict[str, np.ndarray]:
    """PyTorch's digest."""
    names = [name for name in GOLDEN if name.startswith(f'{case}/') and '/seed' not in name]
    return {name.removeprefix(f'{case}/'): GOLDEN[name] for name in names}


def variables(case: str) -> dict[str, dict]:
    return parity.variables(parity.reduced(case), int(GOLDEN[f'{case}/seed']))


@pytest.fixture(scope='module', params=parity.CASES)
def case_and_results(request):
    """Our results for a case, computed once for the tests that follow."""
    case = request.param
    net = parity.reduced(case)
    return case, our_results(net, variables(case), case.endswith('training'), parity.QUICK)


def too_far(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """By name, the differences above the tolerance."""
    assert ours.keys() == theirs.keys()
    return {name: by for name, by in parity.apart(ours, theirs).items() if not by <= TOLERANCE}


@pytest.mark.thorough
def test_against_stored_numbers(case_and_results):
    case, results = case_and_results
    assert not too_far(parity.digest(results), stored(case))


@needs_torch
def test_against_pytorch(case_and_results):
    case, results = case_and_results
    assert not too_far(results, torch_results(case, parity.reduced(case), variables(case)))


@pytest.mark.thorough
@needs_torch
@pytest.mark.usefixtures('tpu_forms')
@pytest.mark.parametrize('case', ['paper', 'paper_lrn_across', 'krizhevsky2012', 'torchvision'])
def test_forms_for_tpu_against_pytorch(case):
    net = parity.reduced(case)
    results = our_results(net, variables(case), False, parity.QUICK)
    assert not too_far(results, torch_results(case, net, variables(case)))


def test_every_reduced_case_has_a_seed_at_full_width():
    assert parity.FULL_WIDTH_SEEDS.keys() == {
        case for case in parity.CASES if parity.reduced(case) != parity.table(case, 1)
    }


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize('case', parity.FULL_WIDTH_SEEDS)
def test_full_width_against_pytorch(case):
    net = parity.table(case, 1)
    variables = parity.variables(net, parity.FULL_WIDTH_SEEDS[case])
    results = our_results(net, variables, case.endswith('training'), None)
    assert not too_far(results, torch_results(case, net, variables))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ('case', 'other'),
    [
        ('paper', 'paper_lrn_across'),
        ('paper', 'krizhevsky2012'),
        ('krizhevsky2012', 'no_lrn'),
        ('caffe', 'caffenet'),
        ('batchnorm227', 'batchnorm227 training'),
        ('alexnet_bn', 'alexnet_bn training'),
        ('four_layer', 'four_layer tanh'),
        ('four_layer', 'four_layer leaky_relu'),
    ],
)
def test_another_net_is_told_apart(case, other):
    """Two nets with the same weights, nearly alike, and yet too far apart."""
    net = parity.reduced(other)
    images, _ = parity.images_and_labels(net.input_size)
    key = jax.random.key(0) if other.endswith('training') else None

    def logits(variables):
        apply = AlexNet(net, parity.CLASSES).apply
        return apply(variables, images, dropout_key=key, mutable=['batch_stats'])[0][0]

    results = {'logits': jax.jit(logits, compiler_options=parity.QUICK)(variables(case))}
    assert too_far(results, {'logits': stored(case)['logits']})
