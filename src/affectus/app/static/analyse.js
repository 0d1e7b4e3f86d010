// Give a file, or record one.
import { api } from "./api.js";
import { announce, fill, h, problem } from "./dom.js";
import { bytes } from "./format.js";
import { jobCard } from "./jobs.js";
import { recorder } from "./recorder.js";

export async function analyseView(place, { ended }) {
  const status = await api.status();
  const { analyses } = await api.list(20);
  if (ended.aborted) return;
  const list = h("ul", { class: "cards", "aria-label": "Analyses under way" });
  const refusals = h("div", {});
  const face = h("select", { id: "face" }, h("option", { value: "largest" }, "the largest face"), h("option", { value: "speaking" }, "the face that speaks"));

  async function send(blob, name) {
    if (blob.size > status.upload_bytes) {
      refusals.append(problem(`${name}: the file is too large (${bytes(blob.size)}; at most ${bytes(status.upload_bytes)}).`));
      return;
    }
    const stop = new AbortController();
    const bar = h("progress", { max: 1, value: 0, "aria-label": `Upload of ${name}` });
    const card = h(
      "li",
      { class: "card job" },
      h("h3", { class: "name" }, name),
      bar,
      h("p", { class: "soft" }, `sending ${bytes(blob.size)}`),
      h("p", { class: "actions" }, h("button", { onclick: () => stop.abort() }, "Stop")),
    );
    list.prepend(card);
    try {
      const job = await api.upload(blob, name, face.value, (share) => (bar.value = share), stop.signal);
      announce(`${name} was received.`);
      card.replaceWith(jobCard(job, ended));
    } catch (error) {
      card.remove();
      refusals.append(problem(`${name}: ${error.message}`));
    }
  }

  const input = h("input", { type: "file", id: "file", multiple: true, class: "sr", "aria-describedby": "kinds" });
  const drop = h(
    "label",
    { class: "drop", for: "file" },
    h("strong", {}, "Drop a video or sound file here, or choose one"),
    h("span", { class: "soft", id: "kinds" }, `Video, sound, subtitles (SRT, VTT) or a text. At most ${bytes(status.upload_bytes)} and ${Math.round(status.media_seconds / 60)} minutes.`),
  );
  const sendAll = (files) => {
    fill(refusals);
    for (const file of files) send(file, file.name);
  };
  input.addEventListener("change", () => {
    sendAll([...input.files]);
    input.value = "";
  });
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    sendAll([...event.dataTransfer.files]);
  });

  fill(
    place,
    h("h1", {}, "What does a recording express?"),
    h("p", {}, "Sentiment and emotion, sentence by sentence, from words, voice and face. Everything is computed on this machine and stays there."),
    h("section", { "aria-label": "A file" }, input, drop, h("p", {}, h("label", { for: "face" }, "If there are several faces, read "), face)),
    h("section", { "aria-label": "A recording" }, h("h2", {}, "Record"), recorder(send, ended)),
    refusals,
    h("section", { "aria-label": "Under way" }, h("h2", {}, "Under way"), list, h("p", { class: "soft" }, "Earlier ones are under ", h("a", { href: "#/history" }, "History"), ".")),
  );
  for (const job of analyses.filter((one) => one.state === "queued" || one.state === "running")) list.append(jobCard(job, ended));
}
