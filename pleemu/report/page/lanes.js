// The lanes of the timeline. What is narrower than a pixel is added up, so nothing vanishes from far away.

// Call `draw(x, width, shares)` for each stretch of a lane: `shares` maps what it shows to how much of it.
function stretches(view, times, ends, what, draw) {
  const first = Math.max(0, above(times, view.begin) - 1);
  let pixel = -1;
  let shares = new Map();
  const flush = () => {
    if (shares.size) draw(pixel, 1, shares);
    shares = new Map();
  };
  for (let k = first; k < times.length && times[k] < view.end; k++) {
    const from = Math.max(view.x(times[k]), GUTTER - 1);
    const to = Math.min(view.x(ends(k)), view.width);
    if (to < GUTTER - 1) continue;
    if (to - from >= 1.2) {
      flush();
      pixel = -1;
      draw(from, to - from, new Map([[what(k), 1]]));
      continue;
    }
    for (let p = Math.floor(from); p <= Math.floor(to); p++) {
      const share = Math.min(to, p + 1) - Math.max(from, p);
      if (share <= 0) continue;
      if (p !== pixel) flush();
      pixel = p;
      shares.set(what(k), (shares.get(what(k)) ?? 0) + share);
    }
  }
  flush();
}

function drawCpu(view, row) {
  const { pen, one, ink } = view;
  const lane = one.cpus[row.cpu];
  const [top, height] = [row.y + row.height * 0.3, row.height * 0.6];
  pen.fillStyle = ink.lane;
  pen.fillRect(GUTTER, top, view.width, height);
  const ends = (k) => (k + 1 < lane.t.length ? lane.t[k + 1] : one.end);
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  stretches(view, lane.t, ends, (k) => lane.thread[k], (x, width, shares) => {
    const whole = Math.max(1, [...shares.values()].reduce((a, b) => a + b, 0));
    let y = top;
    for (const thread of [...shares.keys()].sort((a, b) => a - b)) {
      const part = (shares.get(thread) / whole) * height;
      if (thread >= 0) {
        pen.fillStyle = one.colours[thread];
        pen.fillRect(x, y, Math.max(width - (width > 3 ? 0.5 : 0), 0.5), part);
      }
      y += part;
    }
    const [thread] = shares.keys();
    const seen = x + width - Math.max(x, GUTTER);
    if (seen > 20 && height > 11 && thread >= 0 && pen.measureText(one.threads[thread]).width < seen - 8) {
      pen.fillStyle = "#fff";
      pen.fillText(one.threads[thread], Math.max(x, GUTTER) + 4, top + height / 2 + 0.5);
    }
  });
  drawHost(view, one.hostOn[row.cpu], top, height);
  drawPauses(view, one.pauses[row.cpu], row.y + 1, row.height * 0.25);
}

// Between kvm_exit and kvm_entry a lane is pale.
function drawHost(view, host, top, height) {
  if (1 / view.scale > 2000) return; // too narrow to be seen
  const { pen, ink } = view;
  pen.fillStyle = ink.card;
  pen.globalAlpha = 0.55;
  for (let k = Math.max(0, above(host.t, view.begin) - 1); k < host.t.length && host.t[k] < view.end; k++) {
    const x = view.x(host.t[k]);
    const width = view.x(host.end[k]) - x;
    if (width >= 0.8) pen.fillRect(x, top, width, height);
  }
  pen.globalAlpha = 1;
}

