// The timeline: who ran where, what the guests were doing, and where the PAUSE exits were.

const GUTTER = 92;
const AXIS = 26;
const LEAST_SPAN = 400; // ns
const TALLEST = 32_000; // pixels of a canvas that browsers draw

class Timeline {
  constructor(canvas, overview, hooks) {
    this.canvas = canvas;
    this.overview = overview;
    this.hooks = hooks; // moved(begin, end), pointed(lines, event), chosen(number)
    this.selected = 0;
    this.hovered = null;
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    listen(this);
  }

  show(one) {
    this.one = one;
    this.rows = rowsOf(one);
    this.height = this.rows.at(-1).y + this.rows.at(-1).height + 6;
    this.canvas.style.height = `${this.height}px`;
    this.selected = 0;
    this.look(one.begin, one.end);
  }

  // Show from `begin` to `end`, as far as there is something to show.
  look(begin, end) {
    const { one } = this;
    const span = Math.min(Math.max(end - begin, LEAST_SPAN), one.end - one.begin);
    this.begin = Math.min(Math.max(begin, one.begin), one.end - span);
    this.end = this.begin + span;
    this.hooks.moved(this.begin, this.end);
    this.draw();
  }

  zoom(factor, x = null) {
    const place = x === null ? (this.begin + this.end) / 2 : this.time(x);
    this.look(place - (place - this.begin) * factor, place + (this.end - place) * factor);
  }

  pan(share) {
    const shift = (this.end - this.begin) * share;
    this.look(this.begin + shift, this.end + shift);
  }

  choose(number, move = true) {
    const exit = this.one.place.get(number);
    if (!exit) return;
    this.selected = number;
    const span = this.end - this.begin;
    const margin = span * 0.08;
    if (move && (exit.t < this.begin + margin || exit.t > this.end - margin)) this.look(exit.t - span / 2, exit.t + span / 2);
    this.hooks.chosen(number);
    this.draw();
  }

  // The exit behind the selected one or before it; with none selected, that next to the middle of what is shown.
  next(step) {
    const { numbers } = this.one;
    if (!numbers.length) return;
    let place = numbers.indexOf(this.selected) + step;
    if (!this.selected) {
      const middle = (this.begin + this.end) / 2;
      const before = numbers.filter((number) => this.one.place.get(number).t < middle).length;
      place = step > 0 ? before : before - 1;
    }
    this.choose(numbers[Math.min(Math.max(place, 0), numbers.length - 1)]);
  }

  x(t) {
    return GUTTER + (t - this.begin) * this.scale;
  }

  time(x) {
    return this.begin + (x - GUTTER) / this.scale;
  }

  draw() {
    if (!this.one || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.drawNow();
    });
  }

  drawNow() {
    const { canvas } = this;
    const ratio = Math.min(window.devicePixelRatio || 1, TALLEST / this.height);
    this.width = canvas.clientWidth;
    if (this.width < GUTTER + 20) return;
    canvas.width = Math.round(this.width * ratio);
    canvas.height = Math.round(this.height * ratio);
    this.scale = (this.width - GUTTER - 8) / (this.end - this.begin);
    this.ink = inks();
    const pen = canvas.getContext("2d");
    this.pen = pen;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    this.axis();
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, 0, this.width - GUTTER - 8, this.height);
    pen.clip();
    for (const row of this.rows) {
      if (row.kind === "cpu") drawCpu(this, row);
      if (row.kind === "vcpu") drawVcpu(this, row);
      if (row.kind === "window") drawWindows(this, row);
    }
    this.selection();
    pen.restore();
    this.labels();
    drawOverview(this);
  }

  axis() {
    const { pen, ink } = this;
    const step = niceStep(((this.end - this.begin) * 110) / (this.width - GUTTER));
    const digits = Math.max(0, -Math.floor(Math.log10(step / 1e6) + 1e-9));
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.textAlign = "center";
    for (let k = Math.ceil(this.begin / step); k * step <= this.end; k++) {
      const x = this.x(k * step);
      pen.fillStyle = ink.line;
      pen.fillRect(Math.round(x), AXIS - 6, 1, this.height);
      pen.fillStyle = ink.soft;
      if (x > GUTTER + 26 && x < this.width - 40) pen.fillText(`${((k * step) / 1e6).toFixed(Math.min(digits, 6))} ms`, x, 10);
    }
  }

  labels() {
    const { pen, ink } = this;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    for (const row of this.rows) {
      const size = row.height < 14 ? 9 : row.kind === "title" ? 11 : 12;
      pen.font = `${row.kind === "title" ? "600 " : ""}${size}px system-ui, sans-serif`;
      pen.fillStyle = row.kind === "title" ? ink.soft : ink.ink;
      if (row.colour) {
        pen.fillStyle = row.colour;
        const side = Math.min(8, row.height - 2);
        pen.fillRect(4, row.y + (row.height - side) / 2, side, side);
        pen.fillStyle = ink.ink;
      }
      const room = row.kind === "title" ? this.width - 8 : GUTTER - (row.colour ? 22 : 8);
      pen.fillText(fitted(pen, row.label, room), row.colour ? 17 : 4, row.y + row.height / 2);
    }
  }

  // The chosen exit: a line through all lanes, and arrows to whom KVM nominated and to who ran at last.
  selection() {
    const exit = this.one.place.get(this.selected);
    if (!exit) return;
    const { pen, ink } = this;
    const x = this.x(exit.t);
    pen.fillStyle = ink.accent;
    pen.fillRect(Math.round(x) - 0.5, AXIS - 6, 1.5, this.height);
    const record = this.one.records[this.selected];
    const from = this.rows.find((row) => row.kind === "vcpu" && row.vcpu === exit.vcpu);
    const to = record && this.rows.find((row) => row.kind === "vcpu" && row.vcpu === record.target);
    if (!from || !to || from === to) return;
    arrow(pen, x, from.y + from.height / 2, x + 16, to.y + to.height / 2, ink.accent, []);
    if (record.ranAfter !== null) {
      arrow(pen, x + 16, to.y + to.height / 2, this.x(exit.t + record.ranAfter), to.y + to.height / 2, ink.useful, [4, 3]);
    }
  }

  // What lies under a point.
  hit(x, y) {
    const row = this.rows.find((one) => y >= one.y && y < one.y + one.height);
    if (!row || x < GUTTER) return null;
    const t = this.time(x);
    const near = 7 / this.scale;
    const { one } = this;
    let exits = [];
    if (row.kind === "cpu") exits = one.pauses[row.cpu];
    if (row.kind === "vcpu") exits = one.numbers.length ? pausesOf(one, row.vcpu) : [];
    const exit = nearest(exits, t, near);
    return { row, t, exit };
  }
}

