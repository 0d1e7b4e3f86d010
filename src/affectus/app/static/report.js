// The live report of a recording.
import { api } from "./api.js";
import { announce, fill, h, problem, table } from "./dom.js";
import { apart, clock, count, EMOTIONS, feeling, MODALITY_WORDS, percent, said, signed, tone, valueOf } from "./format.js";
import { jobCard } from "./jobs.js";
import { timeline } from "./timeline.js";
import { correctionsLine, detail } from "./detail.js";

const FORMS = [["csv", "CSV"], ["json", "JSON"]];
const TIMED_FORMS = [["vtt", "subtitles (VTT)"], ["eaf", "ELAN"], ["textgrid", "Praat TextGrid"]];

export async function reportView(place, { argument: id, ended, title }) {
  const job = await api.get(id);
  if (ended.aborted) return;
  title(job.name);
  if (job.kind === "review") {
    location.replace(`#/r/${id}`);
    return;
  }
  if (job.state !== "done") {
    const card = jobCard(job, ended, (now) => now.state === "done" && location.hash === `#/a/${id}` && reportView(place, { argument: id, ended, title }));
    fill(place, h("h1", { class: "name" }, job.name), h("ul", { class: "cards" }, card));
    return;
  }
  const [result, given] = await Promise.all([api.result(id), api.corrections(id)]);
  if (ended.aborted) return;
  draw(place, { job, result, corrections: new Map(given.map((one) => [one.utterance, one])), ended });
}

