// In a frame, after the page's script: takes the notebook's theme, where the notebook sends one, and
// sends the notebook the height of the contents.
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
    const root = document.documentElement;
    const send = () => source.postMessage(Math.ceil(root.getBoundingClientRect().height), "*");
    new ResizeObserver(send).observe(root);
  });
}
