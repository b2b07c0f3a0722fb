"""Formulas as MathML, which browsers draw by themselves: pages need no network and no script."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

_LOG = logging.getLogger(__name__)


# What docutils reads otherwise than TeX does, and a spelling that both read alike.
_SPELLINGS = (
    (r"(\\[td]?frac)(\d)(\d)", r"\1{\2}{\3}"),  # 12 would be one argument
    (r"\\textstyle", ""),  # unknown within a group
)


def setup(app: Any) -> None:
    """Register ``mathml`` as a renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))


def _inline(translator: Any, node: nodes.Element) -> None:
    _write(translator, node, display=False)


def _display(translator: Any, node: nodes.Element) -> None:
    _write(translator, node, display=True)


def _write(translator: Any, node: nodes.Element, display: bool) -> None:
    formula = node.astext()
    for written, known in _SPELLINGS:
        formula = re.sub(written, known, formula)
    try:
        translator.body.append(tex2mathml(formula, as_block=display))
    except MathError as error:
        _LOG.warning("formula %r: %s", formula, error, location=node)
    raise nodes.SkipNode
