"""The house: imports run from upper floors to lower ones, and each outside library has one owner."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path('alexnet_jax')
MODULES = sorted(PACKAGE.rglob('*.py'))

# From the ground up; a room imports from itself and from the floors below it. `prepare` is a
# sub-room of `data`, above the rest of it. Commands (`__main__`) stand on the top floor.
FLOORS = (
    ('runtime',), ('network', 'data'), ('data/prepare', 'weights', 'evaluation'), ('training',),
    ('experiment',), ('report',), ('studies', 'main', '__init__'),
)  # fmt: skip
TOP = len(FLOORS)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
OWNERS = {
    'tensorflow_datasets': ('data/', 'evaluation/feature_records.py'),
    'grain': 'data/',
    'sklearn': 'data/',
    'PIL': ('data/', 'report/figures/page.py', 'training/trackers.py'),
    'simplejpeg': 'data/images.py',
    'array_record': ('data/', 'evaluation/feature_records.py'),
    'apache_beam': 'data/prepare/engines.py',
    'distributed': 'data/prepare/dask_cluster.py',
    'huggingface_hub': 'weights/hub.py',
    'fsspec': 'runtime/storage/client.py',
    'orbax': 'training/checkpoint',
    'optax': (
        'training/',
        'evaluation/compare/softmax_regression.py',
        'evaluation/activation_maximization.py',
    ),
    'safetensors': 'weights/files.py',
    'google': 'weights/caffe.py',
    'ml_dtypes': 'weights/arrays.py',
    'matplotlib': 'report/figures/',
    'tensorboardX': 'training/trackers.py',
    'wandb': 'training/trackers.py',
    'scipy': 'evaluation/',
    'chex': 'evaluation/',
    'yaml': 'experiment/model_card.py',
    'rich': ('training/console.py', 'data/prepare/__main__.py'),
}
NEVER = {'cv2', 'tensorflow', 'torch'}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
    return names


def room_of(parts: list[str]) -> str:
    """['data', 'prepare', 'make'] -> 'data/prepare'."""
    return 'data/prepare' if parts[:2] == ['data', 'prepare'] else parts[0]


@pytest.mark.parametrize('path', MODULES, ids=str)
def test_imports_run_down(path):
    *parts, name = path.relative_to(PACKAGE).with_suffix('').parts
    room = room_of([*parts, name])
    floor = TOP if name == '__main__' else FLOOR_OF[room]
    for imported in imports(path):
        package, *rest = imported.split('.')
        if package == 'alexnet_jax':
            assert '__main__' not in rest, f'{path} imports a command'
            other = room_of(rest)
            assert other == room or FLOOR_OF[other] < floor, f'{path} imports {imported}'


@pytest.mark.parametrize('path', MODULES, ids=str)
def test_each_library_has_one_owner(path):
    inside = str(path.relative_to(PACKAGE))
    for imported in imports(path):
        package = imported.split('.')[0]
        assert package not in NEVER, imported
        if package in OWNERS:
            assert inside.startswith(OWNERS[package]), f'{inside} imports {imported}'


def test_the_package_has_few_rooms():
    entries = [path.name for path in PACKAGE.iterdir() if not path.name.startswith(('_', 'py.'))]
    assert len(entries) <= 10, entries


def test_the_tables_and_the_settings_need_no_jax():
    """A bad setting is found before JAX starts."""
    names = (
        'main', 'experiment/config', 'experiment/kept_config', 'experiment/settings',
        'training/__init__', 'training/protocols',
        'network/__main__', 'network/architectures', 'network/communication', 'network/diff',
        'network/layers', 'network/receptive_fields', 'network/rules', 'network/shapes', 'network/variants',
        'report/explain', 'runtime/command_line', 'runtime/errors', 'runtime/heartbeat', 'runtime/joining',
        'runtime/stop', 'runtime/storage/copies', 'runtime/supervisor', 'studies/ablations', 'studies/figure1',
        'studies/specialization', 'studies/study',
    )  # fmt: skip
    for name in names:
        top = ast.parse((PACKAGE / f'{name}.py').read_text()).body
        found = {n for node in top if isinstance(node, ast.Import | ast.ImportFrom)
                 for n in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module])}  # fmt: skip
        assert not {n.split('.')[0] for n in found if n} & {'jax', 'flax', 'optax'}, name
