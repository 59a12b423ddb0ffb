// Live: the server says when each topic last changed; a page drawn before that fetches itself again, at the same
// address. One tab of all listens and tells the others; where that can't be, each tab asks from time to time.
"use strict";
(() => {
  const CHANNEL = "drp-console-live";
  const AT_MOST_EVERY = 1500; // ms between two fetches of a page
  const POLL_EVERY = 5000;
  const MISSED_EVERY = 5000; // what was missing from a page is asked for again
  const SILENT_AFTER = 25000; // the server says something every ten seconds
  const LISTEN_AGAIN_AFTER = 2000;
  const chip = document.getElementById("chip");

  let marks = {};
  let state = "still"; // until something was heard, or nothing could be
  let heardAt = Date.now();
  let fetchedAt = Date.now();
  let fetching = false;
  let failed = false; // the page could not be fetched when it last was stale
  let planned = 0;

  const page = () => document.getElementById("page");
  const isStale = () => {
    const topics = (page().dataset.topics || "").split(" ").filter(Boolean);
    const drawnAt = Number(page().dataset.at || Infinity);
    const misses = page().querySelector(".missing") && Date.now() - fetchedAt > MISSED_EVERY;
    return topics.some((topic) => misses || (marks[topic] || 0) > drawnAt);
  };

  function heard(news) {
    marks = { ...marks, ...news };
    heardAt = Date.now();
    become("live");
    consider();
  }

  function become(next) {
    state = next;
    show();
  }

  function show() {
    const silent = Date.now() - heardAt;
    if (state === "still" && silent <= SILENT_AFTER) return;
    const shown = silent > SILENT_AFTER ? "stale" : failed ? "reconnecting" : state;
    if (chip.dataset.state !== shown) chip.dataset.state = shown;
    write(".says", { live: "Live", reconnecting: "Reconnecting", stale: "Stale" }[shown]);
    write(".since", shown === "stale" ? `, ${age(silent)}` : ""); // hidden from screen readers: it changes each second
  }

  function write(part, says) {
    const element = chip.querySelector(part);
    if (element.textContent !== says) element.textContent = says;
  }

  function age(ms) {
    const seconds = Math.floor(ms / 1000);
    return seconds < 120 ? `${seconds} s` : seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
  }

  function consider() {
    if (document.visibilityState !== "visible" || fetching || !isStale()) return;
    const wait = fetchedAt + AT_MOST_EVERY - Date.now();
    clearTimeout(planned);
    if (wait > 0) { planned = setTimeout(consider, wait); return; }
    refresh();
  }

  async function refresh() {
    if (busy()) { planned = setTimeout(consider, AT_MOST_EVERY); return; }
    fetching = true;
    const drawnAt = page().dataset.at;
    try {
      await htmx.ajax("GET", location.pathname + location.search, { target: "#page", swap: "outerMorph" });
    } finally {
      fetching = false;
      fetchedAt = Date.now();
      failed = page().dataset.at === drawnAt;
    }
    if (!failed) document.dispatchEvent(new Event("page:fresh"));
    show();
    planned = setTimeout(consider, AT_MOST_EVERY);
  }

  // An answer that is no page (a server that stops, a proxy before it) leaves what is shown where it is.
  document.addEventListener("htmx:after:request", (event) => {
    const { response, text } = event.detail.ctx;
    if (response.status >= 500 || !text.includes('<main id="page"')) event.preventDefault();
  });

  // Somebody types, chooses or selects: what they do is not pulled from under them.
  function busy() {
    const active = document.activeElement;
    const typing = active && page().contains(active) && active.matches("input, select, textarea");
    return typing || (getSelection() && !getSelection().isCollapsed);
  }

  function listen(tell) {
    const source = new EventSource("/live");
    source.addEventListener("marks", (event) => {
      const news = JSON.parse(event.data);
      tell({ marks: news });
      heard(news);
    });
    source.addEventListener("error", () => {
      tell({ state: "reconnecting" });
      become("reconnecting");
      if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(tell), LISTEN_AGAIN_AFTER); // it was refused
    });
  }

  function share() {
    const channel = new BroadcastChannel(CHANNEL);
    let leads = false;
    channel.addEventListener("message", ({ data }) => {
      if (data.hello) { if (leads && state === "live") channel.postMessage({ marks }); }
      else if (data.marks) heard(data.marks);
      else if (data.state) become(data.state);
    });
    const hello = () => channel.postMessage({ hello: true });
    navigator.locks.request(CHANNEL, () => new Promise(() => {
      leads = true;
      listen((news) => channel.postMessage(news));
    }));
    hello();
    return hello;
  }

  async function ask() {
    if (document.visibilityState !== "visible") return;
    try {
      const answer = await fetch("/api/live");
      if (!answer.ok) throw new Error(String(answer.status));
      heard(await answer.json());
    } catch {
      become("reconnecting");
    }
  }

  function poll() {
    setInterval(ask, POLL_EVERY);
    ask();
    return ask;
  }

  const shared = window.isSecureContext && navigator.locks && window.BroadcastChannel && window.EventSource;
  const resync = shared ? share() : poll();
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState !== "visible") return;
    resync();
    consider();
  });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  setInterval(() => { show(); consider(); }, 1000);
  show();
})();
