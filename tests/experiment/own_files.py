"""Files of a user's own parts: those of docs/own_parts.md, as a reader copies them."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / 'docs' / 'own_parts.md'


def examples() -> dict[str, str]:
    """Returns the files that the page shows, by name."""
    found = re.findall(r'`(\w+\.py)`:\n\n```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in found] == ['mynet.py', 'myrecipe.py', 'mydata.py']
    return dict(found)


def write(folder: Path) -> None:
    """Writes the examples into a folder."""
    for name, text in examples().items():
        (folder / name).write_text(text)


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