function pausesOf(one, vcpu) {
  one.byVcpu ??= one.exits.map((row, v) =>
    row.number.flatMap((number, k) => (number > 0 ? [{ number, vcpu: v, k, t: row.t[k], cpu: row.cpu[k] }] : [])),
  );
  return one.byVcpu[vcpu];
}

function nearest(exits, t, near) {
  let low = 0;
  let high = exits.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (exits[middle].t < t) low = middle + 1;
    else high = middle;
  }
  const close = [exits[low - 1], exits[low]].filter((exit) => exit && Math.abs(exit.t - t) <= near);
  return close.sort((a, b) => Math.abs(a.t - t) - Math.abs(b.t - t))[0] ?? null;
}

function rowsOf(one) {
  const rows = [];
  let y = AXIS;
  const add = (row) => {
    rows.push({ y, ...row });
    y += row.height;
  };
  const [ofCpu, ofVcpu] = [one.cpus.length > 48 ? 12 : 30, one.exits.length > 96 ? 10 : 22]; // many must be low
  one.cpus.forEach((_, cpu) => add({ kind: "cpu", cpu, label: `pCPU ${cpu}`, height: ofCpu }));
  let vm = -1;
  one.exits.forEach((_, vcpu) => {
    if (one.vmOf[vcpu] !== vm) {
      vm = one.vmOf[vcpu];
      add({ kind: "title", label: one.vms[vm].name, height: 20 });
    }
    add({ kind: "vcpu", vcpu, label: one.threads[vcpu], colour: one.colours[vcpu], height: ofVcpu });
  });
  if (one.windows.some((row) => row.first !== null)) {
    add({ kind: "title", label: one.windowUnit === "PAUSEs" ? "filter count" : "ple_window", height: 20 });
    add({ kind: "window", label: "", height: 84 });
  }
  return rows;
}

function inks() {
  const names = "ink soft faint line lane card accent pause pause-few spinning held off waiting useful";
  return Object.fromEntries(names.split(" ").map((name) => [name.replace("-f", "F"), colour(name)]));
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999);
}

// As much of a name as there is room for; of a vCPU the number stays.
function fitted(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  const slash = text.lastIndexOf("/");
  const tail = slash < 0 ? "" : text.slice(slash);
  let head = text.slice(0, text.length - tail.length);
  while (head && pen.measureText(`${head}…${tail}`).width > width) head = head.slice(0, -1);
  return `${head}…${tail}`;
}

function arrow(pen, x0, y0, x1, y1, ink, dashes) {
  pen.strokeStyle = pen.fillStyle = ink;
  pen.lineWidth = 1.8;
  pen.setLineDash(dashes);
  pen.beginPath();
  pen.moveTo(x0, y0);
  if (y0 === y1) pen.lineTo(x1, y1);
  else pen.bezierCurveTo(x0 + 26, y0, x1 + 26, y1, x1, y1);
  pen.stroke();
  pen.setLineDash([]);
  const back = y0 === y1 && x1 > x0 ? -7 : 7;
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x1 + back, y1 - 4);
  pen.lineTo(x1 + back, y1 + 4);
  pen.fill();
}
