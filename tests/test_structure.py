"""Imports run one way, and each outside library has one owner."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path('alexnet_jax')
MODULES = sorted(PACKAGE.rglob('*.py'))

# A part may import itself and the parts named here.
MAY_IMPORT = {
    'errors': set(),
    'files': set(),
    'output': set(),
    'network': {'errors'},
    'data': {'errors', 'command_line', 'stop'},
    'command_line': {'errors', 'output'},
    'stop': {'output'},
    'alive': set(),
    'joining': {'errors'},
    'supervisor': {'alive', 'command_line', 'joining', 'stop'},
    'processes': {'alive', 'command_line', 'errors', 'joining'},
    'identity': {'config', 'errors', 'settings'},
    'settings': {'network', 'training'},
    'config': {'errors', 'network', 'settings', 'training'},
    'results': {'config', 'data', 'errors', 'evaluation', 'identity'},
    'two_columns': {'data', 'evaluation', 'model', 'network', 'trained', 'training'},
    'column_runs': {
        'config', 'evaluation', 'identity', 'results', 'runs', 'study', 'trained', 'two_columns',
    },
    'report': {
        'command_line', 'config', 'data', 'errors', 'evaluation', 'figures', 'model', 'network',
        'predict', 'results', 'settings', 'stop', 'trained', 'training', 'two_columns',
    },
    'workdir': {'config', 'errors', 'identity', 'processes', 'training'},
    'figures': {'network'},
    'training': {'alive', 'errors', 'network', 'data', 'weights'},
    'weights': {'errors', 'network'},
    'evaluation': {'alive', 'errors', 'network', 'data'},
    # Commands: like main, they may read configurations.
    'network/__main__': {'errors', 'command_line', 'training'},
    'training/__main__': {'command_line', 'config', 'experiment', 'settings'},
    'weights/__main__': {'command_line', 'exchange'},
    'evaluation/__main__': {
        'command_line', 'config', 'errors', 'results', 'runs', 'stop', 'study', 'trained', 'workdir',
    },
    'model': {'config', 'data', 'errors', 'identity', 'network', 'settings', 'training', 'weights'},
    'experiment': {
        'config', 'data', 'errors', 'evaluation', 'identity', 'model', 'network', 'processes',
        'results', 'settings',
        'training', 'weights', 'workdir',
    },
    'trained': {
        'identity', 'config', 'data', 'errors', 'evaluation', 'experiment', 'model', 'network', 'processes',
        'results', 'settings', 'workdir',
    },
    'predict': {
        'config', 'data', 'errors', 'evaluation', 'figures', 'model', 'results', 'trained',
    },
    'exchange': {
        'config', 'errors', 'identity', 'model', 'network', 'settings', 'training', 'weights', 'workdir',
    },
    'training_run': {
        'alive', 'config', 'data', 'errors', 'experiment', 'model', 'network', 'processes', 'results',
        'training', 'weights', 'workdir',
    },
    'study': {'config', 'errors', 'network', 'results', 'settings', 'training'},
    'runs': {
        'config', 'data', 'errors', 'experiment', 'identity', 'results', 'study', 'training',
        'training_run', 'workdir',
    },
    'ablations': {
        'command_line', 'config', 'errors', 'network', 'report', 'results', 'runs', 'settings', 'stop',
        'study',
    },
    'figure1': {
        'command_line', 'config', 'errors', 'evaluation', 'network', 'report', 'results', 'runs', 'stop', 'study',
        'training',
    },
    'specialization': {
        'column_runs', 'command_line', 'config', 'errors', 'evaluation', 'network', 'report', 'results',
        'runs', 'stop', 'study',
    },
    'main': {
        'alive', 'command_line', 'config', 'experiment', 'joining', 'predict', 'processes', 'report', 'stop',
        'supervisor', 'trained', 'training_run',
    },
    '__init__': {'model'},
}  # fmt: skip
OWNERS = {
    'tensorflow_datasets': 'data/',
    'grain': 'data/',
    'sklearn': 'data/',
    'PIL': ('data/', 'figures/page.py', 'training/boards.py'),
    'simplejpeg': 'data/images.py',
    'cv2': ('data/augment.py', 'data/images.py'),
    'array_record': 'data/',
    'apache_beam': 'data/engines.py',
    'huggingface_hub': 'weights/hub.py',
    'orbax': 'training/checkpoint.py',
    'optax': 'training/',
    'safetensors': 'weights/files.py',
    'google': 'weights/caffe.py',
    'ml_dtypes': 'weights/arrays.py',
    'matplotlib': 'figures/',
    'tensorboardX': 'training/boards.py',
    'wandb': 'training/boards.py',
    'scipy': 'evaluation/seeds.py',
    'rich': ('training/progress.py', 'data/prepare.py'),
}
NEVER = {'tensorflow', 'torch'}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
    return names


@pytest.mark.parametrize('path', MODULES, ids=str)
def test_imports(path):
    inside = path.relative_to(PACKAGE)
    part = inside.parts[0].removesuffix('.py')
    allowed = MAY_IMPORT.get(str(inside.with_suffix('')), set()) | MAY_IMPORT[part] | {'files'}
    for name in imports(path):
        package, *rest = name.split('.')
        assert package not in NEVER, name
        if package == 'alexnet_jax':
            assert rest[0] == part or rest[0] in allowed, f'{inside} imports {name}'
        if package in OWNERS:
            assert str(inside).startswith(OWNERS[package]), f'{inside} imports {name}'


def test_the_tables_and_the_settings_need_no_jax():
    """A bad setting is found before JAX starts."""
    for name in ('ablations.py', 'alive.py', 'command_line.py', 'config.py', 'figure1.py', 'specialization.py', 'errors.py', 'joining.py', 'main.py', 'study.py', 'supervisor.py', 'stop.py',
                 'network/architectures.py', 'network/deviations.py', 'network/layers.py',
                 'network/plan.py', 'network/rules.py', 'network/shapes.py', 'network/traffic.py', 'network/variants.py', 'network/__main__.py', 'settings.py',
                 'training/protocols.py', 'training/__init__.py'):  # fmt: skip
        top = ast.parse((PACKAGE / name).read_text()).body
        found = {n for node in top if isinstance(node, ast.Import | ast.ImportFrom)
                 for n in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module])}  # fmt: skip
        assert not {n.split('.')[0] for n in found if n} & {'jax', 'flax', 'optax'}, name
