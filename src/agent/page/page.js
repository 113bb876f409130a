"use strict";
// The status page: it reads /v1/overview every other second, and the reals of a VIP only while that VIP is open. Rates and
// their history are made here, from the counters. What a server says becomes text (textContent), and never markup.

const PERIOD = 2000; // between two readings, in milliseconds
const PATIENCE = 10000; // for an answer
const KEPT = 120; // values in a sparkline: four minutes
const FIRST = 50; // VIPs that are shown at first
const MOST_REALS = 200; // reals that are shown of a VIP
const SORT_EVERY = 10000; // rows that move at each reading cannot be read

const $ = (id) => document.getElementById(id);

// ---- Elements -------------------------------------------------------------------------------------------------------

function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children); // texts become text nodes
  return made;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Replaces the content of a node. If nothing differs it stays, and with it a selection of text.
function show(node, ...children) {
  const made = node.cloneNode(false);
  made.append(...children);
  if (!node.isEqualNode(made)) node.replaceChildren(...made.childNodes);
}

// What a server said, without characters that nobody sees or that turn the text around them.
function tame(text) {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, "\ufffd");
}

// Text with 'commands in quotes' set as code.
function withCode(text) {
  return tame(text).split(/('(?:lbctl|tcpdump|ip|ethtool|sysctl|systemctl)[^']*')/).map((part, i) => (i % 2 ? el("code", null, part.slice(1, -1)) : part));
}

// ---- Numbers --------------------------------------------------------------------------------------------------------

function scaled(value, base, units) {
  let unit = 0;
  while (value >= base * 0.9995 && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  const digits = unit === 0 ? (value > 0 && value < 10 ? 1 : 0) : value < 10 ? 2 : value < 100 ? 1 : 0;
  return `${value.toFixed(digits).replace(/\.0$/, "")}${units[unit] ? ` ${units[unit]}` : ""}`;
}

const known = (value) => value !== null && value !== undefined;
const count = (value) => (known(value) ? scaled(value, 1000, ["", "k", "M", "G", "T"]) : "–");
const bytes = (value) => (known(value) ? scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]) : "–");
const percent = (part) => `${(part * 100).toFixed(part > 0 && part < 0.0995 ? 1 : 0)} %`;
const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hour12: false });

function ago(seconds) {
  const past = Math.max(0, Date.now() / 1000 - seconds);
  if (past < 60) return "less than a minute";
  if (past < 3600) return plural(Math.floor(past / 60), "minute", "minutes");
  if (past < 2 * 86400) return plural(Math.floor(past / 3600), "hour", "hours");
  return plural(Math.floor(past / 86400), "day", "days");
}

function since(seconds) {
  return el("time", { datetime: new Date(seconds * 1000).toISOString(), title: DATE.format(seconds * 1000) }, `for ${ago(seconds)}`);
}

// ---- Rates and their history ----------------------------------------------------------------------------------------

const series = new Map(); // what it is of -> { last, at, rates, values, smooth }

// The rates of counters since the reading before; null: this is the first one.
function rates(key, at, counters, valueOf) {
  const one = series.get(key);
  if (!one) {
    series.set(key, { last: counters, at, rates: null, values: [], smooth: null, seen: at });
    return null;
  }
  one.seen = at;
  const seconds = (at - one.at) / 1000;
  if (seconds > 0) {
    // A counter that is lower than before began anew.
    one.rates = counters.map((value, i) => (value >= one.last[i] ? value - one.last[i] : value) / seconds);
    one.last = counters;
    one.at = at;
    const value = valueOf(one.rates);
    one.smooth = one.smooth === null ? value : one.smooth * 0.7 + value * 0.3;
    one.values.push(value);
    if (one.values.length > KEPT) one.values.shift();
  }
  return one.rates;
}

function forget(at) {
  for (const [key, one] of series) if (one.seen !== at) series.delete(key);
}

// A table of a CPU is full by its fuller family.
function fill(table) {
  return table.entries ? Math.max(table.used_ipv4, table.used_ipv6) / table.entries : 0;
}

const SVG = "http://www.w3.org/2000/svg";

function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${KEPT - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const area = document.createElementNS(SVG, "path");
  area.setAttribute("class", "area");
  svg.append(area, document.createElementNS(SVG, "path"));
  return svg;
}