// PAUSE exits: a mark each where there is room, else a column whose colour says how many.
function drawPauses(view, exits, y, tall) {
  const { pen, ink } = view;
  const times = (exits.times ??= Float64Array.from(exits, (exit) => exit.t));
  const first = above(times, view.begin - 8 / view.scale);
  const last = above(times, view.end);
  if (last - first < (view.width - GUTTER) / 12) {
    pen.fillStyle = ink.pause;
    for (let k = first; k < last; k++) {
      const x = view.x(times[k]);
      pen.beginPath();
      pen.moveTo(x - 3.5, y);
      pen.lineTo(x + 3.5, y);
      pen.lineTo(x, y + tall);
      pen.fill();
    }
    return;
  }
  let k = first;
  while (k < last) {
    const pixel = Math.floor(view.x(times[k]) / 2);
    let many = 0;
    while (k < last && Math.floor(view.x(times[k]) / 2) === pixel) [many, k] = [many + 1, k + 1];
    pen.fillStyle = many > 2 ? ink.pause : ink.pauseFew;
    const height = Math.min(tall, 2 + 1.6 * Math.log2(1 + many));
    pen.fillRect(pixel * 2, y + tall - height, 2, height);
  }
}

function drawVcpu(view, row) {
  const { pen, one, ink } = view;
  const on = one.on[row.vcpu];
  const [top, height] = [row.y + row.height * 0.14, row.height * 0.45];
  pen.fillStyle = ink.line;
  pen.fillRect(GUTTER, row.y + row.height - 1, view.width, 0.5);
  drawSpans(view, one.spans[row.vcpu], on, row);
  stretches(view, on.t, (k) => on.end[k], () => 1, (x, width, shares) => {
    pen.fillStyle = one.colours[row.vcpu];
    pen.globalAlpha = Math.max(0.25, Math.min(1, shares.get(1)));
    pen.fillRect(x, top, Math.max(width, 0.6), height);
  });
  pen.globalAlpha = 1;
  drawHost(view, one.host[row.vcpu], top, height);
  const exits = pausesOf(one, row.vcpu);
  const times = (exits.times ??= Float64Array.from(exits, (exit) => exit.t));
  const first = above(times, view.begin);
  const last = above(times, view.end);
  pen.fillStyle = ink.pause;
  if (last - first < (view.width - GUTTER) / 9) {
    for (let k = first; k < last; k++) pen.fillRect(view.x(times[k]) - 0.75, row.y + 1, 1.5, height + 3);
  }
}

// A strip below: waiting in amber, a critical section in green. Who has a lock and no pCPU is what all wait for: red.
function drawSpans(view, spans, on, row) {
  const { pen, ink } = view;
  const [strip, thick] = [row.y + row.height * 0.68, row.height * 0.18];
  for (const held of [0, 1]) {
    const mine = (spans[`of${held}`] ??= chosen(spans, (k) => spans.held[k] === held));
    stretches(view, mine.t, (k) => mine.end[k], () => 1, (x, width, shares) => {
      pen.globalAlpha = Math.max(0.3, Math.min(1, shares.get(1)));
      pen.fillStyle = held ? ink.held : ink.spinning;
      pen.fillRect(x, strip, Math.max(width, 0.8), thick);
    });
    pen.globalAlpha = 1;
    const off = (mine.off ??= without(mine, on));
    pen.fillStyle = held ? ink.off : ink.waiting;
    for (let k = Math.max(0, above(off.t, view.begin) - 1); k < off.t.length && off.t[k] < view.end; k++) {
      const x = view.x(off.t[k]);
      const width = view.x(off.end[k]) - x;
      if (width >= 0.5) pen.fillRect(x, row.y + 1, width, row.height * 0.62);
    }
  }
}

function chosen(spans, wanted) {
  const found = { t: [], end: [] };
  spans.t.forEach((t, k) => {
    if (!wanted(k)) return;
    found.t.push(t);
    found.end.push(t + spans.lasts[k]);
  });
  return found;
}

// The parts of some spans in which a thread was on no pCPU.
function without(spans, on) {
  const off = { t: [], end: [] };
  let place = 0;
  for (let k = 0; k < spans.t.length; k++) {
    let from = spans.t[k];
    while (place > 0 && on.t[place - 1] > from) place--;
    while (place < on.t.length && on.end[place] <= from) place++;
    for (let p = place; p < on.t.length && on.t[p] < spans.end[k]; p++) {
      if (on.t[p] > from) [off.t, off.end].forEach((list, side) => list.push(side ? on.t[p] : from));
      from = Math.max(from, on.end[p]);
    }
    if (from < spans.end[k]) [off.t, off.end].forEach((list, side) => list.push(side ? spans.end[k] : from));
  }
  return off;
}

