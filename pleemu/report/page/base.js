// What all parts of the page share: elements, numbers as an engineer reads them, the data.

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") Object.assign(element.style, value);
    else if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.map((one) => (one instanceof Node ? one : String(one))));
  return element;
}

const count = (value) => Math.round(value).toLocaleString("en-US");
const percent = (part, whole = 1) => (whole ? `${((100 * part) / whole).toFixed(1)}%` : "-");

function time(ns) {
  if (ns === null || ns === undefined || !isFinite(ns)) return "-";
  const size = Math.abs(ns);
  if (size < 1e3) return `${Math.round(ns)} ns`;
  if (size < 1e6) return `${(ns / 1e3).toFixed(1)} us`;
  return size < 1e10 ? `${(ns / 1e6).toFixed(size < 1e8 ? 2 : 1)} ms` : `${(ns / 1e9).toFixed(1)} s`;
}

const at = (ns) => `${(ns / 1e6).toFixed(3)} ms`;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const VERDICTS = ["useful", "wasted", "irrelevant", "nobody", "unknown", "pending", "untold"]; // the parts of places.py
const ALWAYS = 5; // of these are in the legend, whatever there is
const MEANINGS = {
  useful: "the spinner waits for it, it can act, and lacks only a pCPU",
  wasted: "the spinner waits for it, and it waits itself",
  irrelevant: "the spinner does not wait for it",
  nobody: "nobody was nominated",
  unknown: "no probe says what the spinner waits for",
  pending: "the run ended before KVM had decided",
  untold: "the verdict on each of so many exits is not kept",
};

// The first place in an ordered array whose value is above `value`.
function above(ordered, value) {
  let low = 0;
  let high = ordered.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ordered[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

function sums(steps) {
  const times = new Float64Array(steps.length);
  let now = 0;
  for (let k = 0; k < steps.length; k++) times[k] = now += steps[k];
  return times;
}

async function unpacked() {
  const packed = Uint8Array.from(atob($("data").textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = JSON.parse(await new Response(stream).text());
  data.cases.forEach(prepare);
  return data;
}

// Times are stored as differences; and what the drawing asks for again and again is worked out once.
function prepare(one) {
  for (const part of [one.cpus, one.exits, one.spans, one.windows]) part.forEach((row) => (row.t = sums(row.t)));
  one.on = one.exits.map(() => ({ t: [], end: [], cpu: [] }));
  one.cpus.forEach((row, cpu) => {
    row.thread.forEach((thread, k) => {
      if (thread < 0 || thread >= one.on.length) return;
      one.on[thread].t.push(row.t[k]);
      one.on[thread].end.push(k + 1 < row.t.length ? row.t[k + 1] : one.end);
      one.on[thread].cpu.push(cpu);
    });
  });
  one.on.forEach((row) => {
    const order = row.t.map((_, k) => k).sort((a, b) => row.t[a] - row.t[b]);
    for (const name of ["t", "end", "cpu"]) row[name] = order.map((k) => row[name][k]);
  });
  one.host = one.exits.map((row, vcpu) => inHost(row, one.on[vcpu], one.end));
  one.hostOn = one.cpus.map((_, cpu) => onCpu(one.host, cpu));
  one.pauses = one.cpus.map(() => []);
  one.place = new Map();
  one.exits.forEach((row, vcpu) => {
    row.number.forEach((number, k) => {
      if (number < 1) return;
      const exit = { number, vcpu, k, t: row.t[k], cpu: row.cpu[k] };
      one.pauses[row.cpu[k]].push(exit);
      one.place.set(number, exit);
    });
  });
  one.pauses.forEach((row) => row.sort((a, b) => a.t - b.t));
  one.numbers = [...one.place.keys()].sort((a, b) => a - b);
}

// When a vCPU's thread was on a pCPU and in the host: between kvm_exit and kvm_entry.
function inHost(exits, on, end) {
  const host = { t: [], end: [], cpu: [] };
  let place = 0;
  for (let k = 0; k < exits.t.length; k++) {
    const until = exits.host[k] < 0 ? end : exits.t[k] + exits.host[k];
    while (place < on.t.length && on.end[place] <= exits.t[k]) place++;
    for (let p = place; p < on.t.length && on.t[p] < until; p++) {
      host.t.push(Math.max(on.t[p], exits.t[k]));
      host.end.push(Math.min(on.end[p], until));
      host.cpu.push(on.cpu[p]);
    }
  }
  return host;
}

function onCpu(hosts, cpu) {
  const found = hosts.flatMap((host) => host.t.flatMap((t, k) => (host.cpu[k] === cpu ? [[t, host.end[k]]] : [])));
  found.sort((a, b) => a[0] - b[0]);
  return { t: found.map(([t]) => t), end: found.map(([, end]) => end) };
}