function draw(svg, values) {
  const most = Math.max(...values, 1);
  const first = KEPT - values.length;
  const points = values.map((value, i) => `${first + i},${(19 - (value / most) * 18).toFixed(1)}`);
  const [area, line] = svg.children;
  const path = points.length > 1 ? `M${points.join("L")}` : "";
  line.setAttribute("d", path);
  area.setAttribute("d", path && `${path}V20H${first}Z`);
}

function bar(part, kind) {
  const inner = el("span");
  inner.style.width = `${Math.min(100, Math.max(part > 0 ? 1 : 0, part * 100))}%`;
  return el("span", { class: `track ${kind || ""}`, "aria-hidden": "true" }, inner);
}

// ---- Condition ------------------------------------------------------------------------------------------------------

function condition(kind, text) {
  const pill = $("condition");
  pill.className = `pill ${kind}`;
  say(pill, text); // a screen reader says it when it changes
  document.title = `${kind === "good" ? "" : "(!) "}${$("instance").textContent} – l4lb`;
}

function findings(list) {
  show($("findings"), ...list.map(({ what, fix, bad }) =>
    el("li", { class: bad && "bad" }, el("strong", null, ...withCode(what)), el("span", { class: "fix" }, ...withCode(fix)))));
  $("attention").hidden = list.length === 0;
}

const MILD = new Set(["generic_mode", "outweighed_reals", "unhealthy_reals", "other_mac", "misses_with_room", "flood_guard_limits"]);

function judge(overview) {
  const judged = overview.judgement && overview.judgement.condition;
  const list = judged ? judged.findings.map((found) => ({ what: found.what, fix: found.fix, bad: !MILD.has(found.problem) })) : [];
  if (overview.draining_since) {
    list.unshift({
      what: `The node is drained, for ${ago(overview.draining_since)}`,
      fix: "/readyz is 503, and packets are forwarded; 'lbctl node undrain' ends it",
    });
  }
  if (judged && judged.warnings) {
    list.push({ what: plural(judged.warnings, "warning about the interfaces", "warnings about the interfaces"), fix: "'lbctl doctor' says what, and which command fixes it" });
  }
  findings(list);
  if (!judged) condition("wait", "Judging");
  else if (!judged.well) condition(list.some((one) => one.bad) ? "bad" : "warn", `Not well: ${plural(judged.findings.length, "thing", "things")} to do`);
  else if (overview.draining_since) condition("warn", "Drained");
  else condition("good", "Well");
}

// ---- Totals ---------------------------------------------------------------------------------------------------------

const tiles = new Map();

function tile(name, value, note, { kind = "", values } = {}) {
  let made = tiles.get(name);
  if (!made) {
    const spark = values && sparkline();
    const parts = [el("p", { class: "name" }, name), el("p", { class: "value" }), el("p", { class: "note" })];
    made = { box: el("div", { class: "total" }, ...parts, ...(spark ? [spark] : [])), parts, spark };
    tiles.set(name, made);
    $("totals").append(made.box);
  }
  made.box.className = `total ${kind}`;
  say(made.parts[1], value);
  say(made.parts[2], note);
  made.parts[2].title = note;
  if (values) draw(made.spark, values);
}

