// The page of the dashboard. The server sends the state and its changes as events.
// Every text comes from the network: it goes into the page by textContent only.
"use strict";

const MAX_WORK_ROWS = 200;
const MAX_RESULT_ROWS = 100;
const SILENCE_MILLISECONDS = 25000;  // the server sends something at least every 10 s
const HOSTS_PER_FRAME = 10;
const RETRY_MILLISECONDS = 3000;
const QUEUED = new Set(["queued", "sent", "retrying"]);

const byId = (id) => document.getElementById(id);
const hosts = new Map();      // name -> what the server sent
const hostRows = new Map();   // name -> elements
const workRows = new Map();   // key -> elements
const open = new Set();       // hosts whose VMs are shown
let work = [];
let results = [];
let hostsLeftOut = 0;
let broker = {connected: true, since: 0};
let queries = true;
let lastMessage = 0;
let clockOffset = 0;          // seconds: the server's clock minus ours
let source = null;

// --- elements and texts

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "text") made.textContent = value;
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function setAttribute(target, name, value) {
  if (target.getAttribute(name) !== value) target.setAttribute(name, value);
}

const plural = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) { number /= 1024; unit += 1; }
  return `${number.toFixed(unit && number < 100 ? 1 : 0)} ${units[unit]}`;
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} days`;
}

const now = () => Date.now() / 1000 + clockOffset;

function clock(seconds) {
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString("en-GB");
  const today = date.toDateString() === new Date().toDateString();
  return today ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

// Characters that a person cannot see, or that turn the direction of writing, are shown as escapes.
function visible(text) {
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

const collator = new Intl.Collator("en", {numeric: true});

function vmButton(name) {
  const button = element("button", {type: "button", class: "vm", text: visible(name)});
  button.dataset.vm = name;
  return button;
}

// --- hosts

function makeHost(name) {
  const toggle = element("button", {type: "button", class: "toggle", "aria-expanded": "false"});
  toggle.dataset.host = name;
  const label = element("span", {class: "name", text: visible(name)});
  toggle.append(label);
  const memory = element("meter", {min: "0", max: "100", low: "80", high: "92", optimum: "0",
    "aria-label": `memory of ${visible(name)}`});
  const cpus = element("meter", {min: "0", max: "100", "aria-label": `virtual CPUs of ${visible(name)}`});
  const parts = {
    toggle, memory, cpus,
    status: element("span", {class: "status"}),
    memoryText: element("span", {class: "figure"}),
    cpusText: element("span", {class: "figure"}),
    counts: element("span", {class: "counts"}),
    note: element("p", {class: "note"}),
    hardware: element("ul", {class: "hardware"}),
    list: element("ul", {class: "vms"}),
  };
  parts.note.hidden = true;
  parts.hardware.hidden = true;
  parts.list.hidden = true;
  parts.list.id = `vms-${hostRows.size}-${Math.random().toString(36).slice(2)}`;
  toggle.setAttribute("aria-controls", parts.list.id);
  parts.root = element("article", {class: "host"},
    element("div", {class: "line"}, toggle, parts.status,
      element("span", {class: "load"}, memory, parts.memoryText),
      element("span", {class: "load"}, cpus, parts.cpusText), parts.counts),
    parts.note, parts.hardware, parts.list);
  return parts;
}

function countStates(domains) {
  const counts = new Map();
  for (const domain of domains) counts.set(domain.state, (counts.get(domain.state) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

function showHost(host) {
  let parts = hostRows.get(host.name);
  if (parts === undefined) {
    parts = makeHost(host.name);
    hostRows.set(host.name, parts);
    placeHost(host.name, parts.root);
  }
  const status = host.status || "unknown";
  setAttribute(parts.root, "data-status", status);
  const since = host.since && status !== "online" ? ` since ${clock(host.since)}` : "";
  setText(parts.status, `${status}${since}`);
  const domains = host.domains || [];
  const running = domains.filter((domain) => domain.state !== "shut off");
  showLoad(parts.memory, parts.memoryText, host.memory && host.free_memory !== undefined,
    host.memory - host.free_memory, host.memory, (kib) => bytes(kib * 1024));
  const vcpus = running.reduce((sum, domain) => sum + (domain.vcpus || 0), 0);
  showLoad(parts.cpus, parts.cpusText, host.cpus, vcpus, host.cpus, (n) => String(n), " vCPUs on ", " CPUs");
  const counts = countStates(domains).slice(0, 4).map(([state, count]) => `${count} ${visible(state)}`);
  const left = host.domains_left_out ? `, ${host.domains_left_out} not shown` : "";
  setText(parts.counts, domains.length ? `${plural(domains.length, "VM")}: ${counts.join(", ")}${left}` :
    (host.memory === undefined ? "" : "no VMs"));
  showNote(parts.note, host, status);
  if (open.has(host.name)) { showHardware(host.name); showDomains(host.name); }
}

function showLoad(meter, text, known, used, all, format, between = " of ", after = "") {
  meter.hidden = !known;
  if (!known) { setText(text, ""); return; }
  setAttribute(meter, "value", String(Math.max(0, Math.min(100, Math.round(100 * used / all)))));
  setText(text, `${format(Math.max(0, used))}${between}${format(all)}${after}`);
}

function showNote(note, host, status) {
  const said = [];
  if (host.degraded) said.push(`degraded: ${host.degraded}`);
  if (status === "offline" && (host.domains || []).length) said.push("The list of VMs is the last one that its daemon reported.");
  if (host.silent) said.push(`It does not answer queries: ${host.silent}`);
  note.hidden = !said.length;
  setText(note, visible(said.join(" ")));
}

const freeOf = (free, all, format) => (all === undefined ? "unknown" :
  `${free === undefined ? "unknown" : format(free)} of ${format(all)} free`);

function hardwareLines(hardware) {
  const lines = hardware.cpu_model ? [`CPU model: ${hardware.cpu_model}`] : [];
  for (const node of hardware.numa_nodes || []) {
    const memory = freeOf(node.free_memory, node.memory, (kib) => bytes(kib * 1024));
    lines.push(`NUMA node ${node.id}: ${plural(node.cpus, "CPU")}, ${memory}`);
  }
  for (const pages of hardware.huge_pages || []) {
    lines.push(`huge pages of ${bytes(pages.size * 1024)}: ${freeOf(pages.free, pages.total, String)}`);
  }
  for (const pool of hardware.storage_pools || []) {
    const state = pool.state && pool.state !== "running" ? `${pool.state}, ` : "";
    const size = freeOf(pool.free, pool.capacity, (mib) => bytes(mib * 1024 * 1024));
    lines.push(`storage pool ${pool.name}: ${state}${pool.details || size}`);
  }
  return lines;
}

function showHardware(name) {
  const parts = hostRows.get(name);
  const lines = hardwareLines(hosts.get(name).hardware || {}).map(visible);
  while (parts.hardware.children.length > lines.length) parts.hardware.lastChild.remove();
  while (parts.hardware.children.length < lines.length) parts.hardware.append(element("li"));
  lines.forEach((line, index) => setText(parts.hardware.children[index], line));
  parts.hardware.hidden = !lines.length;
}

function showDomains(name) {
  const parts = hostRows.get(name);
  const known = new Map();
  for (const item of parts.list.children) known.set(item.dataset.vm, item);
  const items = [];
  for (const domain of hosts.get(name).domains || []) {
    let item = known.get(domain.name);
    if (item === undefined) {
      item = element("li", {}, vmButton(domain.name), element("span", {class: "state"}));
      item.dataset.vm = domain.name;
    }
    known.delete(domain.name);
    setAttribute(item, "data-state", domain.state);
    const size = domain.memory ? ` ${bytes(domain.memory * 1024)}` : "";
    setText(item.lastChild, `${domain.state === "running" ? "" : ` ${visible(domain.state)}`}${size}`);
    items.push(item);
  }
  for (const item of known.values()) item.remove();
  items.forEach((item, index) => {
    if (parts.list.children[index] !== item) parts.list.insertBefore(item, parts.list.children[index] || null);
  });
}

function setOpen(name, shown) {
  const parts = hostRows.get(name);
  if (shown) { open.add(name); showHardware(name); showDomains(name); }
  else { open.delete(name); parts.hardware.hidden = true; parts.list.replaceChildren(); }
  parts.list.hidden = !shown;
  parts.toggle.setAttribute("aria-expanded", String(shown));
}

// A few hosts in each frame, so the page reacts meanwhile.
function setAllOpen(names, shown) {
  for (const name of names.splice(0, HOSTS_PER_FRAME)) {
    if (hosts.has(name) && open.has(name) !== shown) setOpen(name, shown);
  }
  if (names.length) setTimeout(setAllOpen, 0, names, shown);
}

// Hosts are in the order of their names.
function placeHost(name, root) {
  const all = byId("hosts").children;
  let low = 0;
  let high = all.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (collator.compare(all[middle].dataset.name, name) < 0) low = middle + 1; else high = middle;
  }
  root.dataset.name = name;
  byId("hosts").insertBefore(root, all[low] || null);
}

function filterHosts() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const trouble = byId("only-trouble").checked;
  let shown = 0;
  for (const [name, host] of hosts) {
    const own = name.toLowerCase().includes(wanted);
    const byVm = wanted && !own && (host.domains || []).some((vm) => vm.name.toLowerCase().includes(wanted));
    const fits = (own || byVm) && !(trouble && (host.status === "online" || !host.status));
    const parts = hostRows.get(name);
    parts.root.hidden = !fits;
    if (fits && byVm && !open.has(name)) setOpen(name, true);
    for (const item of parts.list.children) {
      item.classList.toggle("found", Boolean(wanted) && item.dataset.vm.toLowerCase().includes(wanted));
    }
    shown += fits;
  }
  const more = hostsLeftOut ? `, ${hostsLeftOut} more are not shown` : "";
  setText(byId("hosts-count"), hosts.size ? `${shown} of ${hosts.size}${more}` : "");
  byId("hosts-empty").hidden = hosts.size > 0;
}

// --- running and queued work

const isQueued = (item) => QUEUED.has(item.state);

function makeWork(item) {
  const vm = element("th", {scope: "row"});
  if (item.domain) vm.append(vmButton(item.domain));
  else setText(vm, item.domains > 1 ? plural(item.domains, "VM") : "–");
  const parts = {
    task: element("td"), host: element("td"), state: element("td"),
    bar: element("progress", {max: "100"}), percent: element("span", {class: "figure"}),
    sent: element("td", {class: "num"}), rate: element("td", {class: "num"}),
    left: element("td", {class: "num"}), since: element("td", {class: "num"}),
  };
  parts.bar.setAttribute("aria-label", `progress of ${visible(item.domain || item.task || "task")}`);
  parts.root = element("tr", {}, vm, parts.task, parts.host, parts.state,
    element("td", {class: "wide"}, parts.bar, parts.percent), parts.sent, parts.rate, parts.left, parts.since);
  return parts;
}

function showWork() {
  const sorted = [...work].sort((a, b) => isQueued(a) - isQueued(b) || (a.position || 0) - (b.position || 0));
  const shown = sorted.slice(0, MAX_WORK_ROWS);
  const keys = new Set();
  const body = byId("work");
  shown.forEach((item, index) => {
    const key = JSON.stringify([item.host, item.id, item.domain, item.id ? 0 : index]);
    keys.add(key);
    let parts = workRows.get(key);
    if (parts === undefined) { parts = makeWork(item); workRows.set(key, parts); }
    if (body.children[index] !== parts.root) body.insertBefore(parts.root, body.children[index] || null);
    parts.root.classList.toggle("queued", isQueued(item));
    setText(parts.task, visible(item.task));
    setText(parts.host, visible(item.destination ? `${item.host} → ${item.destination}` : item.host));
    setText(parts.state, visible(item.position ? `${item.state}, place ${item.position}` : item.state));
    const known = item.percent !== undefined && item.percent !== null;
    parts.bar.hidden = !known;
    if (known) parts.bar.value = item.percent;
    setText(parts.percent, known ? `${Math.round(item.percent)} %` : "");
    const of = item.total ? ` of ${bytes(item.total)}` : "";
    setText(parts.sent, item.transferred ? `${bytes(item.transferred)}${of}` : "");
    setText(parts.rate, item.dirty_rate ? `${bytes(item.dirty_rate)}/s` : "");
    setText(parts.left, item.expected ? duration(item.expected) : "");
    parts.started = item.since;
  });
  for (const [key, parts] of workRows) {
    if (!keys.has(key)) { parts.root.remove(); workRows.delete(key); }
  }
  const more = work.length > shown.length ? `, ${shown.length} shown` : "";
  setText(byId("work-count"), work.length ? `${work.length}${more}` : "");
  byId("work-empty").hidden = work.length > 0;
  body.parentElement.hidden = !work.length;
  tick();
}

// --- results

function showResults() {
  const errors = byId("only-errors").checked;
  const shown = results.filter((item) => item.failed || !errors).slice(0, MAX_RESULT_ROWS);
  const body = byId("results");
  const known = new Map([...body.children].map((row) => [row.dataset.number, row]));
  shown.forEach((item, index) => {
    const number = String(item.number);
    let row = known.get(number);
    known.delete(number);
    if (row === undefined) { row = resultRow(item); row.dataset.number = number; }
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] || null);
  });
  for (const row of known.values()) row.remove();
  byId("results-empty").hidden = shown.length > 0;
  setText(byId("results-empty"), errors && results.length ? "No errors." : "No results yet.");
  body.parentElement.hidden = !shown.length;
}

function resultRow(item) {
  const vm = element("td");
  if (item.domain) vm.append(vmButton(item.domain));
  const word = item.failed ? "error" : "success";
  const again = item.again ? " (answered again)" : "";
  const time = element("time", {datetime: new Date(item.time * 1000).toISOString(), text: clock(item.time)});
  return element("tr", {class: word}, element("td", {}, time),
    element("td", {}, element("span", {class: "mark", text: word}), ` ${visible(item.title)}${again}`),
    vm, element("td", {text: visible(item.host)}),
    element("td", {class: "wide details", text: visible(item.details || "")}));
}

// --- numbers, times, connection

function showNumbers() {
  const count = {online: 0, offline: 0, degraded: 0};
  let vms = 0;
  for (const host of hosts.values()) {
    count[host.status] = (count[host.status] || 0) + 1;
    vms += (host.domains || []).length + (host.domains_left_out || 0);
  }
  const queued = work.filter(isQueued).length;
  const numbers = {online: count.online, offline: count.offline, degraded: count.degraded, vms,
    running: work.length - queued, queued, errors: results.filter((item) => item.failed).length};
  for (const [name, number] of Object.entries(numbers)) {
    const target = byId(`n-${name}`);
    setText(target, number.toLocaleString("en"));
    target.parentElement.classList.toggle("zero", number === 0);
  }
}

function tick() {
  for (const parts of workRows.values()) {
    setText(parts.since, parts.started ? duration(now() - parts.started) : "");
  }
  showConnection();
}

function showConnection() {
  const silent = lastMessage && Date.now() - lastMessage > SILENCE_MILLISECONDS;
  const connected = source !== null && source.readyState === EventSource.OPEN && !silent;
  let problem = "";
  if (!connected && lastMessage) {
    problem = `No connection to the dashboard. The page shows the state of ${clock(lastMessage / 1000)}. Trying again.`;
  } else if (connected && !broker.connected) {
    problem = `The dashboard has had no connection to the broker since ${clock(broker.since)}. The page shows the state at that time.`;
  }
  byId("banner").hidden = !problem;
  setText(byId("banner"), problem);
  setText(byId("connection"), problem ? "not live" : (lastMessage ? "live" : "connecting"));
  document.body.classList.toggle("stale", Boolean(problem));
}

// --- the history of a VM

async function showHistory(name) {
  const dialog = byId("history");
  const body = byId("history-body");
  setText(byId("history-title"), `History of ${visible(name)}`);
  body.replaceChildren(element("p", {text: "Asking the daemons …"}));
  if (!dialog.open) dialog.showModal();
  try {
    const answer = await fetch(`/api/history?vm=${encodeURIComponent(name)}`);
    const found = await answer.json();
    if (location.hash !== hashOf(name)) return;
    if (!answer.ok) throw new Error(found.error);
    body.replaceChildren(...historyParts(found));
  } catch (error) {
    body.replaceChildren(element("p", {class: "problem", text: `The history cannot be shown: ${visible(error.message)}`}));
  }
}

function historyParts(found) {
  const parts = [];
  if (!found.orders.length) parts.push(element("p", {text: `No order of this VM is in the journals of ${plural(found.asked, "daemon")}.`}));
  parts.push(element("ol", {class: "orders"}, ...found.orders.map(orderPart)));
  if (found.more) parts.push(element("p", {class: "hint", text: "There are older orders: fastlib log shows more."}));
  if (found.missing.length) {
    parts.push(element("details", {},
      element("summary", {text: `${plural(found.missing.length, "host")} sent no report`}),
      element("ul", {}, ...found.missing.map((item) => element("li", {text: visible(`${item.host}: ${item.reason}`)})))));
  }
  return parts;
}

function orderPart(order) {
  const word = order.status || order.state;
  const sentence = order.sentence.map((part) => (typeof part === "number" ? clock(part) : visible(part))).join("");
  const head = element("p", {class: "head"},
    element("span", {class: `mark ${word === "success" || word === "error" ? word : ""}`, text: visible(word)}),
    ` ${sentence}`);
  const events = element("table", {class: "events"},
    element("tbody", {}, ...order.events.map((event) => element("tr", {},
      element("td", {}, element("time", {datetime: new Date(event.time * 1000).toISOString(), text: clock(event.time)})),
      element("td", {text: visible(event.event)}),
      element("td", {text: visible(event.details || "")})))));
  const details = order.details.map((text) => element("p", {class: word === "success" ? "hint" : "problem", text: visible(text)}));
  const id = order.id ? [element("p", {class: "hint", text: `id ${visible(order.id)}`})] : [];
  return element("li", {}, head, ...details, events, ...id);
}

const hashOf = (name) => `#vm=${encodeURIComponent(name)}`;

