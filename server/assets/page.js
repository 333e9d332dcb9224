// Everything on these pages works without this file. It keeps the line of what is open fresh, says times in the reader's own
// zone on demand, and lets charts be read under the pointer.
"use strict";

(() => {
  const REFRESH_MS = 15000;

  // The line above the page, as long as somebody looks at it.
  const refresh = async () => {
    const strip = document.getElementById("strip");
    if (!strip || document.hidden) return;
    try {
      const answer = await fetch(strip.dataset.refresh, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) return;
      const made = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = made.getElementById("strip");
      // Moving the line away under somebody's finger or focus would be worse than an old one.
      if (fresh && !strip.contains(document.activeElement)) strip.replaceWith(document.adoptNode(fresh));
    } catch {
      // The server is away for a moment: the time in the line says how old it is.
    }
  };
  setInterval(refresh, REFRESH_MS);
  document.addEventListener("visibilitychange", refresh);

  // The reader's own time beside the site's, where the two differ.
  const own = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) time.title += "; here " + own.format(at);
  }

  const shown = (value, unit) => {
    if (value === null || value === undefined) return "none";
    const digits = (x) => (Math.abs(x) >= 99.95 || Number.isInteger(x) ? x.toFixed(0) : Math.abs(x) >= 9.995 ? x.toFixed(1) : x.toPrecision(3));
    if (unit === "ratio") return digits(value * 100) + " %";
    if (unit.startsWith("bytes")) {
      const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
      let i = 0;
      while (Math.abs(value) >= 1024 && i + 1 < units.length) { value /= 1024; i += 1; }
      return digits(value) + " " + units[i] + unit.slice(5);
    }
    return digits(value) + (unit && !unit.startsWith("/") ? " " : "") + unit;
  };

  // A chart that can be read under the pointer takes the place of the picture; words and table stay as they are.
  const dashes = [[], [6, 3], [2, 3], [10, 3, 2, 3]];
  const colour = (name) => {
    // A custom property keeps light-dark() as it was written: an element that uses it knows the colour.
    const probe = document.createElement("span");
    probe.style.color = "var(" + name + ")";
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const draw = (figure) => {
    const data = JSON.parse(figure.dataset.chart);
    const plot = figure.querySelector(".plot");
    const edge = colour("--edge");
    const dim = colour("--dim");
    const line = (one, i) => ({
      label: one.name, stroke: colour("--l" + i), width: 2, dash: dashes[i], spanGaps: false,
      points: { show: false }, value: (_, value) => shown(value, data.unit),
    });
    const values = [data.t, ...data.lines.map((one) => one.v)];
    const series = [{ label: "at" }, ...data.lines.map(line)];
    if (data.bound !== null) {
      values.push(data.t.map(() => data.bound));
      series.push({ label: "bound", stroke: colour("--bad"), width: 2, dash: [8, 4], points: { show: false }, value: (_, value) => shown(value, data.unit) });
    }
    const holder = document.createElement("div");
    const axis = { stroke: dim, grid: { stroke: edge, width: 1 }, ticks: { stroke: edge, width: 1 } };
    const options = {
      width: plot.clientWidth, height: 190, series,
      tzDate: (second) => uPlot.tzDate(new Date(second * 1000), data.zone),
      scales: { y: { range: [0, data.top] } },
      axes: [
        { ...axis, values: [[86400, "{DD}.{MM}.", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
        { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => shown(tick, data.unit)) },
      ],
      cursor: { drag: { x: true, y: false } },
      legend: { live: true },
    };
    const chart = new uPlot(options, values, holder);
    holder.classList.add("reading");
    figure.classList.add("live");
    plot.after(holder);
    plot.hidden = true;
    new ResizeObserver(() => {
      const width = figure.clientWidth - 26;
      if (width > 50 && Math.abs(width - chart.width) > 1) chart.setSize({ width, height: 190 });
    }).observe(figure);
  };

  // Drawn when somebody points at it: the picture of the server is there until then.
  const wake = (figure) => {
    if (typeof uPlot === "undefined" || figure.classList.contains("live")) return;
    try {
      draw(figure);
    } catch (error) {
      console.warn("a chart stays a picture:", error);
    }
  };
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const plot = figure.querySelector(".plot");
    plot.addEventListener("pointerenter", () => wake(figure), { once: true });
  }
})();