function totals(overview, at) {
  const sum = (of) => overview.vips.reduce((all, vip) => all + of(vip), 0);
  const drops = overview.reasons.filter((reason) => reason.verdict === "drop").reduce((all, reason) => all + reason.packets, 0);
  const one = (name, counters) => {
    const now = rates(`total ${name}`, at, counters, (all) => all[0]);
    return [now, series.get(`total ${name}`).values];
  };
  const [packets, packetValues] = one("packets", [sum((vip) => vip.packets + vip.dropped)]);
  const [traffic, trafficValues] = one("bits", [sum((vip) => vip.bytes * 8)]);
  const [flows, flowValues] = one("flows", [sum((vip) => vip.new_flows)]);
  const [dropped, dropValues] = one("drops", [drops]);
  tile("Packets/s for VIPs", count(packets && packets[0]), `${count(sum((vip) => vip.packets + vip.dropped))} in all`, { values: packetValues });
  tile("Bit/s to reals", count(traffic && traffic[0]), `${bytes(sum((vip) => vip.bytes))} in all`, { values: trafficValues });
  tile("New flows/s", count(flows && flows[0]), `${count(sum((vip) => vip.new_flows))} in all`, { values: flowValues });
  const losing = dropped && packets && dropped[0] > 10 && dropped[0] > packets[0] / 1000;
  tile("Drops/s", count(dropped && dropped[0]), `${count(drops)} in all`, { values: dropValues, kind: losing ? "warn" : "" });
  const { healthy, unhealthy, unknown, checked_vips: checked, nobody_checks: nobody } = overview.health;
  const unchecked = unknown ? `, ${unknown} not checked yet` : "";
  if (checked || unhealthy) {
    tile("Unhealthy reals", `${unhealthy}`, nobody ? "nobody checks them" : `of ${healthy + unhealthy + unknown}${unchecked}`, { kind: nobody ? "bad" : unhealthy ? "warn" : "" });
  } else {
    tile("Unhealthy reals", "–", "no VIP has a check");
  }
  const tables = (overview.judgement && overview.judgement.tables) || [];
  const fullest = tables.reduce((most, table) => Math.max(most, fill(table)), 0);
  tile("Fullest table", tables.length ? percent(fullest) : "–", plural(tables.filter((table) => known(table.cpu)).length, "CPU has a table", "CPUs have a table"));
}

// ---- VIPs -----------------------------------------------------------------------------------------------------------

const rows = new Map(); // VIP -> its row
let made = 0; // rows so far
let order = []; // VIPs as they are shown
let sorted = 0;
let limit = FIRST;
let last = null; // the overview that is shown

const isTroubled = (vip) => vip.unhealthy > 0 || vip.fails_open || vip.usable === 0;

function realsInWords(vip) {
  const out = [];
  if (vip.unhealthy) out.push(`${vip.unhealthy} unhealthy`);
  if (vip.drained) out.push(`${vip.drained} drained`);
  if (vip.down) out.push(`${vip.down} down`);
  const of = `${vip.usable} of ${vip.reals}`;
  if (vip.fails_open) return ["bad", `✕ fails open, ${of}: ${out.join(", ")}`];
  if (vip.usable === 0) return ["bad", `✕ ${vip.reals ? of : "no reals"}${out.length ? `: ${out.join(", ")}` : ""}`];
  if (vip.unhealthy) return ["warn", `▲ ${of}: ${out.join(", ")}`];
  return [vip.check ? "good" : "", `${vip.check ? "✓ " : ""}${of}${out.length ? `: ${out.join(", ")}` : ""}`];
}

function makeRow(vip) {
  made += 1;
  const id = `reals-${made}`;
  const name = el("span", { class: "vip-name mono" }, vip);
  const button = el("button", { type: "button", "aria-expanded": "false", "aria-controls": id }, name);
  const cell = (kind, unit) => el("td", { class: kind, "data-unit": unit });
  const row = {
    vip,
    id,
    button,
    spark: sparkline(),
    state: cell("state"),
    packets: cell("number packets", "packets/s"),
    bits: cell("number bits"),
    flows: cell("number flows"),
    drops: cell("number drops", "drops/s"),
    detail: null,
    reals: null,
  };
  row.line = el("tr", { class: "vip" }, el("td", { class: "name" }, button), row.state, row.packets, row.bits, row.flows, row.drops, el("td", { class: "trend" }, row.spark));
  row.body = el("tbody", null, row.line);
  button.addEventListener("click", () => toggle(row));
  return row;
}

function toggle(row) {
  const open = !row.detail;
  row.button.setAttribute("aria-expanded", String(open));
  // The address of the page names the VIP that was opened last: it can be sent to a colleague.
  window.history.replaceState(null, "", open ? `#${encodeURI(row.vip)}` : " ");
  if (!open) {
    row.detail.remove();
    row.detail = null;
    row.reals = null;
    return;
  }
  row.reals = el("div", null, el("p", { class: "empty" }, "Loading"));
  row.detail = el("tr", { class: "detail", id: row.id }, el("td", { colspan: "7" }, row.reals));
  row.body.append(row.detail);
  readReals(row);
}

