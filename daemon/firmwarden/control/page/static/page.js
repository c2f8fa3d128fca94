// Keeps the page as it would be if it were asked for now.
//
// Samples of progress are put where they belong at once.  For everything else the event stream only says that
// something is new: the page is fetched again, as the server renders it, and what differs is taken over.  Events are
// hints; a fetch now and then finds what they missed.
"use strict";

(() => {
  const SETTLE_MS = 150; // what happens at the same time is fetched once
  const REST = 4; // fetching takes a fifth of the time at most, however big the rack and slow the gateway
  const LEAST_REST_MS = 1000;
  const AGES_MS = 30_000; // "3 minutes ago" gets old, too
  const PATIENCE_MS = 10_000;
  const FIRST_RETRY_MS = 1000;
  const LONGEST_RETRY_MS = 30_000;
  const PACE_OVER_MS = 5000;

  const live = document.getElementById("live");
  let stream = null;
  let retry = FIRST_RETRY_MS;
  let heard = null;
  let timer = null;
  let due = Infinity;
  let restUntil = 0;
  let fetching = false;
  let again = false;
  let reconnecting = null;

  // --- what is shown

  function tell(state, words) {
    if (live.textContent !== words) live.textContent = words;
    live.className = `live ${state}`;
  }

  /** Make an element what another one is, keeping every node that can stay: focus, selection and place stay with it. */
  function become(here, there) {
    for (const { name } of [...here.attributes]) {
      if (!there.hasAttribute(name)) here.removeAttribute(name);
    }
    for (const { name, value } of there.attributes) {
      if (here.getAttribute(name) !== value) here.setAttribute(name, value);
    }
    if (here.hasAttribute("data-own")) return; // filled from here
    const wanted = new Set([...there.children].map((child) => child.id));
    for (const child of [...here.children]) {
      if (child.id && !wanted.has(child.id)) child.remove();
    }
    const known = new Map([...here.children].map((child) => [child.id, child]));
    let place = here.firstChild;
    for (const fresh of [...there.childNodes]) {
      const same = fresh.id ? known.get(fresh.id) : place;
      if (!same || same.nodeName !== fresh.nodeName || (same.id ?? "") !== (fresh.id ?? "")) {
        here.insertBefore(document.importNode(fresh, true), place);
        continue;
      }
      if (same === place) place = place.nextSibling;
      else here.insertBefore(same, place);
      if (same.nodeType === Node.ELEMENT_NODE) become(same, fresh);
      else if (same.data !== fresh.data) same.data = fresh.data;
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  /** Note what is in sight; the answer moves the page so that the first of it that is left is where it was. */
  function places() {
    const seen = [document.activeElement, ...document.querySelectorAll("main [id]")]
      .filter((each) => each?.id && each.id !== "main")
      .map((each) => [each, each.getBoundingClientRect()])
      .filter(([, box]) => box.top >= 0 && box.top < innerHeight);
    return () => {
      const [same, box] = seen.find(([each]) => each.isConnected) ?? [];
      if (same) scrollBy(0, same.getBoundingClientRect().top - box.top);
    };
  }

  // --- what is new

  /** Fetch soon, but not before a rest in proportion to what the last fetch took. */
  function refreshIn(delay) {
    if (fetching) {
      again = true; // what is being fetched may be from before
      return;
    }
    const at = Math.max(performance.now() + delay, restUntil);
    if (at >= due) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(refresh, at - performance.now());
  }

  async function refresh() {
    due = Infinity;
    fetching = true;
    again = false;
    const began = performance.now();
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.headers.get("content-type")?.startsWith("text/html")) throw new Error(answer.statusText);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const focused = document.activeElement?.id;
      const hold = places();
      become(document.getElementById("main"), fresh.getElementById("main"));
      document.title = fresh.title;
      if (focused && document.activeElement?.id !== focused) {
        document.getElementById(focused)?.focus({ preventScroll: true });
      }
      hold();
      heard = new Date();
    } catch {
      if (stream !== null) lose();
    }
    fetching = false;
    restUntil = performance.now() + Math.max(LEAST_REST_MS, REST * (performance.now() - began));
    if (stream !== null) refreshIn(again ? SETTLE_MS : AGES_MS);
  }

  // --- progress

  const samples = new Map(); // by device: the newest, until the next frame
  const paces = new Map(); // by device: the samples of the last seconds

  function hearProgress(event) {
    heard = new Date();
    const sample = JSON.parse(event.data);
    if (samples.size === 0) requestAnimationFrame(showProgress);
    samples.set(sample.device, { ...sample, at: performance.now() });
  }

  function showProgress() {
    const places = new Map();
    for (const place of document.querySelectorAll("[data-update]")) places.set(place.dataset.update, place);
    for (const [device, sample] of samples) {
      const place = places.get(device);
      if (place) show(place, sample);
    }
    samples.clear();
  }

  function show(place, { device, attempt, step, done, total, at }) {
    const writes = step === "write" && total > 0;
    const bar = place.querySelector("progress");
    if (writes) {
      bar.max = total;
      bar.value = done;
    } else bar.removeAttribute("value");
    place.querySelector("[data-step]").textContent = writes ? `${step} ${Math.floor((100 * done) / total)} %` : step;
    place.querySelector("[data-pace]").textContent = writes ? pace(device, attempt, done, total, at) : "";
  }

  function pace(device, attempt, done, total, at) {
    const before = (paces.get(device) ?? []).filter((each) => each.attempt === attempt && at - each.at < PACE_OVER_MS);
    paces.set(device, [...before, { attempt, done, at }]);
    const seconds = before.length ? (at - before[0].at) / 1000 : 0;
    const rate = seconds < 1 ? 0 : (done - before[0].done) / seconds;
    if (rate <= 0) return "";
    const left = (total - done) / rate;
    const words = left < 90 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`;
    return `${(rate / 1024).toFixed(1)} KiB/s, ${words} left`;
  }

  // --- the stream

  function connect() {
    disconnect();
    stream = new EventSource(document.body.dataset.events);
    stream.onopen = () => {
      heard = new Date();
      retry = FIRST_RETRY_MS;
      tell("on", "Live");
      refreshIn(0); // what happened before this was not heard
    };
    stream.onerror = lose; // its own way of coming back gives up after a 503, and knows no back-off
    stream.addEventListener("progress", hearProgress);
    stream.addEventListener("log", (event) => hearNews(JSON.parse(event.data).device));
    stream.addEventListener("gap", () => hearNews());
  }

  function hearNews(device) {
    heard = new Date();
    const shown = document.querySelector("[data-device]")?.dataset.device;
    if (shown === undefined || device === undefined || device === shown) refreshIn(SETTLE_MS);
  }

  function lose() {
    disconnect();
    const since = heard === null ? "" : `, last heard at ${heard.toLocaleTimeString()}`;
    tell("off", `Not live${since}; trying again`);
    reconnecting = setTimeout(connect, retry * (0.8 + 0.4 * Math.random()));
    retry = Math.min(2 * retry, LONGEST_RETRY_MS);
  }

  function disconnect() {
    clearTimeout(reconnecting);
    clearTimeout(timer);
    due = Infinity;
    stream?.close();
    stream = null;
  }

  // A browser has six connections to one place for all of its tabs: those that nobody sees let go of theirs.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect();
    else connect();
  });
  addEventListener("pagehide", disconnect);
  if (!document.hidden) connect();
})();
