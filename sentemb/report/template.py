"""The templates of every self-contained page: one frame and style, no network, no script but the page's."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sentemb.runs import plain

# The browser itself refuses scripts and network.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class PageTable:
    """A table of a page. A row's first cell is its title. Other values than text become JSON; Markup is not escaped."""

    title: str
    head: Sequence[object]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    wide: bool = True  # scrolls sideways within its box; cells do not wrap


@cache
def _templates(package: str) -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("sentemb.report")]),
        autoescape=True,
        finalize=plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def html_page(template: str, package: str = "sentemb.report", scripts: Sequence[str] = (), **content: object) -> str:
    """A page from a template, with all text escaped.

    Args:
        template: its name in the templates of ``package``, which may use those of this package.
        scripts: names of templates; the only scripts that may run.
        content: what the template shows.
    """
    templates = _templates(package)
    assert templates.loader is not None
    sources = [templates.loader.get_source(templates, name)[0] for name in scripts]
    digests = [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources]
    allowed = " ".join(["; script-src", *(f"'sha256-{digest}'" for digest in digests)]) if digests else ""
    return templates.get_template(template).render(
        policy=POLICY + allowed, scripts=[Markup(source) for source in sources], **content
    )
