"""The notebooks run from their first cell to their last, and their asserts hold."""

import ast
import json
import os
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

# By notebook, how many pictures it shows at least: for students, and for vision scientists.
NOTEBOOKS = {Path('docs/alexnet.ipynb'): 15, Path('docs/stimuli.ipynb'): 3}
each_notebook = pytest.mark.parametrize('notebook', NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text())['cells']


def sources(notebook: Path) -> list[str]:
    """Of the code cells, without lines that are IPython's alone."""
    return [
        '\n'.join(line for line in ''.join(cell['source']).splitlines() if line[:1] != '%')
        for cell in cells(notebook)
        if cell['cell_type'] == 'code'
    ]


@each_notebook
def test_it_imports_nothing_but_what_the_package_needs(notebook):
    needed = tomllib.loads(Path('pyproject.toml').read_text())['project']['dependencies']
    names = {re.split(r'[^\w.-]', line)[0].lower().replace('_', '-') for line in needed}
    owners = metadata.packages_distributions()
    found = set()
    for node in (node for source in sources(notebook) for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or '').split('.')[0])
    assert 'alexnet_jax' in found
    for package in found - {'alexnet_jax'} - sys.stdlib_module_names:
        distributions = {name.lower().replace('_', '-') for name in owners[package]}
        assert distributions & names, package


@each_notebook
def test_it_is_kept_as_one_run_left_it(notebook):
    """Every cell's outputs are of the same run, in order, and short enough to keep."""
    assert notebook.stat().st_size < 1_000_000
    kept = [cell for cell in cells(notebook) if cell['cell_type'] == 'code']
    assert [cell['execution_count'] for cell in kept] == list(range(1, len(kept) + 1))
    outputs = [output for cell in kept for output in cell['outputs']]
    assert not [output for output in outputs if output['output_type'] == 'error']
    assert sum('image/png' in output.get('data', {}) for output in outputs) >= NOTEBOOKS[notebook]
    for source in sources(notebook):
        assert len(source.splitlines()) <= 20, source


@pytest.mark.slow
@each_notebook
def test_it_runs(notebook, tmp_path, monkeypatch):
    nbclient = pytest.importorskip('nbclient')
    pytest.importorskip('ipykernel')
    nbformat = pytest.importorskip('nbformat')
    # A kernel of this interpreter, whatever others are installed, and no trace of it elsewhere.
    kernel = tmp_path / 'jupyter' / 'kernels' / 'python3'
    kernel.mkdir(parents=True)
    spec = {
        'argv': [sys.executable, '-m', 'ipykernel_launcher', '-f', '{connection_file}'],
        'display_name': 'Python 3',
        'language': 'python',
    }
    (kernel / 'kernel.json').write_text(json.dumps(spec))
    monkeypatch.setenv('JUPYTER_PATH', str(tmp_path / 'jupyter'))
    monkeypatch.setenv('JUPYTER_RUNTIME_DIR', str(tmp_path / 'runtime'))
    monkeypatch.setenv('IPYTHONDIR', str(tmp_path / 'ipython'))
    monkeypatch.delenv('XLA_FLAGS', raising=False)  # one device, as a student has it
    work = tmp_path / 'work'
    work.mkdir()

    running = nbformat.read(notebook, as_version=4)
    for cell in running.cells:
        if cell.cell_type == 'code':
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        running,
        timeout=600,
        kernel_name='python3',
        resources={'metadata': {'path': str(work)}},
        env=dict(os.environ),
    )
    client.execute()

    ran = [cell for cell in running.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in ran] == list(range(1, len(ran) + 1))
    for cell in ran:
        for output in cell.outputs:
            assert output.output_type != 'error', output
            assert output.get('name') != 'stderr' or 'error: ' not in output.text, output
    assert not list(work.iterdir())  # it works in a folder of its own
