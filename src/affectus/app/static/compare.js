// Several recordings side by side.
import { api } from "./api.js";
import { fill, h, problem, svg, table } from "./dom.js";
import { clock, EMOTIONS, percent, signed, valueOf } from "./format.js";

const MOST = 6;
const BINS = 40;

export async function compareView(place, { argument, ended }) {
  const { analyses } = await api.list(200);
  if (ended.aborted) return;
  const ready = analyses.filter((job) => job.kind === "media" && job.state === "done");
  let chosen = argument.split(",").filter((id) => ready.some((job) => job.id === id)).slice(0, MOST);
  const out = h("div", { "aria-live": "polite" });
  const known = new Map();

  const boxes = h("fieldset", { class: "choose" }, h("legend", {}, `Recordings to compare (2 to ${MOST})`), ready.map((job) =>
    h("label", {}, h("input", {
      type: "checkbox", checked: chosen.includes(job.id),
      onchange: (event) => {
        chosen = event.target.checked ? [...chosen, job.id] : chosen.filter((id) => id !== job.id);
        history.replaceState(null, "", `#/compare/${chosen.join(",")}`);
        draw();
      },
    }), " ", h("span", { class: "name" }, job.name))));
  fill(place, h("h1", {}, "Compare recordings"),
    ready.length > 1 ? boxes : h("p", {}, "Two analyses that are done are needed. ", h("a", { href: "#/" }, "Analyse a recording"), "."), out);

  async function draw() {
    if (chosen.length < 2) return fill(out, ready.length > 1 && h("p", { class: "soft" }, "Choose two or more."));
    if (chosen.length > MOST) return fill(out, problem(`At most ${MOST} at once.`));
    const asked = [...chosen];
    try {
      await Promise.all(asked.filter((id) => !known.has(id)).map(async (id) => known.set(id, await api.result(id))));
    } catch (error) {
      return fill(out, problem(error.message));
    }
    if (ended.aborted || asked.join() !== chosen.join()) return;
    const all = asked.map((id, i) => ({ job: ready.find((job) => job.id === id), result: known.get(id), i, ...figures(known.get(id)) }));
    const emotions = EMOTIONS.filter((name) => all.some((one) => one.emotions[name]));
    fill(out,
      h("section", {}, h("h2", {}, "Sentiment from start to end"),
        chart(all),
        h("ul", { class: "legend" }, all.map((one) => h("li", {}, h("span", { class: `key c-${one.i}` }), h("span", { class: "name" }, one.job.name)))),
        h("details", {}, h("summary", {}, "As a table"), table("Mean sentiment in each tenth of the recording", ["", ...Array.from({ length: 10 }, (_, k) => `${k * 10} %`)], all.map((one) => [link(one.job), ...tenths(one.result).map((v) => signed(v, 2))])))),
      h("section", {}, h("h2", {}, "Figures"),
        table("What the recordings express", ["", "length", "utterances", "mean", "negative", "neutral", "positive", "disagreements"], all.map((one) => [
          link(one.job), clock(one.result.duration), String(one.n), signed(one.mean, 2), percent(one.negative), percent(one.neutral), percent(one.positive), String(one.disagreements),
        ])),
        emotions.length > 0 && table("Share of utterances by their likeliest emotion", ["", ...emotions.map((name) => (name === "none" ? "no emotion" : name))], all.map((one) => [link(one.job), ...emotions.map((name) => percent((one.emotions[name] ?? 0) / one.n))]))));
  }
  await draw();
}

const link = (job) => h("a", { class: "name", href: `#/a/${job.id}` }, job.name);

function figures(result) {
  const values = result.utterances.map((one) => valueOf(one.opinion)).filter((value) => value !== null);
  const share = (test) => (values.length ? values.filter(test).length / values.length : null);
  const emotions = {};
  for (const one of result.utterances) if (one.opinion.emotion) emotions[one.opinion.emotion] = (emotions[one.opinion.emotion] ?? 0) + 1;
  return {
    n: result.utterances.length,
    mean: values.length ? values.reduce((a, b) => a + b, 0) / values.length : null,
    negative: share((v) => v <= -0.25), neutral: share((v) => Math.abs(v) < 0.25), positive: share((v) => v >= 0.25),
    disagreements: result.utterances.filter((one) => one.disagree).length,
    emotions,
  };
}

function course(result, bins) {
  const timed = result.utterances.some((one) => one.start !== null && one.end !== null);
  const length = timed ? Math.max(result.duration ?? 0, ...result.utterances.map((one) => one.end ?? 0)) : result.utterances.length;
  const sums = Array.from({ length: bins }, () => [0, 0]);
  result.utterances.forEach((one, i) => {
    const value = valueOf(one.opinion);
    if (value === null) return;
    const from = Math.floor(((timed ? one.start ?? 0 : i) / length) * bins);
    const to = Math.max(from, Math.ceil(((timed ? one.end ?? 0 : i + 1) / length) * bins) - 1);
    for (let bin = from; bin <= Math.min(to, bins - 1); bin++) {
      sums[bin][0] += value;
      sums[bin][1] += 1;
    }
  });
  return sums.map(([sum, count]) => (count ? sum / count : null));
}
const tenths = (result) => course(result, 10);

function chart(all) {
  const [w, tall] = [640, 200];
  const y = (v) => 10 + (tall - 30) * (0.5 - v / 6);
  const lines = all.map((one) => {
    const points = course(one.result, BINS);
    let path = "";
    let pen = false;
    points.forEach((value, k) => {
      if (value === null) return;
      path += `${pen ? "L" : "M"}${(30 + ((k + 0.5) / BINS) * (w - 40)).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = true;
    });
    return svg("path", { class: `course c-${one.i}`, d: path || "M0 0" });
  });
  const grid = [-3, 0, 3].flatMap((value) => [
    svg("line", { class: "grid", x1: 30, x2: w - 10, y1: y(value), y2: y(value) }),
    svg("text", { x: 24, y: y(value) + 4, "text-anchor": "end" }, signed(value, 0)),
  ]);
  return svg("svg", { viewBox: `0 0 ${w} ${tall}`, role: "img", "aria-label": "Sentiment over each recording; the table below has the values" },
    grid, lines, svg("text", { x: 30, y: tall - 4 }, "start"), svg("text", { x: w - 10, y: tall - 4, "text-anchor": "end" }, "end"));
}
