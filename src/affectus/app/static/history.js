// Past analyses.
import { api } from "./api.js";
import { announce, fill, h, problem } from "./dom.js";
import { bytes, clock, count, signed, when } from "./format.js";
import { target } from "./jobs.js";

const PAGE = 25;

export async function historyView(place, { ended }) {
  let skip = 0;
  const note = h("div", {});
  const body = h("div", {});

  async function draw() {
    const { analyses, total } = await api.list(PAGE, skip);
    if (ended.aborted) return;
    if (!analyses.length && skip) {
      skip -= PAGE;
      return draw();
    }
    const rows = analyses.map((job) => {
      const done = job.state === "done";
      const about = done
        ? [job.summary.duration ? clock(job.summary.duration) : null, count(job.summary.utterances, "utterance"),
           job.summary.intensity !== null && job.summary.intensity !== undefined ? `mean ${signed(job.summary.intensity)}` : null]
        : [job.state === "failed" ? job.error : job.state];
      return h(
        "li",
        { class: "card row", "data-job": job.id },
        h("div", { class: "grow" },
          h("h3", { class: "name" }, done ? h("a", { href: target(job) }, job.name) : job.name),
          h("p", { class: job.state === "failed" ? "problem" : "soft" }, [when(job.created), job.bytes ? bytes(job.bytes) : null, ...about].filter(Boolean).join(" · "))),
        h("p", { class: "actions" },
          (job.state === "failed" || job.state === "cancelled") && h("button", { onclick: () => act(() => api.retry(job.id), "It waits again.") }, "Try again"),
          (job.state === "queued" || job.state === "running") && h("button", { onclick: () => act(() => api.cancel(job.id), "Cancelled.") }, "Cancel"),
          h("button", { class: "danger", "aria-label": `Delete ${job.name}`, onclick: (event) => ask(event.currentTarget, job) }, "Delete")),
      );
    });
    fill(
      body,
      analyses.length ? h("ul", { class: "cards" }, rows) : h("p", {}, "There is none yet."),
      total > PAGE && h("p", { class: "actions" },
        h("button", { disabled: skip === 0, onclick: () => { skip -= PAGE; draw(); } }, "Newer"),
        h("span", { class: "soft" }, `${skip + 1} to ${Math.min(skip + PAGE, total)} of ${total}`),
        h("button", { disabled: skip + PAGE >= total, onclick: () => { skip += PAGE; draw(); } }, "Older")),
    );
  }

  async function act(what, text) {
    try {
      await what();
      announce(text);
      fill(note);
    } catch (error) {
      fill(note, problem(error.message));
    }
    await draw();
    place.querySelector("h1").focus();
  }

  function ask(button, job) {
    const dialog = h("dialog", { "aria-label": "Delete?" });
    const sure = h("button", { class: "danger", onclick: () => { dialog.close(); act(() => api.remove(job.id), `${job.name} was deleted.`); } }, "Delete it");
    fill(dialog,
      h("p", {}, `Delete ${job.name}, its recording, features, results and corrections?`),
      h("p", { class: "actions" }, sure, h("button", { onclick: () => dialog.close() }, "Keep it")));
    dialog.addEventListener("close", () => { dialog.remove(); if (button.isConnected) button.focus(); });
    place.append(dialog);
    dialog.showModal();
  }

  fill(place, h("h1", { tabindex: "-1" }, "History"), note, body);
  await draw();
}