// Opens the VIP that the address of the page names.
function openNamed(overview) {
  let wanted = "";
  try {
    wanted = decodeURI(window.location.hash.slice(1));
  } catch {
    return;
  }
  if (!overview.vips.some((vip) => vip.vip === wanted)) return;
  if (!rows.has(wanted)) {
    limit = Infinity;
    vips(overview, overview.at_ms, true);
  }
  const row = rows.get(wanted);
  if (row && !row.detail) {
    toggle(row);
    row.body.scrollIntoView({ block: "center" });
  }
}

function number(cell, value) {
  const text = count(value);
  say(cell, text);
  cell.classList.toggle("zero", text === "0" || text === "–");
}

function fillRow(row, vip, now) {
  const [kind, text] = realsInWords(vip);
  row.state.className = `state ${kind}`;
  say(row.state, text);
  row.state.title = vip.check ? `check: ${vip.check}` : "no check";
  number(row.packets, now && now[0]);
  number(row.bits, now && now[1]);
  number(row.flows, now && now[2]);
  number(row.drops, now && now[3]);
  draw(row.spark, series.get(`vip ${vip.vip}`).values);
}

function matches(vip) {
  const wanted = $("filter").value.trim().toLowerCase();
  return (!wanted || `${vip.vip} ${vip.check || ""}`.toLowerCase().includes(wanted)) && (!$("troubled").checked || isTroubled(vip));
}

function vips(overview, at, sortNow) {
  const now = new Map();
  for (const vip of overview.vips) {
    now.set(vip.vip, rates(`vip ${vip.vip}`, at, [vip.packets + vip.dropped, vip.bytes * 8, vip.new_flows, vip.dropped], (all) => all[0]));
  }
  const table = $("vip-table");
  const there = new Map(overview.vips.filter(matches).map((vip) => [vip.vip, vip]));
  const busy = table.contains(document.activeElement) || table.matches(":hover");
  if (sortNow || (!busy && Date.now() - sorted > SORT_EVERY) || order.length !== there.size || order.some((vip) => !there.has(vip))) {
    // The rate moves rows; as long as there is none, what was sent so far.
    const weight = (vip) => {
      const { smooth } = series.get(`vip ${vip.vip}`);
      return smooth === null ? vip.packets : smooth;
    };
    const all = [...there.values()].map((vip) => [weight(vip), vip]);
    all.sort(([a, one], [b, other]) => b - a || other.packets - one.packets || (one.vip < other.vip ? -1 : 1));
    order = all.map(([, vip]) => vip.vip);
    sorted = Date.now();
  }
  const shown = order.slice(0, limit);
  const keep = new Set(shown);
  for (const [name, row] of rows) {
    if (!keep.has(name)) {
      row.body.remove();
      if (!there.has(name) || !row.detail) rows.delete(name);
    }
  }
  let before = table.tHead;
  for (const name of shown) {
    let row = rows.get(name);
    if (!row) {
      row = makeRow(name);
      rows.set(name, row);
    }
    fillRow(row, there.get(name), now.get(name));
    // Moving a row would take the focus from it.
    if (before.nextElementSibling !== row.body) before.after(row.body);
    before = row.body;
    if (row.detail) readReals(row);
  }
  say($("vip-count"), there.size === overview.vips.length ? `${there.size}` : `${there.size} of ${overview.vips.length}`);
  const more = order.length - shown.length;
  $("more").hidden = more <= 0;
  say($("more"), `Show ${more} more`);
  $("no-vips").hidden = there.size !== 0;
  say($("no-vips"), overview.vips.length ? "No VIP is like that." : "The instance has no VIPs: 'lbctl vip add', or [[vips]] in its file.");
}

// ---- Reals of a VIP -------------------------------------------------------------------------------------------------

function pathOf(vip) {
  const found = /^(tcp|udp):\/\/(?:\[([^\]]+)\]|([^:]+)):(\d+|\*)$/.exec(vip);
  return found && `/v1/vips/${found[1]}/${encodeURIComponent(found[2] || found[3])}/${found[4] === "*" ? "0" : found[4]}/reals`;
}

