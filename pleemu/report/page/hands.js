// Wheel, drag, touch, keys and pointer of the timeline.

function listen(view) {
  const { canvas, overview } = view;
  let drag = null;
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!(event.ctrlKey || event.metaKey || event.shiftKey || document.activeElement === canvas)) return;
      event.preventDefault();
      const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || (event.shiftKey && !event.ctrlKey);
      if (sideways) view.pan((event.deltaX || event.deltaY) / 900);
      else view.zoom(Math.exp(Math.max(-120, Math.min(120, event.deltaY)) * 0.003), event.offsetX);
    },
    { passive: false },
  );
  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    drag = { x: event.offsetX, begin: view.begin, end: view.end, moved: false, select: event.shiftKey };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag) {
      const shift = event.offsetX - drag.x;
      if (Math.abs(shift) > 3) drag.moved = true;
      if (drag.moved && !drag.select) view.look(drag.begin - shift / view.scale, drag.end - shift / view.scale);
      view.hooks.pointed(null);
      return;
    }
    const hit = view.hit(event.offsetX, event.offsetY);
    canvas.style.cursor = hit?.exit ? "pointer" : "crosshair";
    view.hooks.pointed(hit && told(view.one, hit), event);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { moved, select, x } = drag;
    drag = null;
    if (moved && select) {
      const [from, to] = [x, event.offsetX].sort((a, b) => a - b).map((place) => view.time(place));
      view.look(from, to);
    } else if (!moved) {
      const hit = view.hit(event.offsetX, event.offsetY);
      if (hit?.exit) view.choose(hit.exit.number, false);
    }
  });
  canvas.addEventListener("pointercancel", () => (drag = null));
  canvas.addEventListener("pointerleave", () => view.hooks.pointed(null));
  canvas.addEventListener("dblclick", (event) => view.zoom(0.25, event.offsetX));
  const jump = (event) => {
    const place = ((event.offsetX - GUTTER) / (overview.clientWidth - GUTTER - 8)) * view.one.duration;
    const half = (view.end - view.begin) / 2;
    view.look(place - half, place + half);
  };
  overview.addEventListener("pointerdown", (event) => {
    overview.setPointerCapture(event.pointerId);
    jump(event);
  });
  overview.addEventListener("pointermove", (event) => event.buttons && jump(event));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const inside = document.activeElement === canvas;
    const action = KEYS[event.key] ?? (inside ? ARROWS[event.key] : undefined);
    if (!action) return;
    event.preventDefault();
    action(view);
  });
}

const KEYS = {
  w: (view) => view.zoom(0.6),
  "+": (view) => view.zoom(0.6),
  s: (view) => view.zoom(1 / 0.6),
  "-": (view) => view.zoom(1 / 0.6),
  a: (view) => view.pan(-0.2),
  d: (view) => view.pan(0.2),
  n: (view) => view.next(1),
  p: (view) => view.next(-1),
  l: (view) => longest(view),
  0: (view) => view.look(view.one.begin, view.one.end),
};
const ARROWS = {
  ArrowLeft: KEYS.a,
  ArrowRight: KEYS.d,
  ArrowUp: KEYS.w,
  ArrowDown: KEYS.s,
  Home: (view) => view.pan(-1e9),
  End: (view) => view.pan(1e9),
};

// The longest run of PAUSE exits: its first few, close enough to see each.
function longest(view) {
  const run = view.one.longest;
  if (!run || !view.one.place.has(run.first)) return;
  const shown = Math.max(LEAST_SPAN, Math.min(run.lasts, (run.lasts / Math.max(1, run.length - 1)) * 16));
  view.look(run.begin - shown * 0.15, run.begin + shown * 1.1);
  view.choose(run.first, false);
}

// What the pointer is on, in words.
function told(one, { row, t, exit }) {
  if (exit) {
    const exits = one.exits[exit.vcpu];
    const verdict = exits.verdict[exit.k];
    const lines = [
      `PAUSE exit ${count(exit.number)} of ${one.threads[exit.vcpu]} on pCPU ${exit.cpu}, at ${at(exit.t)}`,
      one.words[exits.symbol[exit.k]],
      `window ${count(exits.window[exit.k])} ${one.windowUnit}` + (verdict < 0 ? "" : `; ${VERDICTS[verdict]}: ${MEANINGS[VERDICTS[verdict]]}`),
      "click for its decision record",
    ];
    return lines.join("\n");
  }
  if (row.kind === "cpu") {
    const lane = one.cpus[row.cpu];
    const k = above(lane.t, t) - 1;
    if (k < 0) return null;
    const end = k + 1 < lane.t.length ? lane.t[k + 1] : one.end;
    const who = lane.thread[k] < 0 ? "idle" : one.threads[lane.thread[k]];
    return `${who} on pCPU ${row.cpu} for ${time(end - lane.t[k])}\n${at(lane.t[k])} to ${at(end)}` + inHostAt(one, lane.thread[k], t);
  }
  if (row.kind === "vcpu") {
    const on = one.on[row.vcpu];
    const k = above(on.t, t) - 1;
    const runs = k >= 0 && on.end[k] > t;
    const where = runs ? `on pCPU ${on.cpu[k]} for ${time(on.end[k] - on.t[k])}` : "off its pCPU";
    const all = one.spans[row.vcpu];
    const spans = [];
    for (let i = 0; i < all.t.length && all.t[i] <= t; i++) {
      if (all.t[i] + all.lasts[i] >= t) spans.push(`${one.words[all.what[i]]}, for ${time(all.lasts[i])}`);
    }
    return [`${one.threads[row.vcpu]}: ${where}, at ${at(t)}` + (runs ? inHostAt(one, row.vcpu, t) : ""), ...spans.slice(0, 8)].join("\n");
  }
  if (row.kind === "window") {
    const lines = one.windows.flatMap((windows, vcpu) => {
      if (windows.first === null) return [];
      const k = above(windows.t, t) - 1;
      return [`${one.threads[vcpu]}: ${count(k >= 0 ? windows.new[k] : windows.first)}`];
    });
    return [`window in ${one.windowUnit}, at ${at(t)}`, ...lines.slice(0, 16)].join("\n");
  }
  return null;
}

function inHostAt(one, vcpu, t) {
  const exits = one.exits[vcpu];
  const k = exits ? above(exits.t, t) - 1 : -1;
  if (k < 0) return "";
  const inside = exits.host[k] < 0 || exits.t[k] + exits.host[k] > t;
  return inside ? `\nin the host: ${one.words[exits.reason[k]]}, for ${time(exits.host[k])}` : "\nin the guest";
}