function draw(place, { job, result, corrections, ended }) {
  const utterances = result.utterances;
  const byId = new Map(utterances.map((one) => [one.id, one]));
  const timed = utterances.some((one) => one.start !== null && one.end !== null);
  const modalities = result.modalities;
  let on = [...modalities];
  let chosen = null;
  let current = -1;
  let now = 0;

  // utterances in the order of time; without times, one after the other
  const items = utterances.map((one, i) => ({
    one, label: one.text ?? "", t0: timed ? one.start ?? 0 : i, t1: timed ? one.end ?? one.start ?? 0 : i + 1,
    lines: Object.fromEntries(modalities.map((name) => [name, valueOf(one.alone[name])])),
    opinion: one.opinion, value: valueOf(one.opinion), emotion: one.opinion.emotion, ...apart(one.alone, on),
  })).sort((a, b) => a.t0 - b.t0);
  const length = timed ? Math.max(result.duration ?? 0, ...items.map((item) => item.t1)) : items.length;

  // --- the recording
  const media = result.media === "video" || result.media === "audio"
    ? h(result.media, { class: "player", controls: true, preload: "metadata", playsinline: true, src: api.media(job.id), "aria-label": "The recording" })
    : null;
  const mediaNote = h("div", {});
  media?.addEventListener("error", () => {
    fill(mediaNote, h("p", { class: "notice" }, "This browser cannot play the recording. ", h("a", { href: api.media(job.id), download: job.name }, "Fetch it"), " to play it elsewhere; the timeline works without it."));
    media.hidden = true;
  });

  function seek(time, play = false) {
    now = time;
    if (media && !media.hidden) {
      media.currentTime = time;
      if (play) media.play().catch(() => {});
    }
    step(true);
  }
  function step(follow = false) {
    line.show(now, follow);
    const at = line.at(now);
    const index = at ? items.indexOf(at) : -1;
    if (index === current) return;
    rows[current]?.removeAttribute("aria-current");
    current = index;
    if (index < 0) return;
    rows[index].setAttribute("aria-current", "true");
    // the list alone is scrolled, never the page
    const row = rows[index].parentElement;
    if (row.offsetTop < list.scrollTop || row.offsetTop + row.offsetHeight > list.scrollTop + list.clientHeight)
      list.scrollTop = row.offsetTop - list.clientHeight / 3;
    if (!chosen) open(items[index], false);
  }
  let ticking = false;
  function tick() {
    if (!media || media.paused || ended.aborted) {
      ticking = false;
      return;
    }
    now = media.currentTime;
    step(true);
    requestAnimationFrame(tick);
  }
  media?.addEventListener("play", () => {
    chosen = null;
    if (!ticking) {
      ticking = true;
      requestAnimationFrame(tick);
    }
  });
  media?.addEventListener("seeked", () => {
    now = media.currentTime;
    step(true);
  });
  ended.addEventListener("abort", () => {
    media?.pause();
    media?.removeAttribute("src");
    media?.load();
    line.end();
  });

  // --- timeline
  const line = timeline({ items, length, timed, modalities, seek, label: timed ? "Timeline: sentiment and emotion over time" : "Sentiment and emotion, sentence by sentence" });
  const legend = h("ul", { class: "legend" });

  // --- the transcript
  const list = h("ol", { class: items.length > 100 ? "transcript long" : "transcript", "aria-label": "Utterances" });
  const rows = items.map((item) => h("button", { class: "utterance", onclick: () => { open(item, true); seek(item.t0 + (timed ? 0.001 : 0)); } }));
  list.append(...rows.map((row) => h("li", {}, row)));

  const panel = h("section", { class: "detail", "aria-label": "The chosen utterance" });
  const fixes = h("div", {});
  const answer = h("p", { class: "answer", role: "status" });
  const moments = h("div", {});
  const figures = h("div", {});

  function open(item, byHand) {
    chosen = byHand ? item : null;
    fill(panel, h("h2", {}, timed ? `At ${clock(item.t0)}` : `Sentence ${items.indexOf(item) + 1}`), detail({
      job, one: item.one, opinion: item.opinion, on, byId, corrections,
      choose: (other) => { const found = items.find((each) => each.one === other); open(found, true); seek(found.t0 + (timed ? 0.001 : 0)); },
      changed: () => { drawFixes(); drawRow(items.indexOf(item)); },
    }));
  }
  function drawFixes() {
    fill(fixes, correctionsLine(job, corrections));
  }
  function drawRow(i) {
    const item = items[i];
    const fixed = corrections.get(item.one.id);
    rows[i].className = `utterance ${tone(item.value)}`;
    fill(rows[i],
      h("span", { class: "time" }, timed ? clock(item.t0) : String(i + 1)),
      h("span", { class: "words" }, item.one.speaker ? h("span", { class: "speaker" }, `${item.one.speaker}: `) : null, item.one.text ?? "(no transcript)"),
      h("span", { class: "value" }, said(item.opinion), item.disagree ? h("span", { class: "flag" }, " ▼ modalities disagree") : null, fixed ? h("span", { class: "flag" }, " ✎ corrected") : null));
  }

  // --- switching modalities off
  function change() {
    const key = modalities.filter((name) => on.includes(name)).join("+");
    const opinions = result.subsets?.[key] ?? null;
    const known = opinions !== null && on.length > 0;
    const place_ = new Map(utterances.map((one, i) => [one.id, i]));
    let turned = 0;
    items.forEach((item) => {
      const opinion = known ? opinions[place_.get(item.one.id)] : { intensity: null, polarity: null, polarities: {}, emotion: null, emotions: {} };
      const value = valueOf(opinion);
      const whole = valueOf(item.one.opinion);
      if (value !== null && whole !== null && feeling(value).split(" ").at(-1) !== feeling(whole).split(" ").at(-1)) turned++;
      Object.assign(item, { opinion, value, emotion: opinion.emotion, ...apart(item.one.alone, on) });
    });
    items.forEach((_, i) => drawRow(i));
    line.setModalities(on);
    line.show(now, false);
    const words = on.map((name) => MODALITY_WORDS[name] ?? name).join(", ");
    const values = items.map((item) => item.value).filter((value) => value !== null);
    const mean = values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
    answer.textContent = !on.length ? "Every modality is off, so nothing is told."
      : !known ? `The model cannot tell anything from ${words} alone.`
      : `From ${words}: mean ${signed(mean)}, ${feeling(mean)}.` + (on.length < modalities.length ? ` ${turned} of ${items.length} utterances turn between negative, neutral and positive.` : "");
    drawMoments();
    drawFigures();
    drawLegend();
    const shown = chosen ?? items[current] ?? items[0];
    if (shown) open(shown, Boolean(chosen));
  }
  function drawLegend() {
    const present = EMOTIONS.filter((name) => items.some((item) => item.emotion === name));
    fill(legend,
      h("li", {}, h("span", { class: "key fused" }), "all that are on"),
      on.map((name) => h("li", {}, h("span", { class: `key m-${name}` }), MODALITY_WORDS[name] ?? name)),
      h("li", {}, h("span", { class: "flag", "aria-hidden": "true" }, "▼ "), "they disagree"),
      present.map((name) => h("li", {}, h("span", { class: `key e-${name}` }), name === "none" ? "no emotion" : name)));
  }
  function drawMoments() {
    const found = items.filter((item) => item.disagree).sort((a, b) => b.spread - a.spread).slice(0, 20);
    fill(moments, h("h2", {}, "Where modalities disagree"),
      found.length
        ? h("ul", { class: "moments" }, found.map((item) => h("li", {}, h("button", { class: "link", onclick: () => { open(item, true); seek(item.t0 + (timed ? 0.001 : 0)); } }, timed ? clock(item.t0) : `sentence ${items.indexOf(item) + 1}`),
            " ", on.filter((name) => item.lines[name] !== null).map((name) => `${MODALITY_WORDS[name] ?? name} ${signed(item.lines[name])}`).join(", "), " – ", item.one.text ?? "(no transcript)")))
        : h("p", { class: "soft" }, on.length > 1 ? "Nowhere does one of them clearly lean to positive and another to negative." : "That takes two modalities that are on."));
  }
  function drawFigures() {
    const heads = [timed ? "time" : "number", "utterance", "together", "emotion", ...on.map((name) => MODALITY_WORDS[name] ?? name)];
    const details = h("details", {}, h("summary", {}, "Everything as a table"));
    // made when it is opened: an hour has a thousand rows
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1)
        details.append(table("Sentiment from −3 to +3 and the likeliest emotion of every utterance", heads, items.map((item, i) => [
          timed ? clock(item.t0) : String(i + 1), item.one.text ?? "", signed(item.value, 2), item.emotion ?? "–", ...on.map((name) => signed(item.lines[name], 2)),
        ])));
    });
    fill(figures, details);
  }

  const switches = h("fieldset", { class: "switches" }, h("legend", {}, "Modalities that count"),
    modalities.map((name) => h("label", {}, h("input", {
      type: "checkbox", checked: true, value: name,
      onchange: (event) => {
        on = modalities.filter((each) => (each === name ? event.target.checked : on.includes(each)));
        change();
      },
    }), ` ${MODALITY_WORDS[name] ?? name}`)));

  const forms = [...FORMS, ...(timed ? TIMED_FORMS : [])];
  fill(place,
    h("h1", { class: "name" }, job.name),
    h("p", { class: "soft" }, [result.duration ? clock(result.duration) : null, count(items.length, "utterance"), result.model].filter(Boolean).join(" · ")),
    result.notes.map((note) => h("p", { class: "notice" }, note)),
    h("div", { class: "columns" },
      h("div", { class: "left" }, media, mediaNote, switches, answer,
        h("section", { "aria-label": "Timeline" },
          h("div", { class: "head" }, h("h2", {}, "Timeline"), h("p", { class: "actions" },
            h("button", { onclick: () => line.zoomOut(), "aria-label": "Show more of the time" }, "−"),
            h("button", { onclick: () => line.zoomIn(), "aria-label": "Show the time larger" }, "+"))),
          line.element, legend, h("p", { class: "soft small" }, "Click to jump. With the keyboard: arrows, Page Up and Down for the utterance before and after, + and − for size."), figures),
        h("section", {}, moments)),
      h("div", { class: "right" },
        h("section", { "aria-label": "Transcript" }, h("h2", {}, "What was said"), list),
        panel)),
    h("section", { "aria-label": "Corrections" }, h("h2", {}, "Corrections"), fixes),
    h("section", { "aria-label": "Downloads" }, h("h2", {}, "Downloads"),
      h("ul", { class: "inline" }, forms.map(([form, word]) => h("li", {}, h("a", { href: api.file(job.id, form), download: true }, word))))),
    h("p", { class: "soft small" }, result.notice, " Time spent: ", Object.entries(result.seconds).map(([what, s]) => `${what} ${s.toFixed(1)} s`).join(", "), "."));
  drawFixes();
  change();
  if (items.length) {
    step();
    announce(`${count(items.length, "utterance")}.`);
  }
}