async function readReals(row) {
  if (row.reading) return;
  row.reading = true;
  try {
    const list = await ask(pathOf(row.vip));
    if (row.reals) reals(row, list);
  } catch (error) {
    if (row.reals) show(row.reals, el("p", { class: "empty" }, `Cannot read its reals: ${error.message}`));
  } finally {
    row.reading = false;
  }
}

function health(real) {
  if (real.state === "drain") return ["warn", "◦ drained"];
  if (real.state === "down") return ["warn", "◦ down"];
  if (real.health === "unhealthy") return ["bad", "✕ unhealthy"];
  if (real.health === "healthy") return real.health_share < 100 ? ["warn", `✓ ${real.health_share} % of its weight`] : ["good", "✓ healthy"];
  return ["muted", "not checked"];
}

function why(real) {
  const parts = [];
  if (real.reason) parts.push(tame(real.reason).trim());
  if (real.since) parts.push(since(real.since));
  if (real.told) parts.push("told by another checker");
  if (real.flaps && real.flaps.held_until * 1000 > Date.now()) parts.push(`out until ${CLOCK.format(real.flaps.held_until * 1000)}, as it failed too often`);
  return parts.flatMap((part, i) => (i ? [", ", part] : [part]));
}

// What was sent to it in this VIP; by an older serve, in all VIPs.
const sentTo = (real) => real.sent || real.sent_for_all_vips;

function reals(row, list) {
  const rank = (real) => (real.state === "up" && real.health === "unhealthy" ? 0 : real.state === "up" ? 1 : 2);
  const all = list.slice().sort((a, b) => rank(a) - rank(b));
  const most = Math.max(...all.map((real) => real.share), 0);
  const at = performance.now();
  row.before = row.before || new Map();
  const lines = all.slice(0, MOST_REALS).map((real) => {
    const [kind, text] = health(real);
    const sent = sentTo(real).packets;
    const before = row.before.get(real.address);
    let rate = before && before.rate;
    // The answer may be of the same reading as the one before.
    if (!before) row.before.set(real.address, { sent, at, rate: null });
    else if (at - before.at >= 1500) {
      rate = ((sent >= before.sent ? sent - before.sent : sent) * 1000) / (at - before.at);
      row.before.set(real.address, { sent, at, rate });
    }
    return el("tr", null,
      el("td", { class: "mono" }, real.address),
      el("td", { class: `state ${kind}` }, text),
      el("td", { class: "why" }, ...why(real)),
      el("td", { class: "number weight" }, `${real.weight}`),
      el("td", { class: "number" }, el("span", { class: "share" }, bar(most ? real.share / most : 0), el("span", { class: "percent" }, percent(real.share)))),
      el("td", { class: `number ${rate ? "" : "zero"}`, "data-unit": "packets/s" }, count(rate)));
  });
  if (!lines.length) {
    show(row.reals, el("p", { class: "empty" }, "No reals."));
    return;
  }
  const sentHere = list.every((real) => real.sent);
  const head = el("thead", null, el("tr", null, ...[["Real", "real"], ["Health", "state"], ["Why", ""], ["Weight", "number weight"], ["Share of new flows", "number share-of"],
    [sentHere ? "Packets/s" : "Packets/s, all VIPs", "number packets"]].map(([text, kind]) => el("th", { scope: "col", class: kind }, text))));
  const left = all.length - lines.length;
  const note = left > 0 ? [el("p", { class: "empty" }, `And ${left} more: lbctl real list ${row.vip}`)] : [];
  show(row.reals, el("table", { class: "reals plain", "aria-label": `Reals of ${row.vip}` }, head, el("tbody", null, ...lines)), ...note);
}

// ---- Panels ---------------------------------------------------------------------------------------------------------

function list(node, heads, lines, none, label) {
  if (!lines.length) {
    show(node, el("p", { class: "empty" }, none));
    return;
  }
  const head = heads.map(([text, kind]) => el("th", { scope: "col", class: kind }, text));
  const body = lines.map((cells) => el("tr", null, ...cells.map((cell, i) => el("td", { class: heads[i][1] }, ...[].concat(cell)))));
  show(node, el("table", { class: "plain", "aria-label": label }, el("thead", null, el("tr", null, ...head)), el("tbody", null, ...body)));
}

