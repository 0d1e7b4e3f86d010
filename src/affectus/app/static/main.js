// The page: which view is shown, by what stands behind the # of the address.
import { api, Refused } from "./api.js";
import { fill, h, problem } from "./dom.js";
import { analyseView } from "./analyse.js";
import { compareView } from "./compare.js";
import { historyView } from "./history.js";
import { openView } from "./open.js";
import { reportView } from "./report.js";
import { reviewView } from "./review.js";

const content = document.getElementById("content");
let leave = null;
let shown = 0;

const routes = [
  [/^\/?$/, "analyse", "Analyse", analyseView],
  [/^\/history$/, "history", "History", historyView],
  [/^\/compare(?:\/([0-9a-f,]*))?$/, "compare", "Compare", compareView],
  [/^\/open$/, "open", "Runs", openView],
  [/^\/a\/([0-9a-f]{16})$/, "history", "Analysis", reportView],
  [/^\/r\/([0-9a-f]{16})$/, "open", "Review", reviewView],
];

async function show(first) {
  const path = decodeURIComponent(location.hash.replace(/^#/, ""));
  if (path === "content") return;
  const found = routes.map(([pattern, ...rest]) => [path.match(pattern), ...rest]).find(([match]) => match);
  const turn = ++shown;
  leave?.();
  leave = null;
  if (!found) {
    fill(content, h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "#/" }, "To the start")));
    return;
  }
  const [match, tab, title, view] = found;
  for (const link of document.querySelectorAll("#tabs a")) {
    if (link.dataset.tab === tab) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} – affectus`;
  // each view draws into an element of its own, so that one that was left cannot draw over the next
  const place = h("div", { class: "view" });
  const ended = new AbortController();
  leave = () => ended.abort();
  fill(content, place);
  try {
    await view(place, { argument: match[1] ?? "", ended: ended.signal, title: (name) => turn === shown && (document.title = `${name} – affectus`) });
  } catch (error) {
    if (ended.signal.aborted) return;
    if (error instanceof Refused && error.status === 401) askForToken(place);
    else fill(place, h("h1", {}, title), problem(error instanceof Refused ? error.message : `A defect of the page: ${error}`));
    if (!(error instanceof Refused)) console.error(error);
  }
  if (!first && turn === shown) {
    const heading = place.querySelector("h1");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

function askForToken(place) {
  const message = h("p", { role: "alert" });
  const field = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const send = async (event) => {
    event.preventDefault();
    try {
      await api.session(field.value);
      await start();
    } catch (error) {
      message.textContent = error.message;
    }
  };
  fill(
    place,
    h("h1", {}, "A token is needed"),
    h("p", {}, "Open the address that affectus serve printed, or give its token here."),
    h("form", { onsubmit: send }, h("label", { for: "token" }, "Token "), field, " ", h("button", { class: "primary" }, "Go on")),
    message,
  );
}

async function start() {
  const token = location.hash.match(/^#token=(.+)$/);
  if (token) {
    history.replaceState(null, "", "#/");
    try {
      await api.session(decodeURIComponent(token[1]));
    } catch {
      // asked for below
    }
  }
  try {
    const status = await api.status();
    document.getElementById("version").textContent = `affectus ${status.version}`;
    document.getElementById("open-tab").hidden = !status.can_open;
  } catch {
    // the view says what is wrong
  }
  await show(true);
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});
window.addEventListener("hashchange", () => (location.hash.startsWith("#token=") ? start() : show(false)));
// a file that is dropped beside the field must not replace the page
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
start();
