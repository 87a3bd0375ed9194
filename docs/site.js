// The search dialog is in a shadow root, which site.css does not reach: its text gets 16 px and a contrast of 4.5, too.
document.addEventListener("focusin", ({ target: { shadowRoot } }) => {
  if (shadowRoot && !shadowRoot.querySelector("[data-site]")) {
    const style = document.createElement("style");
    style.dataset.site = "";
    style.textContent = `
      :is(div, h2, h3, h4, li, button, code) { font-size: 16px !important; }
      :is(div, h3, h4, li) { color: rgb(var(--color-foreground)) !important; }
      li { white-space: normal !important; overflow-wrap: anywhere; }
      :is(h3, h4) { opacity: 1 !important; }
    `;
    shadowRoot.append(style);
  }
});