const words = (name) => name.replaceAll("_", " ").replaceAll("-", " ");

function drops(overview, at) {
  const all = overview.reasons.filter((reason) => reason.verdict === "drop" && reason.packets > 0);
  for (const reason of all) reason.rate = rates(`reason ${reason.reason}`, at, [reason.packets], (now) => now[0]);
  all.sort((a, b) => (b.rate ? b.rate[0] : 0) - (a.rate ? a.rate[0] : 0) || b.packets - a.packets);
  list($("drops"), [["Reason", ""], ["Packets/s", "number"], ["In all", "number"]],
    all.map((reason) => [words(reason.reason), count(reason.rate && reason.rate[0]), count(reason.packets)]),
    "Nothing was dropped since the start.", "Drops by reason");
}

function tables(overview) {
  const guards = new Map(overview.flood_guards.map((guard) => [guard.cpu, guard]));
  const judged = overview.judgement;
  const all = judged ? judged.tables.filter((table) => known(table.cpu) || table.used_ipv4 || table.used_ipv6) : [];
  const memory = judged ? judged.memory.reduce((sum, maps) => sum + (maps.kernel || maps.planned), 0) : 0;
  list($("tables"), [["CPU", ""], ["", "wide"], ["Flows", "number"], ["Full", "number"]],
    all.map((table) => {
      const guard = guards.get(table.cpu);
      const part = fill(table);
      const limited = guard && guard.limiting ? [el("span", { class: "sub warn" }, "▲ more new flows than it remembers")]
        : guard && guard.not_remembered ? [el("span", { class: "sub" }, `${count(guard.not_remembered)} new flows not remembered since the start`)] : [];
      return [known(table.cpu) ? `${table.cpu}` : "shared", [bar(part), ...limited], count(table.used_ipv4 + table.used_ipv6), percent(part)];
    }), judged ? "No connection tables." : "Counting", "Connection tables");
  if (memory) $("tables").append(el("p", { class: "sub" }, `All maps take ${bytes(memory)}.`));
}

const LINK = { up: "up", down: "DOWN", no_carrier: "NO CARRIER", missing: "MISSING", other_namespace: "IN ANOTHER NAMESPACE" };

function interfaces(overview) {
  const unserved = new Map(overview.unserved.map((one) => [one.name, one]));
  const names = new Set([...Object.keys(overview.interfaces), ...unserved.keys()]);
  list($("interfaces"), [["Interface", ""], ["State", ""], ["Gateway", ""], ["MTU", "number"]],
    [...names].sort().map((name) => {
      const face = overview.interfaces[name];
      const lacks = unserved.get(name);
      const well = face && face.link === "up" && face.mode;
      const state = face ? `${face.mode || "not attached"}, ${LINK[face.link] || face.link}` : "not served";
      const why = lacks ? [el("span", { class: "sub" }, `${lacks.as_before ? "served as before: " : ""}${lacks.why}`)] : [];
      const hop = face && face.next_hop ? `${face.next_hop.address}` : "";
      return [name, [el("span", { class: well && !lacks ? "good" : "bad" }, `${well && !lacks ? "✓" : "✕"}\u00a0${state}`), ...why],
        face ? [hop, el("span", { class: "sub mono mac" }, face.mac)] : "", face ? `${face.mtu}` : ""];
    }), "The instance serves no interface.", "Interfaces");
}

function chain(overview) {
  list($("chain"), [["Slot", ""], ["Program", ""], ["Runs", ""], ["Packets", "number"]],
    overview.chain.map((slot) => [`${slot.slot}`, [slot.name, el("span", { class: "sub" }, slot.origin === "own" ? "of l4lb" : slot.origin === "object" ? "loaded by lbctl" : "of another program")],
      slot.since ? since(slot.since) : "", known(slot.packets) ? count(slot.packets) : ""]),
    "The chain is empty.", "Chain");
  list($("captures"), [["Capture", ""], ["Process", ""], ["Runs", ""]],
    overview.captures.map((one) => [`${one.capture}`, known(one.pid) ? `${one.pid}` : "in another container", one.since ? since(one.since) : ""]),
    "None.", "Captures");
}

// ---- Reading --------------------------------------------------------------------------------------------------------

class Refused extends Error {}

