"""The paper's full net in PyTorch, and what it computes from known weights.

    python -m tests.network.parity

writes golden.npz anew, which `test_parity.py` compares with where PyTorch is not
installed. Run it if the weights, images or nets below change; never to make a
test pass.
"""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name('golden.npz')
CLASSES, BATCH, SAMPLES = 1000, 2, 50

# name: kernel, maps read by a column, features of a column, bias
LAYERS = {
    'conv1': ((11, 11), 3, 48, 0.0),
    'conv2': ((5, 5), 48, 128, 1.0),
    'conv3': ((3, 3), 256, 192, 0.0),
    'conv4': ((3, 3), 192, 192, 1.0),
    'conv5': ((3, 3), 192, 128, 1.0),
    'fc6': ((), 9216, 2048, 1.0),
    'fc7': ((), 4096, 2048, 1.0),
    'fc8': ((), 2048, CLASSES, 0.0),
}


def weights() -> dict[str, dict[str, np.ndarray]]:
    """The same on every machine: NumPy keeps RandomState's numbers for ever."""
    random = np.random.RandomState(2012)
    tree = {}
    for name, (window, maps, features, bias) in LAYERS.items():
        fan_in = int(np.prod(window, initial=1)) * maps
        std = 0.01 if name == 'conv1' else (2 / fan_in) ** 0.5
        kernel = std * random.standard_normal((2, *window, maps, features))
        bias_shape = (features,) if name == 'fc8' else (2, features)
        bias_values = bias + 0.1 * random.standard_normal(bias_shape)
        tree[name] = {'kernel': kernel.astype(np.float32), 'bias': bias_values.astype(np.float32)}
    return tree


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(2013)
    coarse = random.normal(0, 60, (BATCH, 28, 28, 3))
    images = coarse.repeat(8, axis=1).repeat(8, axis=2) + random.normal(0, 20, (BATCH, 224, 224, 3))
    return images.astype(np.float32), random.randint(0, CLASSES, BATCH)


def torch_logits_and_gradients(lrn_across_columns: bool):
    """PyTorch's logits, and its gradients of the mean cross-entropy in our layout."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    # PyTorch divides alpha by n = 5, the paper does not: α · n = 5e-4.
    lrn = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    def norm(x):
        if lrn_across_columns:
            return lrn(x)
        return torch.cat([lrn(column) for column in x.chunk(2, dim=1)], dim=1)

    parameters = {}
    for name, layer in weights().items():
        kernel, bias = (torch.tensor(layer[part]) for part in ('kernel', 'bias'))
        if name.startswith('conv'):
            kernel = torch.cat([column.permute(3, 2, 0, 1) for column in kernel])
        elif name == 'fc6':  # ours reads [6, 6, 256], PyTorch's flatten [256, 6, 6]
            kernel = kernel.reshape(2, 6, 6, 256, 2048).permute(0, 4, 3, 1, 2).reshape(4096, 9216)
        elif name == 'fc7':
            kernel = kernel.permute(0, 2, 1).reshape(4096, 4096)
        else:
            kernel = kernel.reshape(4096, CLASSES).T
        parameters[name] = (kernel.contiguous().requires_grad_(), bias.reshape(-1).requires_grad_())

    images, labels = images_and_labels()
    x = F.pad(torch.tensor(images.transpose(0, 3, 1, 2)), (0, 3, 0, 3))
    x = F.max_pool2d(norm(F.relu(F.conv2d(x, *parameters['conv1'], stride=4))), 3, 2)
    x = F.max_pool2d(norm(F.relu(F.conv2d(x, *parameters['conv2'], padding=2, groups=2))), 3, 2)
    x = F.relu(F.conv2d(x, *parameters['conv3'], padding=1))
    x = F.relu(F.conv2d(x, *parameters['conv4'], padding=1, groups=2))
    x = F.max_pool2d(F.relu(F.conv2d(x, *parameters['conv5'], padding=1, groups=2)), 3, 2)
    x = F.relu(F.linear(x.flatten(1), *parameters['fc6']))
    x = F.relu(F.linear(x, *parameters['fc7']))
    logits = F.linear(x, *parameters['fc8'])
    F.cross_entropy(logits, torch.tensor(labels)).backward()

    gradients = {}
    for name, (kernel, bias) in parameters.items():
        assert kernel.grad is not None and bias.grad is not None
        to_kernel, to_bias = kernel.grad, bias.grad
        if name.startswith('conv'):
            to_kernel = torch.stack([column.permute(2, 3, 1, 0) for column in to_kernel.chunk(2)])
        elif name == 'fc6':
            to_kernel = to_kernel.reshape(2, 2048, 256, 6, 6).permute(0, 3, 4, 2, 1)
            to_kernel = to_kernel.reshape(2, 9216, 2048)
        elif name == 'fc7':
            to_kernel = to_kernel.reshape(2, 2048, 4096).permute(0, 2, 1)
        else:
            to_kernel = to_kernel.T.reshape(2, 2048, CLASSES)
        to_bias = to_bias if name == 'fc8' else to_bias.reshape(2, -1)
        gradients[name] = {'kernel': to_kernel.numpy(), 'bias': to_bias.numpy()}
    return logits.detach().numpy(), gradients


def sample(values: np.ndarray) -> np.ndarray:
    """A few of a gradient's values at scattered places, then its norm."""
    flat = np.asarray(values, np.float64).ravel()
    places = np.random.RandomState(flat.size).randint(0, flat.size, SAMPLES)
    return np.append(flat[places], np.linalg.norm(flat))


def write_golden() -> None:
    arrays = {}
    for across in (False, True):
        logits, gradients = torch_logits_and_gradients(across)
        arrays[f'{across}/logits'] = logits
        for name, layer in gradients.items():
            for part, values in layer.items():
                arrays[f'{across}/{name}/{part}'] = sample(values).astype(np.float32)
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == '__main__':
    write_golden()
