"""Notebooks as Markdown: texts, code, and the outputs that were stored with them."""

import json
import re


def markdown(text: str) -> str:
    """Returns the Markdown of a notebook.

    Args:
      text: the notebook's JSON, format 4.
    """
    parts = []
    for cell in json.loads(text)['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            parts.append(source)
        elif cell['cell_type'] == 'code' and source:
            parts += [_fenced(source, 'python'), _outputs(cell['outputs'])]
    return '\n\n'.join(part for part in parts if part)


def _outputs(outputs: list[dict]) -> str:
    """Returns the Markdown of a cell's outputs: what it printed as one block, then its images."""
    printed, images = '', []
    for output in outputs:
        data = output.get('data', {})
        if 'image/png' in data:
            encoded = re.sub(r'\s', '', ''.join(data['image/png']))
            images.append(f'![Output of the code above](data:image/png;base64,{encoded})')
        else:
            printed += ''.join(output.get('text', data.get('text/plain', [])))
    return '\n\n'.join([*([_fenced(printed.strip('\n'), 'text')] if printed else []), *images])


def _fenced(text: str, language: str) -> str:
    return f'````{language}\n{text}\n````'