async function ask(path) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), PATIENCE);
  try {
    const answer = await fetch(path, { signal: abort.signal, cache: "no-store", credentials: "omit", redirect: "error" });
    const body = await answer.text();
    let json = null;
    try {
      json = JSON.parse(body);
    } catch {
      throw new Refused(`${answer.status}: ${body.trim().slice(0, 300) || "an answer that is no JSON"}`);
    }
    if (!answer.ok) throw new Refused(json.error || `status ${answer.status}`);
    return json;
  } finally {
    clearTimeout(timer);
  }
}

let timer = null;
let failures = 0;
let heard = null; // when the last answer came
let read = 0; // how many readings there were

function render(overview, sortNow) {
  const at = overview.at_ms;
  say($("instance"), overview.instance);
  judge(overview);
  totals(overview, at);
  vips(overview, at, sortNow);
  drops(overview, at);
  tables(overview);
  interfaces(overview);
  chain(overview);
  forget(at);
  const serve = overview.serve;
  const api = serve && serve.control ? `, control API ${serve.control.listening ? `at ${serve.control.socket}` : "does not listen"}` : "";
  say($("about"), `l4lb ${overview.version}${serve && serve.pid ? `, process ${serve.pid}` : ""}${api}.`);
}

// The name of an instance that does not run.
async function nameInstance() {
  try {
    say($("instance"), (await ask("/v1/version")).instance);
  } catch {
    // It is only a name.
  }
}

// Shows a reading. What fails here is the page's own fault, and no reason to look as if nobody answered.
function draws(overview) {
  try {
    render(overview, read === 2);
    if (read === 1) openNamed(overview);
  } catch (error) {
    console.error(error);
    condition("bad", "Cannot be shown");
    findings([{ what: `This page does not understand what lbctl serve answers: ${error.message}`, fix: "Load the page again: it may be of another version", bad: true }]);
  }
}

// What to say if there was no reading.
function silent(error) {
  document.documentElement.className = last ? "stale" : "nothing";
  if (error instanceof Refused) {
    if (!last) nameInstance();
    condition("bad", "Not running");
    findings([{ what: error.message, fix: "'lbctl status' on this host says more; 'lbctl serve' with its file brings it up", bad: true }]);
    say($("age"), heard ? `Values of ${CLOCK.format(heard)}` : "");
  } else if (failures > 1 || !heard) {
    const when = heard ? ` since ${CLOCK.format(heard)}` : "";
    condition("bad", `No answer${when}`);
    const unit = `l4lb@${$("instance").textContent || "INSTANCE"}`;
    findings([{
      what: heard ? `lbctl serve has not answered${when}` : "lbctl serve does not answer",
      fix: `Packets are forwarded without it, but nobody follows gateways or checks reals. 'systemctl status ${unit}' on the host says why; this page goes on by itself when it answers`,
      bad: true,
    }]);
    say($("age"), heard ? `Values of ${CLOCK.format(heard)}` : "");
  }
}

async function poll() {
  clearTimeout(timer);
  timer = null;
  let next = PERIOD;
  try {
    const overview = await ask("/v1/overview");
    // `serve` was replaced by another version, which this page may not understand.
    if (last && overview.version !== last.version) {
      window.location.reload();
      return;
    }
    // `serve` began anew: its clock and maybe its counters did, too.
    if (last && overview.at_ms < last.at_ms) series.clear();
    last = overview;
    read += 1;
    failures = 0;
    heard = Date.now();
    document.documentElement.className = "";
    say($("age"), `Updated ${CLOCK.format(heard)}`);
    // The first rates need two readings, and the first judgement may come late.
    if (read === 1 || !overview.judgement) next = 1100;
    draws(overview);
  } catch (error) {
    failures += 1;
    next = Math.min(PERIOD * failures, 10000);
    silent(error);
  }
  if (!document.hidden) timer = setTimeout(poll, next);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else poll();
});
for (const id of ["filter", "troubled"]) {
  $(id).addEventListener("input", () => {
    limit = FIRST;
    if (last) vips(last, last.at_ms, true);
  });
}
$("more").addEventListener("click", () => {
  limit = Infinity;
  if (last) vips(last, last.at_ms, false);
});
poll();
