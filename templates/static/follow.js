// An operator's page follows what happens. Everything here is also there without it, after a reload.
"use strict";

(() => {
  const root = document.getElementById("followed");
  const status = document.getElementById("following");
  const pause = document.getElementById("pause");
  const EVERY_MS = Number(root.dataset.every);
  const RETRY_MS = [1000, 2000, 5000, 15000];
  let source = null;
  let paused = false;
  let wanted = false;
  let timer = 0;
  let asking = false;
  let asked = 0;
  let failures = 0;

  const say = (words) => {
    if (status.textContent !== words) status.textContent = words;
  };

  const lost = () => say("The gateway does not answer. It is asked again.");

  const retry = (what) => {
    lost();
    setTimeout(what, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
  };

  const follows = () => say(paused ? "Paused." : "What happens shows here by itself.");

  // The session is over: what it showed goes, too.
  const ended = () => {
    leave();
    location.assign("/operator/login");
  };

  // What has the focus stays where it is, unless its own row went; then the same link takes it.
  const remember = () => {
    const active = document.activeElement;
    return active !== root && root.contains(active) ? { active, href: active.getAttribute("href") } : null;
  };

  const restore = (kept) => {
    if (!kept || document.activeElement === kept.active) return;
    const same = [...root.querySelectorAll("a")].find((link) => link.getAttribute("href") === kept.href);
    (kept.active.isConnected ? kept.active : same ?? root).focus({ preventScroll: true });
  };

  // Rows that stay are not touched: focus, selection and place on the screen stay with them.
  const patchRows = (body, next) => {
    const have = new Map();
    for (const row of body.rows) have.set(row.outerHTML, [...(have.get(row.outerHTML) ?? []), row]);
    const rows = [...next.rows].map((row) => have.get(row.outerHTML)?.shift() ?? row);
    for (const row of [...body.rows]) if (!rows.includes(row)) row.remove();
    let place = body.rows[0] ?? null;
    for (const row of rows) {
      if (row === place) place = place.nextElementSibling;
      else body.insertBefore(row, place);
    }
  };

  const patch = (next) => {
    const kept = remember();
    const [old, fresh] = [[...root.children], [...next.children]];
    if (old.length !== fresh.length) root.replaceChildren(...fresh);
    else
      old.forEach((part, at) => {
        if (part.isEqualNode(fresh[at])) return;
        const [body, rows] = [part, fresh[at]].map((one) => one.querySelector("table.rows > tbody"));
        if (body && rows) patchRows(body, rows);
        else part.replaceWith(fresh[at]);
      });
    restore(kept);
  };

  const refresh = async () => {
    const response = await fetch(location.href, { headers: { "X-Fragment": "1" }, cache: "no-store", redirect: "manual" });
    if (response.type === "opaqueredirect") return ended();
    if (!response.headers.has("X-Fragment")) throw new Error(`answered ${response.status}`);
    const template = document.createElement("template");
    template.innerHTML = await response.text();
    if (!paused) patch(template.content.querySelector("#followed"));
    failures = 0;
    follows();
  };

  // One question at a time, and at most one in EVERY_MS; what is told meanwhile is asked for afterwards.
  const look = () => {
    wanted = true;
    if (paused || asking || timer) return;
    timer = setTimeout(ask, Math.max(0, asked + EVERY_MS - Date.now()));
  };

  const ask = async () => {
    [timer, wanted, asking, asked] = [0, false, true, Date.now()];
    try {
      await refresh();
    } catch {
      retry(look);
    }
    asking = false;
    if (wanted) look();
  };

  const follow = () => {
    if (source || document.hidden) return;
    source = new EventSource("/operator/live");
    source.addEventListener("look", look);
    source.addEventListener("ended", ended);
    source.addEventListener("error", () => {
      lost();
      if (source?.readyState !== EventSource.CLOSED) return;
      leave();
      look();
      retry(follow);
    });
  };

  const leave = () => {
    source?.close();
    source = null;
  };

  // A page that nobody sees is told nothing, and looks when it is seen again.
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", follow);

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    follows();
    if (!paused) look();
  });

  pause.hidden = false;
  follows();
  follow();
})();
