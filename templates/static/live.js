// A page follows its job or session by itself. Everything here is also there without it, after a reload.
"use strict";

(() => {
  const root = document.querySelector("[data-live]");
  const live = document.getElementById("live");
  const words = live.dataset; // what this script says, in the page's language
  const offline = document.getElementById("offline");
  const url = root.dataset.url;
  const RETRY_MS = [500, 1000, 2000, 5000];
  let pristine = root.firstElementChild.cloneNode(true);
  let asked = 0;
  let failures = 0;
  let lastEvent = "";

  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  };

  // What the reader has done to the part that is about to be replaced.
  const remember = () => {
    const active = document.activeElement;
    const focus = root.contains(active) && active.id ? { id: active.id, start: null, end: null } : null;
    if (focus && "selectionStart" in active) [focus.start, focus.end] = [active.selectionStart, active.selectionEnd];
    const typed = [...root.querySelectorAll("textarea[name], input[name]")]
      .filter((field) => field.value !== field.defaultValue)
      .map((field) => [field.id, field.value]);
    const open = [...root.querySelectorAll("details[open][id]")].map((part) => part.id);
    return { focus, typed, open };
  };

  const restore = ({ focus, typed, open }) => {
    for (const [id, value] of typed) {
      const field = document.getElementById(id);
      if (field) field.value = value;
    }
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (!focus) return;
    const target = document.getElementById(focus.id) ?? document.getElementById("content");
    target.focus({ preventScroll: true });
    if (focus.start !== null && "setSelectionRange" in target) target.setSelectionRange(focus.start, focus.end);
  };

  const show = (html) => {
    const next = parse(html);
    if (!next || next.isEqualNode(pristine)) return;
    const headline = pristine.dataset.headline;
    pristine = next.cloneNode(true);
    const kept = remember();
    root.replaceChildren(next);
    restore(kept);
    enhance();
    if (next.dataset.headline !== headline) {
      live.textContent = next.dataset.headline;
      document.title = `${next.dataset.headline} · boltworks`;
    }
  };

  const away = (is) => {
    offline.hidden = !is;
  };

  // The newest answer wins; one that was overtaken is dropped, unless it refuses something.
  const ask = async (address, options = {}) => {
    const mine = ++asked;
    const response = await fetch(address, { ...options, headers: { "X-Fragment": "1" }, cache: "no-store" });
    const html = await response.text();
    if (!response.headers.has("X-Fragment")) {
      if (response.status < 500) location.reload();
      throw new Error(`answered ${response.status}`);
    }
    if (mine === asked || !response.ok) show(html);
  };

  const refresh = async () => {
    try {
      await ask(`${url}/fragment`);
      failures = 0;
      away(false);
    } catch {
      away(true);
      later(refresh);
    }
  };

  const later = (what) => {
    setTimeout(what, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
  };

  const follow = () => {
    const source = new EventSource(`${url}/events`);
    let patience = 0;
    source.addEventListener("open", () => {
      clearTimeout(patience);
      patience = 0;
      failures = 0;
      if (!offline.hidden) refresh();
    });
    source.addEventListener(root.dataset.live, (event) => {
      if (event.data === lastEvent && offline.hidden) return;
      lastEvent = event.data;
      refresh();
    });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CONNECTING) {
        patience ||= setTimeout(() => away(true), 4000);
        return;
      }
      clearTimeout(patience);
      away(true);
      later(follow);
    });
    window.addEventListener("pagehide", () => source.close(), { once: true });
  };

  const submit = async (form) => {
    const button = form.querySelector("button");
    if (button.ariaDisabled === "true") return;
    const label = button.textContent;
    const body = new FormData(form);
    button.ariaDisabled = "true";
    button.textContent = form.dataset.inplace;
    live.textContent = form.dataset.inplace;
    try {
      await ask(form.action, { method: "POST", body });
    } catch {
      away(true);
      later(refresh);
    }
    button.ariaDisabled = "false";
    button.textContent = label;
  };

  root.addEventListener("submit", (event) => {
    if (!event.target.dataset.inplace) return;
    event.preventDefault();
    submit(event.target);
  });

  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    const text = source.value ?? source.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      getSelection().selectAllChildren(source);
      source.select?.();
      if (!document.execCommand("copy")) return;
    }
    const label = button.textContent;
    button.textContent = words.copied;
    live.textContent = words.copied;
    setTimeout(() => (button.textContent = label), 2000);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });

  // WebLN: a wallet in the browser. Whether it was paid, the server tells.
  const payHere = async (button) => {
    const label = button.textContent;
    button.textContent = live.textContent = words.asking;
    try {
      await window.webln.enable();
      await window.webln.sendPayment(document.getElementById(button.dataset.webln).value);
    } catch {
      live.textContent = words.unpaid;
    }
    button.textContent = label;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-webln]");
    if (button) payHere(button);
  });

  // `5 minutes`, with the plural that the page's language has for it.
  const span = (count, unit) =>
    new Intl.NumberFormat(document.documentElement.lang, { style: "unit", unit, unitDisplay: "long" }).format(count);

  const countDown = () => {
    for (const place of root.querySelectorAll("[data-until]")) {
      const left = Math.round((Date.parse(place.dataset.until) - Date.now()) / 1000);
      const time = left >= 90 ? span(Math.round(left / 60), "minute") : span(left, "second");
      place.textContent = left > 0 ? words.left.replace("{time}", time) : words.over;
    }
  };

  const inWords = (spent) => {
    const [minutes, rest] = [Math.floor(spent / 60), span(spent % 60, "second")];
    return minutes ? words.and.replace("{longer}", span(minutes, "minute")).replace("{rest}", rest) : rest;
  };

  // Counted on this machine's clock; one that is behind the server's begins at none.
  const countUp = () => {
    for (const place of root.querySelectorAll("[data-since]")) {
      const spent = Math.max(0, Math.round((Date.now() - Date.parse(place.dataset.since)) / 1000));
      place.textContent = words.spent.replace("{time}", inWords(spent));
    }
  };

  const tick = () => {
    countDown();
    countUp();
  };

  const enhance = () => {
    for (const part of document.querySelectorAll(".needs-script")) part.hidden = false;
    if (typeof window.webln?.enable === "function") for (const part of document.querySelectorAll(".needs-webln")) part.hidden = false;
    tick();
  };

  // A form that is sent as any other, and takes its time: said once, sent once.
  for (const form of document.querySelectorAll("form[data-busy]")) {
    form.addEventListener("submit", (event) => {
      const button = form.querySelector("button");
      if (button.ariaDisabled === "true") return event.preventDefault();
      button.ariaDisabled = "true";
      button.textContent = live.textContent = form.dataset.busy;
    });
  }

  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });

  enhance();
  setInterval(tick, 1000);
  follow();
})();
