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
