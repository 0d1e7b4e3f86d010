// Asking the server.

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function read(response) {
  if (response.ok) return response.status === 204 ? null : response.json();
  let text = `The server answered ${response.status}.`;
  try {
    text = (await response.json()).error ?? text;
  } catch {
    // no JSON: the status must do
  }
  throw new Refused(response.status, text);
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "The server does not answer. Is it still running?");
  }
  return read(response);
}

function withJson(method, data) {
  return { method, headers: { "content-type": "application/json" }, body: JSON.stringify(data) };
}

const at = (id, rest = "") => `/api/analyses/${encodeURIComponent(id)}${rest}`;

export const api = {
  status: () => ask("/api/status"),
  session: (token) => ask("/api/session", withJson("POST", { token })),
  list: (count = 50, skip = 0) => ask(`/api/analyses?count=${count}&skip=${skip}`),
  get: (id) => ask(at(id)),
  result: (id) => ask(at(id, "/result")),
  cancel: (id) => ask(at(id, "/cancel"), { method: "POST" }),
  retry: (id) => ask(at(id, "/retry"), { method: "POST" }),
  remove: (id) => ask(at(id), { method: "DELETE" }),
  corrections: (id) => ask(at(id, "/corrections")),
  correct: (id, given) => ask(at(id, "/corrections"), withJson("PUT", given)),
  withdraw: (id, utterance) => ask(at(id, `/corrections?utterance=${encodeURIComponent(utterance)}`), { method: "DELETE" }),
  folders: () => ask("/api/folders"),
  review: (given) => ask("/api/reviews", withJson("POST", given)),
  file: (id, form) => at(id, `/files/${form}`),
  manifest: (id, form) => at(id, `/manifest?form=${form}`),
  media: (id) => at(id, "/media"),
  report: (id) => at(id, "/report"),

  /** Upload a file; tells how much has gone, and can be aborted. */
  upload(blob, name, face, progress, signal) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const query = new URLSearchParams({ name, face });
      request.open("POST", `/api/analyses?${query}`);
      request.setRequestHeader("content-type", "application/octet-stream");
      request.upload.onprogress = (event) => progress(event.loaded / Math.max(event.total, 1));
      request.onload = () => {
        let answer = {};
        try {
          answer = JSON.parse(request.responseText);
        } catch {
          // no JSON: the status must do
        }
        if (request.status === 202) resolve(answer);
        else reject(new Refused(request.status, answer.error ?? `The server answered ${request.status}.`));
      };
      request.onerror = () => reject(new Refused(0, "The connection broke while the file was sent."));
      request.onabort = () => reject(new Refused(0, "The upload was stopped."));
      signal?.addEventListener("abort", () => request.abort());
      request.send(blob);
    });
  },
};
