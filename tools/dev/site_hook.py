"""Hook of mkdocs.yml: files of the repository that pages link, ``../configs/x.py``, become part of the site."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
ROLE = re.compile(r":\w+:<code>~?([\w.]+)</code>")
FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
# After Chinese punctuation, unless something begins that is no text; and between two Chinese characters.
CHINESE_BREAK = re.compile(
    r"(?<=[\u3001-\u303f\uff00-\uffef])\n(?![\s|#>+\d-]|```|\* )|(?<=[\u4e00-\u9fff])\n(?=[\u4e00-\u9fff])"
)
OUTWARD = re.compile(r"\]\(\.\./([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the pages link outside of docs/."""
    linked = {path for file in files.documentation_pages() for path in OUTWARD.findall(file.content_string)}
    for path in sorted(linked):
        if (ROOT / path).is_file():
            files.append(File.generated(config, f"source/{path}.txt", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead these links to the copies; a link that has none stays, and the strict build tells it.

    A Chinese line goes on in the next one, where a browser would show a blank.
    """
    pieces = FENCED.split(OUTWARD.sub(r"](source/\1.txt", markdown))
    return "".join(piece if number % 2 else CHINESE_BREAK.sub("", piece) for number, piece in enumerate(pieces))


def on_page_content(html: str, **_: object) -> str:
    """Show the roles of docstrings, ``:class:`~package.Name```, as the names that they lead to."""
    return ROLE.sub(lambda found: f"<code>{found[1].rpartition('.')[2]}</code>", html)
