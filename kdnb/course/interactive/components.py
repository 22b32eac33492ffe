"""The page's scripts, and a frame that runs one component in a live notebook."""

import base64
import hashlib
import html
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

STATIC = Path(__file__).parents[1] / "static"
# Run in the notebook when a frame has loaded. JupyterLab's theme may differ from the system's.
FOLLOW = """
window.addEventListener("message", ({ source, data }) => {
  if (source === this.contentWindow) this.style.height = `${data}px`;
});
const light = () => document.body.dataset.jpThemeLight;
const send = () => this.contentWindow?.postMessage({ light: light() }, "*");
new MutationObserver(send).observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
send();"""


def page_script() -> str:
    """All scripts of a page: the shared part, the components, and the start."""
    page = {path.stem: path for path in sorted((STATIC / "page").glob("*.js"))}
    first, last = page.pop("base"), page.pop("start")
    files = [first, *page.values(), *sorted((STATIC / "components").glob("*.js")), last]
    return '"use strict";\n' + "\n".join(file.read_text(encoding="utf-8") for file in files)


def scripted(template: str, after: str = "", **values: object) -> str:
    """One of the course's templates with these values and the page's script.

    Another script may run ``after`` it. All other values are escaped as text unless they are
    marked as markup.
    """
    script = page_script() + after
    digest = hashlib.sha256(script.encode()).digest()
    return rendered(
        template,
        script=Markup(script),
        # The page allows only this script, byte for byte.
        script_hash=f"sha256-{base64.b64encode(digest).decode()}",
        **values,
    )


def rendered(template: str, **values: object) -> str:
    """One of the course's templates; values are escaped unless they are marked as markup."""
    environment = Environment(
        loader=PackageLoader("kdnb.course.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def frame(component: dict, title: str, still: str = "") -> str:
    """A component of the page as HTML for a live notebook: the same script in its own frame.

    The frame has no access to the notebook or the network. Where the notebook runs `FOLLOW`, the
    frame is as high as its contents; else they scroll. ``still`` is the HTML that a component of
    the page has as its fallback.
    """
    follow = (STATIC / "lab" / "frame.js").read_text(encoding="utf-8")
    values = {"component": component, "title": title, "still": Markup(still)}
    page = scripted("frame.html.j2", after=follow, **values)
    return (
        f'<iframe title="{html.escape(title)}" sandbox="allow-scripts" srcdoc="{html.escape(page)}"'
        f' onload="{html.escape(FOLLOW)}" style="width:100%;height:560px;border:0"></iframe>'
    )
