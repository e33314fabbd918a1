"""Pages of the API reference, one a module, from the tree of the package."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'alexnet_jax'
# Rooms that programs import from. The others are commands and their insides.
ROOMS = {
    'network': 'Nets, their operations and the device mesh',
    'data': 'From records to batches',
    'training': 'Steps, schedules, protocols and checkpoints',
    'weights': 'Weight files of other programs',
    'evaluation': 'Errors, interventions and comparisons',
    'experiment': 'Configurations, workdirs and trained models',
}
COMMANDS = {'__main__.py', 'prepare', 'ahead_of_time'}


def modules(room: str) -> list[Path]:
    """Returns the paths of a room's modules, relative to the repository, sorted."""
    return [
        path.relative_to(ROOT)
        for path in sorted((PACKAGE / room).rglob('*.py'))
        if not COMMANDS.intersection(path.parts) and path.name != '__init__.py'
    ]


def uri_of(path: str) -> str | None:
    """Returns the page of a module by its path in the repository; None if it has none."""
    parts = Path(path).parts
    if len(parts) < 3 or parts[1] not in ROOMS or Path(path) not in modules(parts[1]):
        return None
    return '/'.join(('reference', *parts[1:-1], f'{Path(path).stem}.md'))


def navigation() -> list:
    """Returns the part of MkDocs' `nav` for the reference, grouped by room."""
    rooms = []
    for room in ROOMS:
        pages = [{_title(path): uri_of(str(path))} for path in modules(room)]
        rooms.append({room: [{'All modules': f'reference/{room}/index.md'}, *pages]})
    return [{'alexnet_jax': 'reference/index.md'}, *rooms]


def pages() -> dict[str, str]:
    """Returns the Markdown of every page by its path."""
    rows = [f'| [{room}]({room}/index.md) | {title} |' for room, title in ROOMS.items()]
    start = ['::: alexnet_jax', '', '## Rooms', '', '| room | contents |', '|---|---|', *rows]
    found = {'reference/index.md': '\n'.join(start)}
    for room, title in ROOMS.items():
        lines = [f'# {room}', '', f'{title}.', '', '| module | contents |', '|---|---|']
        for path in modules(room):
            inside = path.relative_to('alexnet_jax', room).with_suffix('')
            lines.append(f'| [{_title(path)}]({inside.as_posix()}.md) | {summary(path)} |')
            dotted = '.'.join(path.with_suffix('').parts)
            found[str(uri_of(str(path)))] = f'---\ntitle: {_title(path)}\n---\n\n::: {dotted}\n'
        found[f'reference/{room}/index.md'] = '\n'.join(lines)
    return found


def summary(path: Path) -> str:
    """Returns the first sentence of a module's docstring, for a cell of a table."""
    text = ast.get_docstring(ast.parse((ROOT / path).read_text())) or ''
    first = ' '.join(text.split('\n\n')[0].split())
    sentence = first.split('. ')[0].rstrip('.')
    return sentence.replace('|', '\\|')


def _title(path: Path) -> str:
    """Returns a module's name below its room: 'compare.rsa'."""
    return '.'.join(path.with_suffix('').parts[2:])
