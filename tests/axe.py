"""Accessibility of what a browser shows, by axe-core.

`axe.min.js` is axe-core 4.14.1 (MPL-2.0, its notice stands in the file), as published on npm. It is
tracked so that the tests need no network. To renew it: `npm pack axe-core@VERSION` and take
`axe.min.js` out of the archive.
"""

from pathlib import Path

from playwright.sync_api import Page

SCRIPT = Path(__file__).with_name("axe.min.js").read_text(encoding="utf-8")


def serious(page: Page, where: str = "document") -> tuple[dict[str, list[str]], int]:
    """The serious violations by rule, and how many rules passed, in ``where`` (as JavaScript).

    The page's context must have ``bypass_csp``: axe comes from outside the page.
    """
    page.evaluate(SCRIPT)
    found = page.evaluate(f"axe.run({where}, {{ resultTypes: ['violations'] }})")
    grave = {
        violation["id"]: [node["html"][:150] for node in violation["nodes"]][:3]
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    }
    return grave, len(found["passes"])
