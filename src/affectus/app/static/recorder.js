// Camera and microphone.
import { announce, fill, h, problem } from "./dom.js";
import { clock } from "./format.js";

const KINDS = ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"];
const SOUND_KINDS = ["audio/webm;codecs=opus", "audio/webm", "audio/mp4"];

export function recorder(send, ended) {
  const place = h("div", { class: "recorder" });
  let stream = null;
  let record = null;
  let address = null;

  function release() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    if (address) URL.revokeObjectURL(address);
    address = null;
  }
  ended.addEventListener("abort", () => {
    if (record?.state === "recording") record.stop();
    release();
  });

  function idle(message) {
    release();
    if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
      fill(place, h("p", { class: "soft" }, "This browser lets a page record only at an address of this machine or over HTTPS."));
      return;
    }
    fill(
      place,
      h("p", { class: "actions" },
        h("button", { onclick: () => begin(true) }, "Camera and microphone"),
        h("button", { onclick: () => begin(false) }, "Microphone alone")),
      message && problem(message),
    );
  }

  async function begin(camera) {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: camera && { width: { ideal: 640 }, height: { ideal: 360 } } });
    } catch (error) {
      idle(error.name === "NotAllowedError" ? "The browser was not allowed to use them." : "No camera or microphone was found.");
      return;
    }
    if (ended.aborted) return release();
    const kind = (camera ? KINDS : SOUND_KINDS).find((one) => MediaRecorder.isTypeSupported(one));
    record = new MediaRecorder(stream, kind ? { mimeType: kind } : {});
    const parts = [];
    const since = performance.now();
    const time = h("span", { class: "clock" }, "0:00");
    const ticking = setInterval(() => (time.textContent = clock((performance.now() - since) / 1000)), 500);
    record.ondataavailable = (event) => event.data.size && parts.push(event.data);
    record.onstop = () => {
      clearInterval(ticking);
      if (!ended.aborted) review(new Blob(parts, { type: record.mimeType }), camera);
    };
    record.start(1000);
    const stop = h("button", { class: "primary", onclick: () => record.stop() }, "Stop");
    const live = camera && h("video", { class: "preview", muted: true, autoplay: true, playsinline: true, "aria-label": "What the camera sees" });
    if (live) live.srcObject = stream;
    fill(place, live, h("p", { class: "actions" }, h("span", { class: "dot", "aria-hidden": "true" }), " recording ", time, stop));
    stop.focus();
    announce("Recording.");
  }

  function review(blob, camera) {
    stream?.getTracks().forEach((track) => track.stop());
    address = URL.createObjectURL(blob);
    const stamp = new Date().toISOString().slice(0, 19).replace("T", " ").replaceAll(":", ".");
    const use = h("button", { class: "primary", onclick: () => { send(blob, `recording ${stamp}.webm`); idle(); } }, "Analyse the recording");
    fill(
      place,
      h(camera ? "video" : "audio", { class: "preview", controls: true, src: address, "aria-label": "The recording" }),
      h("p", { class: "actions" }, use, h("button", { onclick: () => idle() }, "Discard")),
    );
    use.focus();
  }

  idle();
  return place;
}
