// What a run tells of a corpus: its report, and every example.
import { api } from "./api.js";
import { fill, h } from "./dom.js";
import { count, EMOTIONS, MODALITY_WORDS, said, signed, tone, valueOf } from "./format.js";
import { jobCard } from "./jobs.js";
import { correctionsLine, detail } from "./detail.js";

const PAGE = 50;
const ORDERS = {
  error: ["largest error", (one) => one.error],
  spread: ["largest disagreement", (one) => one.spread],
  order: ["order of the corpus", null],
};

export async function reviewView(place, { argument: id, ended, title }) {
  const job = await api.get(id);
  if (ended.aborted) return;
  title(job.name);
  if (job.state !== "done") {
    const card = jobCard(job, ended, (now) => now.state === "done" && location.hash === `#/r/${id}` && reviewView(place, { argument: id, ended, title }));
    fill(place, h("h1", { class: "name" }, job.name), h("ul", { class: "cards" }, card));
    return;
  }
  const [result, given] = await Promise.all([api.result(id), api.corrections(id)]);
  if (ended.aborted) return;
  const corrections = new Map(given.map((one) => [one.utterance, one]));
  const byId = new Map(result.utterances.map((one) => [one.id, one]));
  let order = result.utterances.some((one) => one.error !== null && one.error !== undefined) ? "error" : "spread";
  let skip = 0;
  let only = "";
  let chosen = null;
  const list = h("div", {});
  const panel = h("section", { class: "detail", "aria-label": "The chosen utterance" }, h("p", { class: "soft" }, "Choose an example to see what each modality says, and to correct its label."));
  const fixes = h("div", {});
  const drawFixes = () => fill(fixes, correctionsLine(job, corrections));

  function open(one) {
    chosen = one.id;
    fill(panel, h("h2", { tabindex: "-1" }, one.id), detail({
      job, one, opinion: one.opinion, on: result.modalities, byId, corrections, choose: open,
      changed: () => { drawFixes(); draw(); },
    }));
    draw();
  }
  function draw() {
    const key = ORDERS[order][1];
    let shown = result.utterances.filter((one) => !only || one.opinion.emotion === only || one.gold?.emotion === only || one.opinion.polarity === only);
    if (key) shown = shown.filter((one) => key(one) !== null && key(one) !== undefined).sort((a, b) => key(b) - key(a));
    skip = Math.min(skip, Math.max(0, Math.floor((shown.length - 1) / PAGE) * PAGE));
    fill(list,
      h("ol", { class: "transcript tall", start: skip + 1, "aria-label": "Examples" }, shown.slice(skip, skip + PAGE).map((one) => h("li", {},
        h("button", { class: `utterance ${tone(valueOf(one.opinion))}`, "aria-current": chosen === one.id && "true", onclick: () => open(one) },
          h("span", { class: "words" }, one.text ?? one.id),
          h("span", { class: "value" },
            `said ${said(one.opinion)}`,
            one.gold?.sentiment !== undefined ? ` · labelled ${signed(one.gold.sentiment)}` : "", one.gold?.emotion ? ` · labelled ${one.gold.emotion}` : "",
            one.error !== null && one.error !== undefined ? ` · error ${one.error.toFixed(2)}` : "",
            one.spread !== null ? ` · disagreement ${one.spread.toFixed(2)}` : "",
            corrections.has(one.id) ? h("span", { class: "flag" }, " ✎ corrected") : null))))),
      !shown.length && h("p", { class: "soft" }, "There is none of this kind."),
      shown.length > PAGE && h("p", { class: "actions" },
        h("button", { disabled: skip === 0, onclick: () => { skip -= PAGE; draw(); } }, "Before"),
        h("span", { class: "soft" }, `${skip + 1} to ${Math.min(skip + PAGE, shown.length)} of ${shown.length}`),
        h("button", { disabled: skip + PAGE >= shown.length, onclick: () => { skip += PAGE; draw(); } }, "After")));
  }

  const sort = h("select", { id: "order", onchange: (event) => { order = event.target.value; skip = 0; draw(); } },
    Object.entries(ORDERS).map(([name, [words]]) => h("option", { value: name, selected: name === order }, words)));
  const emotions = EMOTIONS.filter((name) => result.utterances.some((one) => one.opinion.emotion === name || one.gold?.emotion === name));
  const polarities = ["negative", "neutral", "positive"].filter((name) => result.utterances.some((one) => one.opinion.polarity === name));
  const filter = h("select", { id: "only", onchange: (event) => { only = event.target.value; skip = 0; draw(); } },
    h("option", { value: "" }, "all"), [...polarities, ...emotions].map((name) => h("option", { value: name }, name)));
  fill(place,
    h("h1", { class: "name" }, job.name),
    h("p", { class: "soft" }, `${count(result.utterances.length, "utterance")} · ${result.modalities.map((name) => MODALITY_WORDS[name] ?? name).join(", ")} · ${result.model}`),
    result.notes.map((note) => h("p", { class: "notice" }, note)),
    h("p", { class: "actions" },
      result.report && h("a", { class: "button primary", href: api.report(id), target: "_blank", rel: "noopener" }, "The run's report (new tab)"),
      h("a", { class: "button", href: api.file(id, "csv"), download: true }, "Everything as CSV"),
      h("a", { class: "button", href: api.file(id, "json"), download: true }, "JSON")),
    h("div", { class: "columns" },
      h("section", { class: "left", "aria-label": "Examples" }, h("h2", {}, "Examples"),
        h("p", { class: "fields" }, h("label", { for: "order" }, "Sorted by "), sort, h("label", { for: "only" }, "Only "), filter), list),
      h("div", { class: "right" }, panel)),
    h("section", { "aria-label": "Corrections" }, h("h2", {}, "Corrections"), fixes));
  drawFixes();
  draw();
}
