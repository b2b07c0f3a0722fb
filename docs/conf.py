"""Sphinx's configuration; ``make docs`` builds the site."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import docstrings  # noqa: E402
import execute  # noqa: E402
import generate  # noqa: E402

import trellis  # noqa: E402

project, author = "trellis", "the trellis authors"
release = version = trellis.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
]
exclude_patterns = ["_build"]
highlight_language = "text"
html_theme = "furo"
html_title = "trellis"
html_math_renderer = "mathml"
html_theme_options = {"top_of_page_buttons": []}
html_show_copyright = html_copy_source = False
html_static_path = ["style.css"]
html_css_files = ["style.css"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # else the pages repeat those of Lightning
# Types stand beside the arguments.
autodoc_typehints, autodoc_typehints_format = "description", "short"
autodoc_typehints_description_target = "documented"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
suppress_warnings = ["config.cache"]


def _fields(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """What the project's docstrings have beside Google's sections."""
    lines[:] = docstrings.fields(
        docstrings.with_options(name, lines) if what == "class" else lines
    )


def _short(app: Any, what: str, name: str, value: Any, options: Any, written: str, to: str) -> Any:
    """The arguments of a class with their defaults as they stand in the source."""
    return (docstrings.signature(name) or written, to) if what == "class" else None


def _executed(app: Any, name: str, source: list[str]) -> None:
    """A guide with what its code prints."""
    if name.startswith("guides/") or name in ("index", "your_own"):
        source[0] = execute.executed(source[0], name)


def _reference_last(app: Any, env: Any, names: list[str]) -> None:
    """Guides run before ``autodoc`` touches what they use."""
    names.sort(key=lambda name: name.startswith("api/"))


def setup(app: Any) -> None:
    """Write the pages that are generated, execute the guides."""
    generate.write(HERE)
    # Before napoleon, whose own listener has the priority 500.
    app.connect("autodoc-process-docstring", _fields, priority=400)
    app.connect("autodoc-process-signature", _short)
    app.connect("source-read", _executed)
    app.connect("env-before-read-docs", _reference_last)
