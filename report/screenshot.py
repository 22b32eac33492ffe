"""The README's picture of the report: python report/screenshot.py, after `make report`.

The cover and a chapter in a wide window, and the same chapter on a phone in the dark.
"""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

REPORT = Path(__file__).parent
COMPONENT, HEIGHT, GAP = ".component", 760, 12


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shots = [
            shot(browser, 1100, "light"),
            shot(browser, 1100, "light", COMPONENT),
            shot(browser, 390, "dark", COMPONENT),
        ]
        browser.close()
    sheet = Image.new("RGB", (sum(s.width + GAP for s in shots) - GAP, HEIGHT), "#8a94a3")
    left = 0
    for picture in shots:
        sheet.paste(picture, (left, 0))
        left += picture.width + GAP
    sheet = sheet.resize((sheet.width * 5 // 8, sheet.height * 5 // 8), Image.Resampling.LANCZOS)
    target = REPORT / "screenshot.png"
    sheet.quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


def shot(browser: Browser, width: int, scheme: str, at: str = "") -> Image.Image:
    """The digits page in a window so wide; ``at`` selects what stands in its middle."""
    size = {"width": width, "height": HEIGHT}
    page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    page.goto((REPORT / "mnist-small.html").as_uri())
    if at:
        page.locator(at).first.evaluate("""it => {
          it.dispatchEvent(new CustomEvent("reveal", { bubbles: true }));  // a guess may cover it
          it.scrollIntoView({ block: "center" });
        }""")
        # The contents follow a frame later.
        page.locator("nav [aria-current]").wait_for(state="attached")
    picture = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    return picture


if __name__ == "__main__":
    main()
