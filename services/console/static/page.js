// What a page needs of the browser: copying, plots. Pages work without it.
"use strict";
(() => {
  document.documentElement.classList.add("js");

  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    const label = button.querySelector(".done");
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      label.textContent = "Copied";
    } catch {
      const shown = button.previousElementSibling;
      if (shown) select(shown);
      label.textContent = shown ? "Press Ctrl+C" : "Not allowed";
    }
    setTimeout(() => { label.textContent = "Copy"; }, 1600);
  });

  function select(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }

  // Ages grow while the page is looked at; they are told as the server tells them.
  const STEPS = [[86400, "d"], [3600, "h"], [60, "min"]];

  function age(seconds) {
    if (seconds < 1) return "now";
    const [length, unit] = STEPS.find(([each]) => seconds >= each) || [1, "s"];
    return `${Math.floor(seconds / length)} ${unit} ago`;
  }

  // The server's clock is meant, whatever the browser's says.
  let ahead = 0;

  function synchronised() {
    ahead = Date.now() - 1000 * Number(document.getElementById("page").dataset.at || Date.now() / 1000);
  }

  function ages() {
    for (const element of document.querySelectorAll("time.age")) {
      const says = age((Date.now() - ahead - Date.parse(element.dateTime)) / 1000);
      if (element.textContent !== says) element.textContent = says;
    }
  }

  synchronised();
  document.addEventListener("page:fresh", synchronised);
  setInterval(ages, 5000);

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.dataset.submit) event.target.form.requestSubmit();
  });

  const HEIGHT = 180;
  const DAYS = [1, 2, 7, 14, 30, 91, 182, 365, 730, 1826].map((days) => days * 86400);
  const drawn = new Map();

  function plots() {
    for (const [element, known] of drawn) {
      if (element.isConnected) continue;
      known.plot.destroy();
      drawn.delete(element);
    }
    for (const element of document.querySelectorAll("[data-plot]")) {
      const known = drawn.get(element);
      if (known && known.data === element.dataset.plot) continue;
      if (known) known.plot.destroy();
      element.replaceChildren();
      drawn.set(element, { data: element.dataset.plot, plot: plot(element) });
    }
  }

  function plot(element) {
    const { x, y, label } = JSON.parse(element.dataset.plot);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false }, font: `12px ${style.getPropertyValue("--sans")}` };
    const out = element.parentElement.querySelector(".readout");
    const day = new Intl.DateTimeFormat("sv-SE", { timeZone: "UTC" });
    const read = (index) => {
      if (out && x.length) out.textContent = `${day.format(x[index] * 1000)}: ${y[index] == null ? "–" : y[index].toLocaleString("en")}`;
    };
    read(x.length - 1);
    return new uPlot({
      width: element.clientWidth,
      height: HEIGHT,
      padding: [8, 40, 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { y: false, points: { size: 6 } },
      legend: { show: false },
      hooks: { setCursor: [(self) => read(self.cursor.idx ?? x.length - 1)] },
      scales: { x: { time: true } },
      axes: [{ ...axis, space: 96, size: 28, incrs: DAYS, values: (_, splits) => splits.map((each) => day.format(each * 1000)) }, { ...axis, size: 64, values: (_, values) => values.map((value) => value.toLocaleString("en")) }],
      series: [{}, { label, stroke: colour("--accent"), width: 1.5, points: { show: x.length < 40 } }],
    }, [x, y], element);
  }

  function again() {
    for (const known of drawn.values()) known.data = null;
    plots();
  }

  addEventListener("resize", () => {
    for (const [element, known] of drawn) known.plot.setSize({ width: element.clientWidth, height: HEIGHT });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  document.addEventListener("page:fresh", plots);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", plots); else plots();
})();
