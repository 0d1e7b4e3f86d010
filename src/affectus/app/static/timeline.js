// Sentiment over time: a line for all modalities together, thin ones for each, a band of emotions, marks of disagreement.
// Only what can be seen is drawn, so an hour scrolls as smoothly as a minute.
import { h } from "./dom.js";
import { clock, said, signed } from "./format.js";

const HEIGHT = 190;
const TOP = 18; // of the plot, below the marks of disagreement
const BAND = 22; // of emotions, at the bottom, above the times
const AXIS = 18;
const COLOURS = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "none"];

/**
 * @param items utterances: {t0, t1, label, value, lines: {modality: value}, emotion, disagree}
 * @param length seconds, or the number of utterances where there are no times
 * @param timed whether the unit is seconds
 * @param seek called with the time that was asked for
 */
export function timeline({ items, length, timed, modalities, seek, label }) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const spacer = h("div", { class: "spacer" });
  const frame = h("div", {
    class: "timeline", tabindex: "0", role: "slider", "aria-label": label, "aria-orientation": "horizontal",
    "aria-valuemin": 0, "aria-valuemax": Math.round(length), "aria-valuenow": 0, "aria-valuetext": "",
  }, spacer);
  const holder = h("div", { class: "sticky" }, canvas);
  spacer.append(holder);
  let scale = 1; // pixels per unit
  let zoom = 1;
  let now = 0;
  let width = 0;
  let on = new Set(modalities);
  let colours = {};
  let queued = false;

  const fit = () => Math.max(width / Math.max(length, 1e-6), 0.0001);
  function measure() {
    width = frame.clientWidth;
    scale = fit() * zoom;
    spacer.style.setProperty("width", `${Math.max(width, Math.floor(length * scale))}px`);
    spacer.style.setProperty("height", `${HEIGHT}px`);
    holder.style.setProperty("width", `${width}px`);
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, Math.round(width * dense));
    canvas.height = HEIGHT * dense;
    canvas.style.setProperty("width", `${width}px`);
    canvas.style.setProperty("height", `${HEIGHT}px`);
    canvas.getContext("2d").setTransform(dense, 0, 0, dense, 0, 0);
    readColours();
    draw();
  }
  function readColours() {
    const style = getComputedStyle(frame);
    const get = (name) => style.getPropertyValue(name).trim();
    colours = { ink: get("--ink"), soft: get("--soft"), rule: get("--rule"), accent: get("--accent"), mark: get("--mark"), fused: get("--ink") };
    for (const name of ["text", "audio", "vision"]) colours[name] = get(`--m-${name}`) || get("--soft");
    for (const name of COLOURS) colours[`e-${name}`] = get(`--e-${name}`);
  }
  const y = (value) => {
    const plot = HEIGHT - TOP - BAND - AXIS - 6;
    return TOP + plot * (0.5 - Math.max(-3, Math.min(3, value)) / 6);
  };

  // the first item that ends after a time, by halving: items are in the order of time
  function firstAfter(time) {
    let low = 0;
    let high = items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (items[middle].t1 < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function paint() {
    queued = false;
    const left = frame.scrollLeft;
    const g = canvas.getContext("2d");
    g.clearRect(0, 0, width, HEIGHT);
    const from = left / scale;
    const to = (left + width) / scale;
    const x = (time) => time * scale - left;
    g.lineWidth = 1;
    g.font = "11px system-ui, sans-serif";
    for (const value of [-3, -1.5, 0, 1.5, 3]) {
      g.strokeStyle = value === 0 ? colours.soft : colours.rule;
      g.beginPath();
      g.moveTo(0, Math.round(y(value)) + 0.5);
      g.lineTo(width, Math.round(y(value)) + 0.5);
      g.stroke();
    }
    // times
    g.fillStyle = colours.soft;
    const steps = timed ? [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600] : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000];
    const step = steps.find((one) => one * scale >= 64) ?? steps.at(-1);
    for (let at = Math.floor(from / step) * step; at <= to; at += step) {
      if (at < 0) continue;
      g.fillText(timed ? clock(at) : String(at + 1), x(at) + 2, HEIGHT - 5);
      g.fillRect(Math.round(x(at)), HEIGHT - AXIS, 1, 4);
    }
    // one item a pixel is enough
    const first = firstAfter(from);
    let last = first;
    while (last < items.length && items[last].t0 <= to) last++;
    const stride = Math.max(1, Math.floor((last - first) / Math.max(width, 1)));
    for (let i = first; i < last; i += stride) {
      const one = items[i];
      const a = x(one.t0);
      const b = Math.max(x(one.t1), a + 1);
      if (one.emotion) {
        g.fillStyle = colours[`e-${one.emotion}`] ?? colours.soft;
        g.fillRect(a, HEIGHT - AXIS - BAND, Math.max(b - a - 1, 1), BAND - 4);
      }
      if (one.disagree) {
        g.fillStyle = colours.mark;
        const middle = (a + b) / 2;
        g.beginPath();
        g.moveTo(middle, 14);
        g.lineTo(middle - 5, 4);
        g.lineTo(middle + 5, 4);
        g.fill();
      }
    }
    const lines = [...modalities.filter((name) => on.has(name)).map((name) => [name, (one) => one.lines[name], 1.5, name]), ["fused", (one) => one.value, 3, "fused"]];
    for (const [, value, thick, colour] of lines) {
      g.strokeStyle = colours[colour];
      g.lineWidth = thick;
      g.globalAlpha = thick > 2 ? 1 : 0.85;
      g.beginPath();
      for (let i = Math.max(first - 1, 0); i < Math.min(last + 1, items.length); i += stride) {
        const v = value(items[i]);
        if (v === null || v === undefined) continue;
        g.moveTo(x(items[i].t0), y(v));
        g.lineTo(Math.max(x(items[i].t1) - 1, x(items[i].t0) + 1), y(v));
      }
      g.stroke();
    }
    g.globalAlpha = 1;
    g.fillStyle = colours.accent;
    g.fillRect(x(now) - 1, 0, 2, HEIGHT - AXIS);
  }
  function draw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(paint);
  }

  function at(time) {
    const i = firstAfter(time);
    return items[i] && items[i].t0 <= time ? items[i] : null;
  }
  function show(time, follow) {
    now = time;
    frame.setAttribute("aria-valuenow", String(Math.round(time)));
    const one = at(time);
    const place = timed ? clock(time) : `sentence ${Math.floor(time) + 1}`;
    frame.setAttribute("aria-valuetext", one ? `${place}: ${said(one.opinion)}. ${one.label}` : `${place}: nobody speaks`);
    if (follow) {
      const x = time * scale;
      if (x < frame.scrollLeft + 20 || x > frame.scrollLeft + width - 20) frame.scrollLeft = x - width / 3;
    }
    draw();
  }
  function setZoom(next, keep = now) {
    const most = Math.max(1, (timed ? 60 : 120) / fit());
    const before = keep * scale - frame.scrollLeft;
    zoom = Math.max(1, Math.min(next, most));
    measure();
    frame.scrollLeft = keep * scale - before;
  }

  frame.addEventListener("scroll", draw, { passive: true });
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    seek(Math.max(0, Math.min((event.clientX - box.left + frame.scrollLeft) / scale, length)));
  });
  frame.addEventListener("keydown", (event) => {
    const step = timed ? 5 : 1;
    const one = at(now);
    const i = one ? items.indexOf(one) : firstAfter(now) - 0.5;
    const to = {
      ArrowRight: now + step, ArrowUp: now + step, ArrowLeft: now - step, ArrowDown: now - step,
      Home: 0, End: length,
      PageDown: items[Math.min(Math.ceil(i + 0.5), items.length - 1)]?.t0,
      PageUp: items[Math.max(Math.floor(i - 0.5), 0)]?.t0,
    }[event.key];
    if (event.key === "+" || event.key === "=") setZoom(zoom * 1.5);
    else if (event.key === "-") setZoom(zoom / 1.5);
    else if (to !== undefined) seek(Math.max(0, Math.min(to, length)));
    else return;
    event.preventDefault();
  });
  const sized = new ResizeObserver(measure);
  sized.observe(frame);
  const themed = matchMedia("(prefers-color-scheme: dark)");
  themed.addEventListener("change", measure);

  return {
    element: frame,
    show,
    draw,
    at,
    zoomIn: () => setZoom(zoom * 1.5),
    zoomOut: () => setZoom(zoom / 1.5),
    /** Pixels per unit; for a minute to fill the view, say. */
    setScale: (next) => setZoom(next / fit()),
    setModalities(next) {
      on = new Set(next);
      draw();
    },
    describe: (one) => `${signed(one.value)}`,
    end() {
      sized.disconnect();
      themed.removeEventListener("change", measure);
    },
  };
}
