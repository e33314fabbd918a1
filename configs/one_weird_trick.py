"""One weird trick's tower (arXiv:1404.5997), with the widths, rates and logistic units of cuda-convnet2's
files.

    python -m alexnet_jax.main --config configs/one_weird_trick.py --workdir runs/one_weird_trick

ε in four steps from 0.01 to a 250th of it over 90 epochs, biases from 0.02 in two. A logistic unit for
each class: the sum of their binary cross-entropies is minimized. Images and hardware as in
configs/imagenet.py.
Expected error on the validation set: top-1 0.4255, top-5 0.1981, one view; 0.4042, 0.1815 over ten
(cuda-convnet2's wiki, TrainingExample, with a softmax in place of the logistic units). With logistic
units the paper has top-1 0.423 to 0.433, by notes of third parties; its net has 384 maps in conv4,
where the file has 256.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'one_weird_trick'
    config.train.protocol = 'one_weird_trick'
    config.data.source = 'tfds:imagenet2012'
    return config
