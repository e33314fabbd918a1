"""MkDocs hooks: pages from outside docs/, links between them, notebooks and the API reference.

Pages keep the links that work on GitHub. A link to a file of the repository leads to its page on
the site: a text, a module's reference, or a page that shows the file.
"""

import posixpath
import re
from pathlib import Path

import notebooks
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Texts outside docs/: the path in the repository, and that of the page.
TEXTS = {
    'README.md': 'index.md',
    'CONTRIBUTING.md': 'contributing.md',
    'SECURITY.md': 'security.md',
    'CHANGELOG.md': 'changelog.md',
    'configs/README.md': 'configs.md',
    'launch/README.md': 'launch.md',
    'benchmarks/README.md': 'benchmarks.md',
    'benchmarks/RESULTS.md': 'results.md',
}
# Code, which stays, or the target of a relative link without its anchor.
LINK = re.compile(r'(`+).*?\1|(?<=\]\()(?![a-z]+:|#)(?P<target>[^)#\s]+)(?=[)#])', re.DOTALL)
LANGUAGES = {'.py': 'python', '.json': 'json', '.sh': 'bash', '.yaml': 'yaml', '.toml': 'toml'}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Appends the API reference to the navigation."""
    assert config.nav is not None
    config.nav.append({'API reference': reference.navigation()})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the texts outside docs/, the API reference, and pages of the files that texts link to."""
    for path, uri in TEXTS.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_text()))
    for file in [file for file in files if file.src_uri.endswith('.ipynb')]:
        files.remove(file)
        text = notebooks.markdown(file.content_string)
        files.append(File.generated(config, f'{file.src_uri}.md', content=text))
    linked = {
        _resolved(origin, found['target'])
        for file in files.documentation_pages()
        if (origin := _origin(file.src_uri))
        for found in LINK.finditer(file.content_string)
        if found['target']
    }
    for path in sorted(linked):
        if page_of(path) not in files.src_uris and not reference.uri_of(path):
            files.append(_shown_file(config, path))
    for uri, text in reference.pages().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str | None:
    """Rewrites links to files of the repository into links to their pages."""
    uri = page.file.src_uri
    origin = _origin(uri)
    if origin is None:
        return None

    def link(found: re.Match) -> str:
        if not found['target']:
            return found[0]
        target = page_of(_resolved(origin, found['target']))
        return posixpath.relpath(target, posixpath.dirname(uri) or '.')

    return LINK.sub(link, markdown)


def on_page_content(html: str, **_) -> str:
    """Makes the empty heads of tables cells, which screen readers pass over."""
    return re.sub(r'<th( [^>]*)?></th>', r'<td\1></td>', html)


def page_of(path: str) -> str:
    """Returns the path, below docs/, of the page or file that stands for a file of the repository.

    Raises:
      FileNotFoundError: the repository has no such file.
    """
    if not (ROOT / path).exists():
        raise FileNotFoundError(f'{path} is linked to, and is not in the repository')
    inside = path.removeprefix('docs/')
    if path in TEXTS:
        return TEXTS[path]
    if path.endswith('.ipynb'):
        return f'{inside}.md'
    if (ROOT / path).is_dir():
        return f'{inside}/index.md'
    if path.startswith('docs/'):
        return inside
    return reference.uri_of(path) or f'files/{path}.md'


def _origin(uri: str) -> str | None:
    """Returns the path in the repository of a page's text; None if the page was made here."""
    paths = {uri: path for path, uri in TEXTS.items()}
    path = paths.get(uri, f'docs/{uri}').replace('.ipynb.md', '.ipynb')
    return path if (ROOT / path).is_file() else None


def _resolved(origin: str, target: str) -> str:
    """Returns the path in the repository that a relative link of the text `origin` leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))


def _shown_file(config: MkDocsConfig, path: str) -> File:
    """Returns a page that shows a file of the repository, or lists a folder."""
    place = ROOT / path
    if place.is_dir():
        lines = [f'- [{file.name}]({file.name})' for file in sorted(place.iterdir())]
    else:
        lines = [f'````{LANGUAGES.get(place.suffix, "text")}', place.read_text().rstrip(), '````']
    text = '\n'.join([f'# {path}', '', *lines, ''])
    return File.generated(config, page_of(path), content=text, inclusion=InclusionLevel.NOT_IN_NAV)