function drawWindows(view, row) {
  const { pen, one, ink } = view;
  const [least, most] = (one.windowRange ??= windowRange(one));
  const y = (value) => row.y + row.height - 8 - ((Math.log2(Math.max(1, value)) - least) / (most - least)) * (row.height - 16);
  pen.font = "10px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const step = Math.max(1, Math.ceil((most - least) / 4));
  for (let power = least; power <= most; power += step) {
    pen.fillStyle = ink.line;
    pen.fillRect(GUTTER, y(2 ** power), view.width, 1);
  }
  pen.lineWidth = 1.3;
  one.windows.forEach((windows, vcpu) => {
    if (windows.first === null) return;
    const first = above(windows.t, view.begin);
    let value = first ? windows.new[first - 1] : windows.first;
    pen.strokeStyle = one.colours[vcpu];
    pen.beginPath();
    pen.moveTo(GUTTER, y(value));
    let drawn = -1;
    for (let k = first; k < windows.t.length && windows.t[k] < view.end; k++) {
      const x = view.x(windows.t[k]);
      if (x - drawn > 0.4 || windows.new[k] > value) {
        pen.lineTo(x, y(value));
        pen.lineTo(x, y(windows.new[k]));
        drawn = x;
      }
      value = windows.new[k];
    }
    pen.lineTo(view.width, y(value));
    pen.stroke();
  });
  pen.textAlign = "left";
  for (let power = least; power <= most; power += step) {
    const shown = count(2 ** power);
    pen.fillStyle = ink.card;
    pen.globalAlpha = 0.75;
    pen.fillRect(GUTTER + 2, y(2 ** power) - 6, pen.measureText(shown).width + 4, 12);
    pen.globalAlpha = 1;
    pen.fillStyle = ink.soft;
    pen.fillText(shown, GUTTER + 4, y(2 ** power));
  }
}

function windowRange(one) {
  let [least, most] = [Infinity, 0];
  for (const row of one.windows) {
    for (const value of row.first === null ? [] : [row.first, ...row.new]) {
      least = Math.min(least, Math.log2(Math.max(1, value)));
      most = Math.max(most, Math.log2(Math.max(1, value)));
    }
  }
  return [Math.floor(least), Math.max(Math.ceil(most), Math.floor(least) + 1)];
}

// All of the run, with a frame around what the timeline shows.
function drawOverview(view) {
  const { overview, one, ink } = view;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [overview.clientWidth, 44];
  overview.width = Math.round(width * ratio);
  overview.height = Math.round(height * ratio);
  const pen = overview.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const x = (t) => GUTTER + (t / one.duration) * (width - GUTTER - 8);
  pen.fillStyle = ink.lane;
  pen.fillRect(GUTTER, 2, width - GUTTER - 8, height - 4);
  if (!one.whole) {
    pen.fillStyle = ink.waiting;
    pen.fillRect(x(one.begin), 2, Math.max(2, x(one.end) - x(one.begin)), height - 4);
  }
  const most = Math.max(1, ...one.overview.exits);
  one.overview.exits.forEach((exits, column) => {
    if (!exits) return;
    const tall = Math.max(2, (exits / most) * (height - 8));
    pen.fillStyle = exits > most / 20 ? ink.pause : ink.pauseFew;
    const from = x(column * one.overview.column);
    pen.fillRect(from, height - 3 - tall, Math.max(1, x((column + 1) * one.overview.column) - from - 0.5), tall);
  });
  pen.strokeStyle = ink.accent;
  pen.lineWidth = 2;
  pen.strokeRect(x(view.begin), 2, Math.max(3, x(view.end) - x(view.begin)), height - 4);
  pen.fillStyle = ink.soft;
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.fillText("whole run", 4, height / 2 - 7);
  pen.fillText("PAUSE exits", 4, height / 2 + 7);
}
