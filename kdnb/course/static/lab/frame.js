// In a frame, after the page's script: it follows the notebook's theme, if the notebook tells of one,
// and tells the notebook the height of its contents.
{
  const dark = [...document.styleSheets[0].cssRules].filter(
    (rule) => rule.media?.mediaText.includes("prefers-color-scheme: dark"));
  let observed = false;
  addEventListener("message", ({ source, data: { light } }) => {
    if (light) {
      document.documentElement.style.colorScheme = light === "true" ? "light" : "dark";
      for (const { media } of dark) media.mediaText = light === "true" ? "not all" : "all";
    }
    if (observed) return;
    observed = true;
    const tell = () => source.postMessage(Math.ceil(document.documentElement.getBoundingClientRect().height), "*");
    new ResizeObserver(tell).observe(document.documentElement);
  });
}