function followHash() {
  const found = /^#vm=(.+)$/.exec(location.hash);
  if (found === null) { if (byId("history").open) byId("history").close(); return; }
  let name;
  try { name = decodeURIComponent(found[1]); } catch { return; }
  if (queries) showHistory(name);
}

// --- messages

function apply(message) {
  if (message.title !== undefined) {
    setText(byId("title"), visible(message.title));
    queries = message.queries;
  }
  if (message.full) {
    const told = new Set((message.hosts || []).map((host) => host.name));
    for (const name of [...hosts.keys()]) {
      if (told.has(name)) continue;
      hosts.delete(name);
      open.delete(name);
      hostRows.get(name).root.remove();
      hostRows.delete(name);
    }
  }
  if (message.hosts !== undefined) {
    hostsLeftOut = message.hostsLeftOut;
    for (const host of message.hosts) { hosts.set(host.name, host); showHost(host); }
    filterHosts();
  }
  if (message.work !== undefined) { work = message.work; showWork(); }
  if (message.results !== undefined) { results = message.results; showResults(); }
  if (message.broker !== undefined) broker = message.broker;
  showNumbers();
}

function connect() {
  source = new EventSource("/api/events");
  source.onmessage = (event) => {
    const message = JSON.parse(event.data);
    lastMessage = Date.now();
    clockOffset = message.now - lastMessage / 1000;
    apply(message);
    showConnection();
  };
  source.onerror = async () => {
    showConnection();
    if (source.readyState !== EventSource.CLOSED) return;  // the browser tries again
    try {
      if ((await fetch("/api/state")).status === 401) { location.assign("/login"); return; }
    } catch { /* the server is away, which the banner says */ }
    setTimeout(connect, RETRY_MILLISECONDS);
  };
}

document.addEventListener("click", (event) => {
  const vm = event.target.closest("button.vm");
  if (vm !== null) { location.hash = hashOf(vm.dataset.vm); return; }
  const toggle = event.target.closest("button.toggle");
  if (toggle !== null) setOpen(toggle.dataset.host, !open.has(toggle.dataset.host));
});
byId("filter").addEventListener("input", filterHosts);
byId("only-trouble").addEventListener("change", filterHosts);
byId("only-errors").addEventListener("change", showResults);
byId("toggle-all").addEventListener("click", () => {
  const shown = byId("toggle-all").getAttribute("aria-pressed") !== "true";
  byId("toggle-all").setAttribute("aria-pressed", String(shown));
  setText(byId("toggle-all"), shown ? "Hide all VMs" : "Show all VMs");
  setAllOpen([...hosts.keys()], shown);
});
byId("history").addEventListener("close", () => {
  if (location.hash) history.replaceState(null, "", location.pathname);
});
window.addEventListener("hashchange", followHash);
setInterval(tick, 1000);
connect();
followHash();
