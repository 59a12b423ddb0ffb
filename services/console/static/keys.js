// Keys: / searches, g and a letter goes, j and k walk the rows, Enter opens, ? says so. Pages work without them.
"use strict";
(() => {
  const GOES = { f: "/", b: "/batches", q: "/quality", e: "/events", u: "/quarantine", l: "/ledger", d: "/data" };
  const G_LASTS = 1500; // ms in which the letter after g is awaited

  const help = document.getElementById("keys");
  let goesUntil = 0;

  const writes = (target) => target.matches?.("input, select, textarea, [contenteditable]");
  const rows = () => [...document.querySelectorAll("main tbody tr")]
    .map((row) => row.querySelector("a[href]"))
    .filter((link) => link && link.getClientRects().length);

  function walk(by) {
    const links = rows();
    if (!links.length) return;
    const row = document.activeElement?.closest?.("tr");
    const at = row ? links.findIndex((link) => link.closest("tr") === row) : -1;
    const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + by));
    links[next].focus();
    links[next].scrollIntoView({ block: "nearest" });
  }

  function search() {
    const box = document.getElementById("q");
    box?.focus();
    box?.select();
  }

  const does = {
    "/": search,
    "?": () => (help.open ? help.close() : help.showModal()),
    j: () => walk(1),
    k: () => walk(-1),
    g: () => { goesUntil = performance.now() + G_LASTS; },
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (writes(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const goes = performance.now() < goesUntil && GOES[event.key];
    goesUntil = 0;
    if (goes) {
      event.preventDefault();
      location.assign(goes);
    } else if (does[event.key] && (!help.open || event.key === "?")) {
      event.preventDefault();
      does[event.key]();
    }
  });

  document.getElementById("keys-shown").addEventListener("click", () => help.showModal());
})();
