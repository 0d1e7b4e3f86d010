(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const player = document.querySelector(".player video, .player audio");
  const lines = [...document.querySelectorAll("ol.lines > li")];
  const rows = document.querySelector(".rows");
  const head = document.querySelector(".head-line");
  const board = document.querySelector(".board");
  const now = document.querySelector(".now");
  const end = Number(rows ? rows.dataset.end : 0);
  let current = -1;
  const choose = (number, follow) => {
    if (number === current) return;
    current = number;
    lines.forEach((line, i) => line.classList.toggle("on", i === number));
    const looks = number < 0 ? [] : data.attention[number].map((pair) => pair[0]);
    lines.forEach((line, i) => line.classList.toggle("looked", looks.includes(i)));
    if (now) {
      now.replaceChildren();
      if (number >= 0) now.append(...[...lines[number].querySelector(".words").childNodes].map((node) => node.cloneNode(true)));
    }
    if (follow && number >= 0) lines[number].scrollIntoView({ block: "center" });
  };
  const place = (seconds) => {
    if (!data.spans || !head) return;
    head.style.display = "block";
    head.style.left = `${(100 * seconds) / end}%`;
    const x = (rows.clientWidth * seconds) / end;
    if (x < board.scrollLeft || x > board.scrollLeft + board.clientWidth) board.scrollLeft = x - board.clientWidth / 4;
    choose(data.spans.findIndex((span) => seconds >= span[0] && seconds < span[1]), false);
  };
  const seek = (seconds) => { if (player) player.currentTime = seconds; place(seconds); };
  const go = (number) => {
    // a little inside, so that rounding does not fall into the one before
    if (data.spans) seek(data.spans[number][0] + 0.01);
    choose(number, true);
  };
  document.addEventListener("click", (event) => {
    const from = event.target.closest("[data-number]");
    if (from) { event.preventDefault(); go(Number(from.dataset.number)); return; }
    if (rows && rows.contains(event.target) && data.spans) {
      const box = rows.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * end);
    }
  });
  if (player) {
    const step = () => { place(player.currentTime); if (!player.paused) requestAnimationFrame(step); };
    player.addEventListener("play", step);
    player.addEventListener("seeked", () => place(player.currentTime));
    player.addEventListener("timeupdate", () => place(player.currentTime));
  }
})();
