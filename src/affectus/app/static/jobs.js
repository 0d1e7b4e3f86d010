// One analysis that is under way, or has ended, as a row with its progress.
import { api } from "./api.js";
import { announce, fill, h } from "./dom.js";
import { spoken } from "./format.js";

export const target = (job) => (job.kind === "review" ? `#/r/${job.id}` : `#/a/${job.id}`);

/** Follow an analysis until it has ended; the element shows how far it is. */
export function jobCard(first, ended, changed = () => {}) {
  const card = h("li", { class: "card job", "data-job": first.id });
  const bar = h("progress", { max: 1, "aria-label": `Progress of ${first.name}` });
  const line = h("p", { class: "soft" });
  const actions = h("p", { class: "actions" });
  let state = "";

  const press = (label, act) => h("button", { onclick: () => act().then(draw, (error) => (line.textContent = error.message)) }, label);
  function draw(job) {
    if (job === null) return card.remove();
    if (job.state === "running") {
      const share = job.progress?.share ?? 0;
      bar.value = share;
      line.textContent = `${job.progress?.stage ?? "starting"} · ${Math.round(100 * share)} % · ${spoken(job.progress?.seconds_left)}`;
    } else if (job.state === "queued") {
      bar.removeAttribute("value");
      line.textContent = job.ahead ? `waiting, ${job.ahead} before it` : "waiting, next in turn";
    } else {
      line.textContent = { done: "done", failed: job.error, cancelled: "cancelled" }[job.state] ?? job.state;
    }
    line.className = job.state === "failed" ? "problem" : "soft";
    if (state !== job.state) {
      const busy = job.state === "queued" || job.state === "running";
      if (state) announce(`${job.name}: ${job.state === "failed" ? job.error : job.state}`);
      state = job.state;
      fill(
        actions,
        busy && press("Cancel", () => api.cancel(job.id)),
        job.state === "done" && h("a", { class: "button primary", href: target(job) }, "Open the report"),
        (job.state === "failed" || job.state === "cancelled") && press("Try again", () => api.retry(job.id)),
        !busy && press("Delete", () => api.remove(job.id)),
      );
      fill(card, h("h3", { class: "name" }, job.name), busy && bar, line, actions);
      changed(job);
    }
    if (job.state === "queued" || job.state === "running") setTimeout(look, 600);
  }
  async function look() {
    if (ended.aborted) return;
    try {
      draw(await api.get(first.id));
    } catch (error) {
      if (error.status === 404) return card.remove();
      line.textContent = error.message;
      setTimeout(look, 2000);
    }
  }
  draw(first);
  return card;
}
