"""The frame of every self-contained page: no network, no script but the one given, one style."""

import base64
import hashlib
from importlib.resources import files
from string import Template

TEMPLATE = Template(files("sentemb.report").joinpath("page.html").read_text(encoding="utf-8"))
STYLE = files("sentemb.report").joinpath("style.css").read_text(encoding="utf-8")
# The browser itself refuses scripts and network.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def html_page(title: str, body: str, style: str = "", script: str = "", meta: str = "") -> str:
    """A page.

    Args:
        title, body: as HTML. style: CSS behind the style of all pages. script: the only one that may run.
        meta: an element of the head.
    """
    policy = POLICY
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy, body = f"{POLICY}; script-src 'sha256-{digest}'", f"{body}\n<script>{script}</script>"
    meta = f"\n{meta}" if meta else ""
    return TEMPLATE.substitute(title=title, body=body, style=STYLE + style, policy=policy, meta=meta)
