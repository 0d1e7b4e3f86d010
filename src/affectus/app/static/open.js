// A run, or a folder of feature files.
import { api } from "./api.js";
import { fill, h, problem } from "./dom.js";

export async function openView(place, { ended }) {
  const entries = await api.folders();
  if (ended.aborted) return;
  const runs = entries.filter((one) => one.kind === "run");
  const corpora = entries.filter((one) => one.kind !== "run");
  const note = h("div", {});
  const run = h("select", { id: "run" }, h("option", { value: "" }, "the server's model"), runs.map((one) => h("option", { value: one.id }, `${one.name} (${one.about})`)));
  const corpus = h("select", { id: "corpus" }, corpora.map((one) => h("option", { value: one.id }, `${one.name} (${one.about}; ${one.modalities.join(", ") || "text"})`)));
  const split = h("select", { id: "split" });
  const splits = () => {
    const known = corpora.find((one) => one.id === corpus.value)?.splits ?? [];
    fill(split, known.map((name) => h("option", { value: name, selected: name === "test" }, name)), h("option", { value: "" }, "everything"));
  };
  corpus.addEventListener("change", splits);
  if (runs.length) run.value = runs[0].id;
  splits();
  const go = async (event) => {
    event.preventDefault();
    try {
      const job = await api.review({ run: run.value || null, corpus: corpus.value, split: split.value || null });
      location.hash = `#/r/${job.id}`;
    } catch (error) {
      fill(note, problem(error.message));
    }
  };
  fill(place,
    h("h1", {}, "Open a run or a folder of feature files"),
    h("p", {}, "The run judges the corpus: its report, and the examples that it tells worst, or on which modalities disagree."),
    corpora.length
      ? h("form", { class: "card form", onsubmit: go },
          h("p", {}, h("label", { for: "run" }, "Run "), run),
          h("p", {}, h("label", { for: "corpus" }, "Corpus or manifest "), corpus),
          h("p", {}, h("label", { for: "split" }, "Split "), split),
          h("p", { class: "actions" }, h("button", { class: "primary" }, "Judge")))
      : h("p", {}, "No corpus and no manifest lie in the folders that the server was started with (--open FOLDER)."),
    note);
}
