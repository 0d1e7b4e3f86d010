// Numbers, times and names as people read them.

export const EMOTIONS = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "none"];
export const MODALITY_WORDS = { text: "words", audio: "voice", vision: "face" };

export function signed(value, digits = 1) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : (value < 0 ? "−" : "+") + text;
}

export function percent(value) {
  return value === null || value === undefined ? "–" : `${Math.round(100 * value)} %`;
}

export function clock(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  return (hours ? `${hours}:${two(Math.floor(whole / 60) % 60)}` : `${Math.floor(whole / 60)}`) + `:${two(whole % 60)}`;
}

export function spoken(seconds) {
  if (seconds === null || seconds === undefined) return "time left unknown";
  if (seconds < 5) return "a few seconds left";
  if (seconds < 90) return `about ${Math.round(seconds / 5) * 5} s left`;
  return `about ${Math.round(seconds / 60)} min left`;
}

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${Math.round(count / 1e3)} kB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(1)} GB`;
}

export function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

export function when(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** How strong a sentiment is, in words. */
export function feeling(value) {
  if (value === null || value === undefined) return "not told";
  const size = Math.abs(value);
  if (size < 0.25) return "neutral";
  const word = value < 0 ? "negative" : "positive";
  return size < 1 ? `slightly ${word}` : size < 2 ? word : `very ${word}`;
}

export function said(opinion) {
  if (!opinion) return "not told";
  const parts = [];
  if (opinion.intensity !== null) parts.push(signed(opinion.intensity));
  else if (opinion.polarity) parts.push(opinion.polarity);
  if (opinion.emotion) parts.push(opinion.emotion === "none" ? "no emotion" : opinion.emotion);
  return parts.join(", ") || "not told";
}

/** A number from -3 to 3 of whatever an opinion has. */
export function valueOf(opinion) {
  if (!opinion) return null;
  if (opinion.intensity !== null) return opinion.intensity;
  const p = opinion.polarities;
  if (p && Object.keys(p).length) return 3 * ((p.positive ?? 0) - (p.negative ?? 0));
  return null;
}

// as in affectus/predict/results.py
const OPPOSED = 1 / 3;

/** Probability of positive less that of negative; a third of the intensity where there is no such. */
function balance(opinion) {
  const p = opinion.polarities ?? {};
  if ("positive" in p && "negative" in p) return p.positive - p.negative;
  return opinion.intensity === null ? null : opinion.intensity / 3;
}

/** How far apart some modalities are, and whether one clearly leans to positive and another to negative: the server's rule. */
export function apart(alone, on) {
  const values = on.filter((name) => alone[name]).map((name) => balance(alone[name])).filter((value) => value !== null);
  if (values.length < 2) return { spread: null, disagree: false };
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return { spread: most - least, disagree: most >= OPPOSED && least <= -OPPOSED };
}

/** Class of a colour for a value from -3 to 3. */
export function tone(value) {
  if (value === null || value === undefined) return "tone-x";
  const size = Math.abs(value) < 0.25 ? 0 : Math.abs(value) < 1 ? 1 : Math.abs(value) < 2 ? 2 : 3;
  return size === 0 ? "tone-0" : `tone-${value < 0 ? "n" : "p"}${size}`;
}
