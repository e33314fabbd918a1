"""Packages of the distribution; all else is in pyproject.toml."""

from setuptools import find_packages, setup

# All else is in pyproject.toml. configs/ stays at the top level of a checkout; in a wheel it lies
# inside of the package, where `--config digits` finds it from any folder.
setup(
    packages=[*find_packages(include=['alexnet_jax*']), 'alexnet_jax.configs'],
    package_dir={'alexnet_jax.configs': 'configs'},
)
