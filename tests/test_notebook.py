"""The notebooks run from their first cell to their last, and their asserts hold."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

# The least number of figures by notebook.
NOTEBOOKS = {
    Path('docs/alexnet.ipynb'): 20,
    Path('docs/alexnet_solutions.ipynb'): 3,
    Path('docs/columns.ipynb'): 2,
    Path('docs/stimuli.ipynb'): 3,
}
KOREAN = [Path('docs/alexnet.ko.ipynb'), Path('docs/stimuli.ko.ipynb')]
FIGURES = {'image/png', 'image/jpeg'}
each_notebook = pytest.mark.parametrize('notebook', NOTEBOOKS, ids=lambda path: path.stem)
each_korean_notebook = pytest.mark.parametrize('notebook', KOREAN, ids=lambda path: path.stem)


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
    figures = [output for output in outputs if FIGURES & output.get('data', {}).keys()]
    assert len(figures) >= NOTEBOOKS[notebook]
    for source in sources(notebook):
        assert len(source.splitlines()) <= 20, source


@each_notebook
def test_it_installs_the_package_on_colab_only(notebook, monkeypatch):
    first = sources(notebook)[0]
    calls = []
    monkeypatch.setattr(subprocess, 'run', lambda command, check: calls.append(command))
    exec(first, {})
    assert not calls
    monkeypatch.setitem(sys.modules, 'google.colab', sys)
    with pytest.raises(AssertionError, match='address'):
        exec(first, {})
    exec(first.replace("''", "'https://example.org/a.git'"), {})
    assert [command[-1] for command in calls] == ['git+https://example.org/a.git']


def test_the_training_step_is_written_out_before_the_command_is_called():
    code = sources(Path('docs/alexnet.ipynb'))
    written = next(place for place, text in enumerate(code) if 'jax.value_and_grad(loss)' in text)
    called = next(place for place, text in enumerate(code) if re.search(r'(?<![.\w])main\(', text))
    assert written < called


@each_korean_notebook
def test_a_korean_notebook_has_the_code_of_the_english_one(notebook):
    english = cells(notebook.with_name(notebook.name.replace('.ko', '')))
    korean = cells(notebook)
    assert len(korean) == len(english)
    for cell, original in zip(korean, english, strict=True):
        assert cell['cell_type'] == original['cell_type']
        if cell['cell_type'] == 'code':
            assert cell == original
        else:
            text, model = ''.join(cell['source']), ''.join(original['source'])
            assert re.search('[가-힣]', text), text
            # The same formulas, and headings with the same section numbers.
            formula = re.compile(r'\$\$[^$]+\$\$|\$[^$\n]+\$')
            assert sorted(formula.findall(text)) == sorted(formula.findall(model))
            heading = re.compile(r'^#+ ?[\d.]*', re.MULTILINE)
            assert heading.findall(text) == heading.findall(model)


@pytest.mark.parametrize('notebook', [*NOTEBOOKS, *KOREAN], ids=lambda path: path.stem)
def test_links_lead_to_files(notebook):
    texts = [cell['source'] for cell in cells(notebook) if cell['cell_type'] == 'markdown']
    text = '\n'.join(''.join(lines) for lines in texts)
    for link in re.findall(r'\]\(([^)#]+)', text):
        assert (notebook.parent / link).is_file(), link


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
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')  # nothing is downloaded
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
