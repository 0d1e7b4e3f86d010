// One utterance: what each modality says, where attention looks, and what a person says instead.
import { api } from "./api.js";
import { announce, fill, h, problem, table } from "./dom.js";
import { EMOTIONS, feeling, MODALITY_WORDS, percent, said, signed, valueOf } from "./format.js";

export const SENTIMENTS = [3, 2, 1, 0, -1, -2, -3];

/**
 * @param corrections Map from utterance id to correction, changed in place
 * @param opinion of the modalities that are switched on
 */
export function detail({ job, one, opinion, on, byId, corrections, choose, changed }) {
  const columns = [["together", opinion], ...on.map((name) => [MODALITY_WORDS[name] ?? name, one.alone[name]])];
  const emotions = EMOTIONS.filter((name) => columns.some(([, each]) => each?.emotions && name in each.emotions));
  const attention = Object.entries(one.attention ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 6);
  const gold = one.gold ?? {};
  return [
    h("blockquote", { class: "said" }, one.text ?? "(no transcript)"),
    h("p", {}, h("strong", {}, said(opinion)), ` – ${feeling(valueOf(opinion))}`, one.speaker ? ` · ${one.speaker}` : ""),
    Object.keys(gold).length > 0 &&
      h("p", {}, "Labelled: ", [
        gold.sentiment !== undefined ? signed(gold.sentiment) : null,
        gold.emotion ?? null,
        gold.emotions ? gold.emotions.join(", ") || "no emotion" : null,
      ].filter(Boolean).join("; "), one.error !== null && one.error !== undefined ? ` · error ${one.error.toFixed(2)}` : ""),
    table(
      "All together, and each by itself",
      ["", ...columns.map(([name]) => name)],
      [
        ["sentiment", ...columns.map(([, each]) => (each ? meter(valueOf(each)) : "–"))],
        ...emotions.map((name) => [name === "none" ? "no emotion" : name, ...columns.map(([, each]) => percent(each?.emotions?.[name]))]),
      ],
    ),
    Object.keys(one.present ?? {}).length > 0 &&
      h("p", { class: "soft" }, "Likely to be marked as present, from its words: ",
        Object.entries(one.present).sort((a, b) => b[1] - a[1]).map(([name, p]) => `${name} ${percent(p)}`).join(", ")),
    attention.length > 0 && h("div", {},
      h("h4", {}, "Attention to other utterances"),
      h("ul", { class: "attention" }, attention.map(([id, weight]) => {
        const other = byId.get(id);
        const words = other?.text ?? id;
        return h("li", {},
          h("meter", { min: 0, max: 1, value: weight, "aria-label": `weight ${percent(weight)}` }), ` ${percent(weight)} `,
          other ? h("button", { class: "link", onclick: () => choose(other) }, words) : words);
      }))),
    correction({ job, one, corrections, changed }),
  ];
}

function meter(value) {
  if (value === null) return "–";
  return h("span", { class: "meter" },
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: value < 0 ? "fall" : "rise", css: { width: `${Math.min(Math.abs(value) / 6, 0.5) * 100}%` } })),
    signed(value));
}

function correction({ job, one, corrections, changed }) {
  const place = h("fieldset", { class: "correct" });
  const note = h("div", {});
  function draw() {
    const given = corrections.get(one.id);
    const sentiment = h("select", { id: "fix-sentiment" }, h("option", { value: "" }, "leave"),
      SENTIMENTS.map((value) => h("option", { value, selected: given?.sentiment === value }, `${signed(value, 0)} ${feeling(value)}`)));
    const emotion = h("select", { id: "fix-emotion" }, h("option", { value: "" }, "leave"),
      EMOTIONS.map((name) => h("option", { value: name, selected: given?.emotion === name }, name === "none" ? "no emotion" : name)));
    const save = async () => {
      const said = { utterance: one.id, sentiment: sentiment.value === "" ? null : Number(sentiment.value), emotion: emotion.value || null };
      await attempt(async () => corrections.set(one.id, await api.correct(job.id, said)), "The correction is kept.");
    };
    const withdraw = () => attempt(async () => { await api.withdraw(job.id, one.id); corrections.delete(one.id); }, "The correction was withdrawn.");
    async function attempt(act, text) {
      try {
        await act();
        announce(text);
        fill(note);
        changed();
        draw();
        place.querySelector("button")?.focus();
      } catch (error) {
        fill(note, problem(error.message));
      }
    }
    fill(place,
      h("legend", {}, given ? "Corrected by a person" : "Correct it"),
      h("p", { class: "fields" },
        h("label", { for: "fix-sentiment" }, "Sentiment "), sentiment,
        h("label", { for: "fix-emotion" }, "Emotion "), emotion),
      h("p", { class: "actions" }, h("button", { onclick: save }, "Keep the correction"), given && h("button", { onclick: withdraw }, "Withdraw it")),
      note);
  }
  draw();
  return place;
}

/** The line that says how many corrections there are, with their downloads. */
export function correctionsLine(job, corrections) {
  if (!corrections.size) return h("p", { class: "soft" }, "Nothing was corrected yet. Choose an utterance to correct what is said of it.");
  return h("p", {},
    `${corrections.size} corrected. As a manifest to train on: `,
    h("a", { href: api.manifest(job.id, "csv"), download: true }, "table (CSV)"), ", ",
    h("a", { href: api.manifest(job.id, "zip"), download: true }, "with features and media (ZIP)"), ".");
}
