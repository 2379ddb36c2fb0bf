"use strict";
// Everything on the page follows from the document, the chosen view (annotator, model version) and the chosen class.
const data = JSON.parse(document.getElementById("document").textContent);
const images = JSON.parse(document.getElementById("images").textContent);
const byId = (id) => document.getElementById(id);
const number = (value, digits = 3) => (value === null || value === undefined ? "n/a" : value.toFixed(digits));
const percent = (value) => (value === null || value === undefined ? "n/a" : (100 * value).toFixed(1) + " %");
const COLOURS = { first: "#3b7dd8", second: "#e08a1e", third: "#4c9a5f", bad: "#c23b6a", grey: "#8a939e" };
const EFFORT = {
  untouched: ["untouched", "#4c9a5f"], relabelled: ["relabelled", "#8e6bc4"], reshaped: ["reshaped", "#e0b21e"],
  relabelled_and_reshaped: ["relabelled and reshaped", "#e08a1e"], deleted: ["deleted", "#c23b6a"], added: ["added", "#3b7dd8"],
};
const CARDS = {
  mean_iou: "mean IoU", mean_iou_without_background: "IoU without background", pixel_accuracy: "pixel accuracy", frequency_weighted_iou: "freq.-weighted IoU",
  boundary_f: "boundary F-score", f1_50: "F1 at IoU 0.5", f1_75: "F1 at IoU 0.75", AP: "mask AP", panoptic_quality: "panoptic quality", untouched_share: "untouched",
};

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function fill(select, entries) {
  for (const [value, text] of entries) element("option", text, select).value = value;
}

function view() {
  const wanted = (id) => (byId(id).value === "" ? null : byId(id).value);
  const [annotator, version] = [wanted("annotator"), wanted("version")];
  return data.views.find((one) => one.annotator === annotator && one.model_version === version);
}

function chosen(one) {
  const value = byId("class").value;
  return value === "" ? one.classes : one.classes.filter((row) => String(row.value) === value);
}

