// The theme replaces <i> icons by <svg>, which breaks the Play button of ipywidgets; nested, both work.
window.FontAwesomeConfig = { autoReplaceSvg: "nest" };

// The widgets' own script speaks MathJax 2; answer its one call with MathJax 3.
document.addEventListener("DOMContentLoaded", () => {
  window.MathJax = window.MathJax || {};
  window.MathJax.Hub = {
    Queue: (...calls) => {
      const elements = calls.map((call) => call[call.length - 1]).filter((item) => item instanceof Element);
      if (elements.length && window.MathJax.typesetPromise) window.MathJax.typesetPromise(elements);
    },
  };
});

// The handle of a widget's slider is a control of its own, and needs the slider's name to be told by.
new MutationObserver(() => {
  for (const handle of document.querySelectorAll(".noUi-handle:not([aria-label])")) {
    const label = handle.closest(".jupyter-widgets")?.querySelector(".widget-label");
    if (label) handle.setAttribute("aria-label", label.textContent);
  }
}).observe(document, { childList: true, subtree: true });

// The link beside a play button saves the sound, by the sound's own address: a page holds each sound once.
document.addEventListener("DOMContentLoaded", () => {
  for (const link of document.querySelectorAll(".vf-save")) {
    link.href = link.previousElementSibling.src;
    link.hidden = false;
  }
});

// One sound at a time: a new one stops and rewinds the others.
document.addEventListener(
  "play",
  (event) => {
    for (const other of document.querySelectorAll("audio")) {
      if (other !== event.target && !other.paused) {
        other.pause();
        other.currentTime = 0;
      }
    }
  },
  true,
);

// Paper is white: the dark colours, which only a script can have set, are off while a page is printed.
window.addEventListener("beforeprint", () => {
  const theme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  window.addEventListener("afterprint", () => (document.documentElement.dataset.theme = theme), { once: true });
});
