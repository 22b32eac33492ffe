"""The README's two pictures of the report: python report/screenshot.py, after `make report`.

The cover in a wide window, and the playground in the middle of a training: in a window, and on a
phone in the dark.
"""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

REPORT = Path(__file__).parent
HEIGHT, GAP, CONTENTS = 900, 12, 272
# A third of the epochs that the playground counts in "epoch 12 of 40".
A_THIRD = """it => {
  const [, at, all] = it.textContent.match(/epoch (\\d+) of (\\d+)/) ?? [0, 0, 1];
  return at >= all / 3;
}"""


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        wide, narrow = opened(browser, 1280, "light"), opened(browser, 390, "dark")
        # Without the contents, which are to the left of the cover.
        save("cover", [shot(wide, {"x": CONTENTS, "y": 0, "width": 1280 - CONTENTS})])
        save("playground", [trained(wide, CONTENTS), trained(narrow)])
        browser.close()


def opened(browser: Browser, width: int, scheme: str) -> Page:
    """The digits page in a window so wide."""
    size = {"width": width, "height": HEIGHT}
    page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    page.goto((REPORT / "mnist-small.html").as_uri())
    return page


def trained(page: Page, left: int = 0) -> Image.Image:
    """The playground in the middle of a training, from ``left`` on."""
    place = page.locator("[data-component=playground]")
    # A guess may cover it.
    place.evaluate("it => it.dispatchEvent(new CustomEvent('reveal', { bubbles: true }))")
    place.get_by_role("button", name="Train", exact=True).click()
    page.wait_for_function(A_THIRD, arg=place.element_handle(), timeout=120_000)
    place.get_by_role("button", name="Pause").click()
    place.evaluate("it => it.scrollIntoView({ block: 'start' })")
    page.evaluate("window.scrollBy(0, -60)")  # a phone's contents cover the top of the window
    page.wait_for_timeout(500)  # the curves follow in a frame of their own
    return shot(page, {"x": left, "y": 0, "width": page.viewport_size["width"] - left})


def shot(page: Page, clip: dict[str, int]) -> Image.Image:
    """A part of the window, as high as the window."""
    return Image.open(io.BytesIO(page.screenshot(clip=clip | {"height": HEIGHT})))


def save(name: str, shots: list[Image.Image]) -> None:
    """Pictures side by side, in 256 colours that keep every hue of a chart."""
    sheet = Image.new("RGB", (sum(s.width + GAP for s in shots) - GAP, HEIGHT), "#8a94a3")
    left = 0
    for picture in shots:
        sheet.paste(picture, (left, 0))
        left += picture.width + GAP
    target = REPORT / f"{name}.png"
    sheet.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        target, optimize=True
    )
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