function plot(id, traces, layout) {
  const axis = { automargin: true, zeroline: false, fixedrange: true };
  const base = {
    margin: { l: 48, r: 12, t: 8, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: traces.length > 1,
    legend: { traceorder: "normal", orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, font: { family: getComputedStyle(document.body).fontFamily, size: 12 }, bargap: 0.25,
  };
  const full = { ...base, ...layout, xaxis: { ...axis, ...(layout.xaxis || {}) }, yaxis: { ...axis, ...(layout.yaxis || {}) } };
  return Plotly.react(byId(id), traces, full, { displayModeBar: false, responsive: true }).then(scalable);
}

// With a view box the drawing can shrink with its column on paper, where nothing is laid out anew.
function scalable(chart) {
  for (const svg of chart.querySelectorAll(".main-svg")) svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
}

// The ends of long names tell them apart as often as their beginnings do.
const short = (name) => (name.length > 26 ? name.slice(0, 12) + "…" + name.slice(-13) : name);
// Places are numbers and names are only written there: Plotly loses categories that are called like properties of an object.
const places = (rows) => rows.map((_, k) => k);
const ticks = (rows, down) => ({
  tickvals: places(rows), ticktext: rows.map((row) => short(row.name)), showgrid: false, range: down ? [rows.length - 0.5, -0.5] : [-0.5, rows.length - 0.5],
  tickangle: !down && rows.length > 6 ? -50 : "auto",
});
const MANY = 12;

// Bars stand while their names fit below them, and lie with a line for each when there are many; the chart grows with them.
function bars(id, traces, rows, layout, axis) {
  const many = rows.length > MANY;
  grow(id, many ? 90 + 20 * rows.length * Math.max(1, traces.length * 0.7) : null, false);
  if (!many) return plot(id, traces, { ...layout, xaxis: ticks(rows), yaxis: axis });
  const lying = traces.map((trace) => {
    const { x, y, error_y, hovertemplate, ...rest } = trace;
    return { ...rest, orientation: "h", x: y, y: x, error_x: error_y, hovertemplate: hovertemplate.replace("%{y:", "%{x:") };
  });
  return plot(id, lying, { ...layout, xaxis: axis, yaxis: ticks(rows, true) });
}

function grow(id, height, wide) {
  byId(id).style.height = height ? height + "px" : "";
  byId(id).parentElement.classList.toggle("wide", wide);
}

function drawClasses(rows) {
  const gap = (row, side) => (row.iou_interval && row.iou !== null ? Math.abs(row.iou_interval[side] - row.iou) : 0);
  bars("chart-classes", [{
    type: "bar", name: "IoU", x: places(rows), customdata: rows.map((row) => row.name), y: rows.map((row) => row.iou), marker: { color: COLOURS.first },
    error_y: { type: "data", symmetric: false, array: rows.map((row) => gap(row, 1)), arrayminus: rows.map((row) => gap(row, 0)), thickness: 1.4, width: 4 },
    text: rows.map((row) => number(row.iou, 2)), textposition: "inside", insidetextanchor: "start", hovertemplate: "%{customdata}: %{y:.4f}<extra></extra>",
  }], rows, {}, { range: [0, 1.02], title: { text: "IoU" } });
}

function drawInstances(rows) {
  const objects = rows.filter((row) => row.value > 0);
  byId("figure-f1").hidden = !objects.length || !view().scores;
  if (byId("figure-f1").hidden) return;
  const bar = (key, name, color) => ({
    type: "bar", name, x: places(objects), customdata: objects.map((row) => row.name), y: objects.map((row) => row[key]), marker: { color },
    hovertemplate: "%{customdata}: %{y:.4f}<extra>" + name + "</extra>",
  });
  const traces = [bar("precision_50", "precision", COLOURS.first), bar("recall_50", "recall", COLOURS.second), bar("f1_50", "F1", COLOURS.third)];
  bars("chart-instances", traces, objects, { barmode: "group" }, { range: [0, 1.02] });
}

function drawConfusion(one) {
  const names = one.classes.map((row) => row.name);
  const value = byId("class").value;
  const rows = value === "" ? names.map((_, k) => k) : [Number(value)];
  const shares = rows.map((k) => { const sum = one.confusion[k].reduce((a, b) => a + b, 0); return one.confusion[k].map((n) => (sum ? n / sum : null)); });
  grow("chart-confusion", names.length > MANY ? Math.max(320, 150 + 17 * rows.length) : null, names.length > MANY);
  const hover = rows.map((k, i) => one.confusion[k].map((n, j) => `${names[k]} seen as ${names[j]}: ${n.toLocaleString("en")} pixels, ${percent(shares[i][j])}`));
  plot("chart-confusion", [{
    type: "heatmap", z: shares, x: places(names), y: places(rows), customdata: hover, hovertemplate: "%{customdata}<extra></extra>", zmin: 0, zmax: 1,
    colorscale: [[0, "#eef3fb"], [0.5, "#6f9fe0"], [1, "#123a78"]], showscale: false, xgap: 1, ygap: 1,
    texttemplate: names.length <= MANY ? "%{z:.2f}" : "",
  }], { xaxis: { ...ticks(one.classes), title: { text: "predicted" }, side: "bottom" }, yaxis: ticks(rows.map((k) => one.classes[k]), true) });
}

function drawScores(one) {
  const key = byId("class").value === "" ? "" : one.classes[Number(byId("class").value)].name;
  const found = one.scores && one.scores.by_class[key];
  const any = found && found.hits.concat(found.misses).some((n) => n > 0);
  byId("figure-scores").hidden = byId("figure-calibration").hidden = !any;
  if (!any) return;
  const bins = one.scores.bins, middle = found.hits.map((_, k) => (k + 0.5) / bins), text = found.hits.map((_, k) => `${(k / bins).toFixed(1)} to ${((k + 1) / bins).toFixed(1)}`);
  const bar = (y, name, color) => ({ type: "bar", name, x: middle, y, text, textposition: "none", marker: { color }, width: 0.9 / bins, hovertemplate: "score %{text}: %{y}<extra>" + name + "</extra>" });
  plot("chart-scores", [bar(found.hits, "match (IoU ≥ 0.5)", COLOURS.third), bar(found.misses, "no match", COLOURS.bad)],
    { barmode: "stack", xaxis: { range: [0, 1], title: { text: "score" } }, yaxis: { title: { text: "instances" } } });
  const filled = found.hits.map((_, k) => k).filter((k) => found.hits[k] + found.misses[k] > 0);
  const share = filled.map((k) => found.hits[k] / (found.hits[k] + found.misses[k]));
  plot("chart-calibration", [
    { type: "scatter", mode: "lines", name: "ideal", x: [0, 1], y: [0, 1], line: { dash: "dot", color: COLOURS.grey }, hoverinfo: "skip" },
    { type: "scatter", mode: "lines+markers", name: "observed", x: filled.map((k) => found.mean_scores[k]), y: share, line: { color: COLOURS.first },
      marker: { size: filled.map((k) => 6 + 3 * Math.log10(found.hits[k] + found.misses[k])) }, hovertemplate: "score %{x:.3f}: %{y:.1%} match<extra></extra>" },
  ], { xaxis: { range: [0, 1.02], title: { text: "mean score" } }, yaxis: { range: [0, 1.05], title: { text: "share that matches" } } });
  byId("calibration-note").textContent = "expected calibration error " + number(found.expected_calibration_error);
}

function drawEffort(one, rows) {
  const objects = rows.filter((row) => row.value > 0);
  byId("figure-effort").hidden = byId("section-effort").hidden = !one.effort || !one.effort.annotations || !objects.length;
  if (byId("figure-effort").hidden) return;
  const traces = Object.entries(EFFORT).map(([key, [name, color]]) => ({
    type: "bar", orientation: "h", name, y: places(objects), customdata: objects.map((row) => row.name), x: objects.map((row) => row.effort[key]), marker: { color },
    hovertemplate: "%{customdata}: %{x}<extra>" + name + "</extra>",
  }));
  grow("chart-effort", objects.length > MANY ? 110 + 20 * objects.length : null, false);
  plot("chart-effort", traces, { barmode: "stack", xaxis: { title: { text: "regions" }, rangemode: "tozero" }, yaxis: ticks(objects, true) });
  const lines = objects.map((row) => [row.name, ...Object.keys(EFFORT).map((key) => row.effort[key]), percent(row.untouched_share),
    percent(row.effort.edited_pixels ? row.effort.changed_pixels / row.effort.edited_pixels : null)]);
  table("table-effort", ["class", ...Object.values(EFFORT).map(([name]) => name), "untouched", "pixels changed in reshaped"], lines);
}

function table(id, head, rows) {
  const made = byId(id);
  made.replaceChildren();
  const top = element("tr", null, element("thead", null, made));
  head.forEach((text) => element("th", text, top));
  const body = element("tbody", null, made);
  for (const row of rows) { const line = element("tr", null, body); row.forEach((text) => element("td", text, line)); }
}

function drawTables(one, rows) {
  const instances = one.scores !== null;
  const columns = { IoU: "iou", Dice: "dice", accuracy: "accuracy", "boundary F": "boundary_f" };
  const more = instances ? { precision: "precision_50", recall: "recall_50", F1: "f1_50", "F1@75": "f1_75", AP: "ap", PQ: "panoptic_quality" } : {};
  const head = ["class", ...Object.keys(columns), "IoU interval", ...Object.keys(more), ...(instances ? ["true", "predicted"] : [])];
  const interval = (row) => (row.iou_interval ? `${number(row.iou_interval[0])} to ${number(row.iou_interval[1])}` : "n/a");
  const count = (row, side) => (row.instances ? row.instances[side] : "");
  table("table-classes", head, rows.map((row) => [row.name, ...Object.values(columns).map((key) => number(row[key])), interval(row),
    ...Object.values(more).map((key) => (row.value ? number(row[key]) : "")), ...(instances ? [count(row, "true"), count(row, "predicted")] : [])]));
  const groups = data.views.filter((row) => row.annotator !== null || row.model_version !== null);
  byId("section-groups").hidden = !groups.length;
  const figure = (row, key) => (row.figures[key] ? number(row.figures[key].value) : "n/a");
  table("table-groups", ["annotator", "model version", "images", "mean IoU", "pixel accuracy", "F1 at 0.5", "untouched"], groups.map((row) => [row.annotator ?? "all",
    row.model_version ?? "all", row.images, figure(row, "mean_iou"), figure(row, "pixel_accuracy"), figure(row, "f1_50"), row.effort ? percent(row.effort.untouched_share) : "n/a"]));
  const names = new Set(rows.map((row) => row.name));
  const tags = (one.scores ? one.scores.suggested : []).filter((row) => names.has(row.label) && row.n_kept < row.n_predicted);
  byId("section-thresholds").hidden = !tags.length;
  byId("thresholds").textContent = tags.map((row) => `${row.tag}  <!-- F1 ${number(row.f1_now)} -> ${number(row.f1)}, keeps ${row.n_kept} of ${row.n_predicted} -->`).join("\n");
}

function drawCards(one) {
  byId("cards").replaceChildren();
  const value = byId("class").value, row = value === "" ? null : one.classes[Number(value)];
  const figures = row === null
    ? Object.entries(CARDS).filter(([key]) => one.figures[key]).map(([key, name]) => [name, one.figures[key].value, one.figures[key].interval])
    : [["IoU", row.iou, row.iou_interval], ["Dice", row.dice], ["accuracy", row.accuracy], ["boundary F-score", row.boundary_f], ...(row.value && one.scores
      ? [["F1 at IoU 0.5", row.f1_50, row.f1_50_interval], ["mask AP", row.ap], ["panoptic quality", row.panoptic_quality]] : []), ...(row.value && one.effort ? [["untouched", row.untouched_share]] : [])];
  for (const [name, figure, bounds] of figures) {
    const card = element("div", null, byId("cards"));
    card.className = "card";
    element("span", name, card);
    const written = name === "untouched" ? percent : number;
    element("b", written(figure), card);
    element("small", bounds ? `${written(bounds[0])} to ${written(bounds[1])}` : "\u00a0", card);
  }
}

function drawGallery() {
  const value = byId("class").value, name = value === "" ? null : data.classes[Number(value) - 1];
  const [annotator, version] = [byId("annotator").value, byId("version").value];
  const kept = images.filter((one) => (annotator === "" || one.annotator === annotator) && (version === "" || one.model_version === version) && (name === null || name === undefined || Object.hasOwn(one.iou, name)));
  if (name) kept.sort((a, b) => a.iou[name] - b.iou[name]);
  byId("section-worst").hidden = !images.length;
  byId("gallery").replaceChildren();
  for (const one of kept) {
    const button = element("button", null, byId("gallery"));
    button.type = "button";
    const picture = element("img", null, button);
    picture.src = one.src;
    picture.alt = "prediction, truth and errors of " + one.name;
    element("span", `${one.name}: ${name ? `IoU of ${name} ${number(one.iou[name])}` : `mean IoU ${number(one.worth)}`}`, button);
    const facts = [one.annotator && `annotator ${one.annotator}`, data.model_versions.length > 1 && one.model_version, one.note].filter(Boolean);
    if (facts.length) element("small", facts.join(" · "), button);
    button.addEventListener("click", () => open(kept, kept.indexOf(one), name));
  }
  if (!kept.length && images.length) element("p", "None of the images kept for this page fits the filters.", byId("gallery"));
}

let viewed = () => {};

function open(kept, k, name) {
  const one = kept[k];
  byId("viewer-image").src = one.src;
  byId("viewer-image").alt = "prediction, truth and errors of " + one.name;
  byId("viewer-name").textContent = one.name;
  const facts = [`mean IoU ${number(one.worth)}`, name && `IoU of ${name} ${number(one.iou[name])}`, one.annotator && `annotator ${one.annotator}`, one.model_version, one.note];
  byId("viewer-facts").textContent = facts.filter(Boolean).join(" · ");
  byId("viewer-task").hidden = !one.task;
  if (one.task) byId("viewer-task").href = one.task;
  viewed = (step) => open(kept, (k + step + kept.length) % kept.length, name);
  if (!byId("viewer").open) byId("viewer").showModal();
}

function draw() {
  const one = view();
  if (!one) { byId("scope").textContent = "nothing was scored for this choice"; return; }
  const rows = chosen(one);
  const several = one.model_version === null && data.model_versions.length > 1 ? ", each with the model version it began from, else the newest" : "";
  byId("scope").textContent = `${one.images} image${one.images === 1 ? "" : "s"}` + (one.compared !== one.images ? `, ${one.compared} annotation${one.compared === 1 ? "" : "s"}` : "") + several;
  drawCards(one); drawClasses(rows); drawInstances(rows); drawConfusion(one); drawScores(one); drawEffort(one, rows); drawTables(one, rows); drawGallery();
}

fill(byId("class"), [["", "all"], ...data.views[0].classes.map((row) => row.name).map((name, k) => [String(k), name])]);
for (const [id, names] of [["annotator", data.annotators], ["version", data.model_versions]]) {
  fill(byId(id), names.length > 1 ? [["", id === "version" ? "as annotators saw them" : "all"], ...names.map((name) => [name, name])] : [["", names[0] || "all"]]);
  byId(id + "-label").hidden = names.length < 2;
}
byId("filters").addEventListener("change", draw);
if (byId("chart-names")) {
  const curve = data.named_masks.names.curve;
  plot("chart-names", [{
    type: "scatter", mode: "lines+markers", name: "names", x: curve.map((row) => row.coverage), y: curve.map((row) => row.accuracy), line: { color: COLOURS.first }, marker: { size: 4 },
    customdata: curve.map((row) => row.name_min), hovertemplate: "likelier than %{customdata:.3f}: %{x:.0%} of the masks, %{y:.1%} of them right<extra></extra>",
  }], { xaxis: { range: [0, 1.02], title: { text: "share with a name" }, tickformat: ".0%" }, yaxis: { title: { text: "share that is right" }, tickformat: ".0%", range: [Math.max(0, Math.min(...curve.map((row) => row.accuracy)) - 0.05), 1.005] } });
}
(data.curves || []).forEach((one, k) => {
  const best = one.validation.indexOf(Math.max(...one.validation));
  const figure = { color: COLOURS.first }, loss = { color: COLOURS.second, dash: "dot" };
  plot("chart-curve-" + k, [
    { type: "scatter", mode: "lines", name: "validation " + one.figure, x: one.epoch, y: one.validation, line: figure, hovertemplate: "epoch %{x}: %{y:.3f}<extra></extra>" },
    { type: "scatter", mode: "markers", name: "best", x: [one.epoch[best]], y: [one.validation[best]], marker: { ...figure, size: 9 }, hovertemplate: "epoch %{x}: %{y:.3f}<extra>best</extra>" },
    { type: "scatter", mode: "lines", name: "loss", x: one.epoch, y: one.loss, yaxis: "y2", line: loss, hovertemplate: "epoch %{x}: %{y:.3f}<extra>loss</extra>" },
  ], { xaxis: { title: { text: "epoch" } }, yaxis: { title: { text: "validation " + one.figure } }, yaxis2: { title: { text: "loss" }, overlaying: "y", side: "right", showgrid: false, zeroline: false, fixedrange: true }, margin: { l: 48, r: 64, t: 8, b: 40 } });
});
byId("viewer").addEventListener("keydown", (event) => { if (event.key === "ArrowRight") viewed(1); if (event.key === "ArrowLeft") viewed(-1); });
byId("filters").addEventListener("submit", (event) => event.preventDefault());
for (const chart of document.querySelectorAll(".chart")) {
  new MutationObserver(() => scalable(chart)).observe(chart, { subtree: true, attributes: true, attributeFilter: ["width", "height"] });
}
draw();
