// Figures, bars and the decision record.

function figures(one) {
  const f = one.figures;
  const cells = [
    [count(f.exits), "PAUSE exits"],
    [count(f.longest), "longest run at one address"],
    [percent(f.continuous, f.exits), "of them in runs"],
    [f.attempts ? `${count(f.honoured)}` : "-", f.attempts ? `of ${count(f.attempts)} directed yields honoured` : "directed yields"],
    [f.ran ? time(f.ranAfter / f.ran) : "-", "until the nominated vCPU ran"],
    [f.precision === null ? "-" : percent(f.precision), "of nominations useful"],
    [f.recall === null ? "-" : percent(f.recall), "of useful chances taken"],
    [count(f.operations), "operations"],
  ];
  $("figures").replaceChildren(...cells.map(([value, label]) => make("div", { class: "figure" }, make("b", {}, value), make("span", {}, label))));
}

const bar = (parts, whole) =>
  make("div", { class: "bar" }, ...parts.filter(([value]) => value > 0).map(([value, ink, title]) =>
    make("i", { title, style: { width: `${(100 * value) / (whole || 1)}%`, background: ink } })));

function rows(target, entries, whole) {
  const cells = entries.flatMap(({ label, parts, value, mark }) => {
    const drawn = bar(parts, whole);
    if (mark !== undefined) drawn.append(make("u", { title: "an equal share", style: { left: `${100 * mark}%` } }));
    return [make("div", { class: "label", title: label }, label), drawn, make("div", { class: "value" }, value)];
  });
  $(target).replaceChildren(...(cells.length ? cells : [make("div", { class: "label" }, "none")]));
}

const verdictParts = (counts) => counts.map((value, k) => [value, `var(--${VERDICTS[k]})`, `${VERDICTS[k]}: ${count(value)}`]);
const total = (counts) => counts.reduce((a, b) => a + b, 0);

function charts(one) {
  for (const [chart, said] of Object.entries(one.captions)) $(`${chart}-said`).textContent = said;
  const { symbols } = one;
  rows("symbols", symbols.map(([label, counts]) => ({ label, parts: verdictParts(counts), value: count(total(counts)) })),
    Math.max(1, ...symbols.map(([, counts]) => total(counts))));
  rows("verdicts", one.verdicts.map(([label, counts]) => ({ label, parts: verdictParts(counts), value: count(total(counts)) })),
    Math.max(1, ...one.verdicts.map(([, counts]) => total(counts))));
  const occurs = (k) => [...symbols, ...one.verdicts].some(([, counts]) => counts[k] > 0);
  $("verdict-legend").replaceChildren(...VERDICTS.filter((_, k) => k < ALWAYS || occurs(k)).map((verdict) =>
    make("span", { title: MEANINGS[verdict] }, make("i", { class: "swatch", style: { background: `var(--${verdict})` } }), verdict)));
  rows("shares", one.vms.map((vm) => ({
    label: vm.name,
    parts: [[vm.guest, vm.colour, `in the guest: ${percent(vm.guest)}`], [vm.cpu - vm.guest, "var(--nobody)", `in the host: ${percent(vm.cpu - vm.guest)}`]],
    value: `${percent(vm.cpu)}, ${count(vm.operations)} operations`,
    mark: 1 / one.vms.length,
  })), 1);
  $("fairness").textContent = `Jain's index ${one.fairness.toFixed(3)}; pCPUs idle ${percent(one.idle)}.`;
  columns("lengths", one.lengths.map(([length, runs, exits]) => ({
    label: length < 2 ? "1" : `${short(length)}–${short(2 * length - 1)}`,
    value: exits ?? runs,
    title: `${count(runs)} runs of ${length < 2 ? "1" : `${count(length)} to ${count(2 * length - 1)}`} exits` + (exits === null ? "" : `: ${count(exits)} exits`),
  })));
  columns("windows", one.windowsAt.map(([window, exits]) => ({ label: short(window), value: exits, title: `${count(exits)} exits with a window of ${count(window)} to ${count(2 * window - 1)}` })));
}

const short = (value) => (value >= 1 << 20 ? `${value >> 20}Mi` : value >= 1 << 12 ? `${value >> 10}Ki` : String(value));

function columns(target, entries) {
  if (!entries.length) return $(target).replaceChildren(make("div", { class: "label" }, "none"));
  const most = Math.max(1, ...entries.map((one) => one.value));
  const tall = (value) => `${Math.max(1, (90 * value) / most)}%`;
  return $(target).replaceChildren(
    make("div", { class: "columns" }, ...entries.map(({ value, title }) =>
      make("div", { title }, make("em", {}, value ? count(value) : ""), make("i", { style: { height: tall(value) } })))),
    make("div", { class: "under" }, ...entries.map(({ label }) => make("span", {}, label))),
  );
}

const dot = (one, thread) => make("i", { class: "dot", style: { background: one.colours[thread] ?? "var(--nobody)" } });

const ANSWERS = { 1: "asked for: accepted", 0: "asked for: it sleeps or runs already", "-3": "asked for: -ESRCH, nobody else to run" };

function record(one, number) {
  const exit = one.place.get(number);
  const found = one.records[number];
  const exits = one.exits[exit.vcpu];
  const verdict = VERDICTS[exits.verdict[exit.k]];
  const head = make("div", { class: "head" }, make("b", {}, `PAUSE exit ${count(number)}`), dot(one, exit.vcpu),
    `${one.threads[exit.vcpu]} on pCPU ${exit.cpu} at ${at(exit.t)}`, make("code", {}, one.words[exits.symbol[exit.k]]));
  if (verdict) head.append(make("span", { class: `pill ${verdict}`, title: MEANINGS[verdict] }, verdict));
  const parts = [head];
  if (found) {
    parts.push(make("div", {}, ...found.said.map((sentence) => make("p", {}, sentence))), looked(one, found, exit.cpu));
  } else if (verdict === "pending") {
    parts.push(make("p", {}, "The run ended before KVM had decided."));
  } else {
    parts.push(make("p", {}, `This page has no record of it${one.explain ? `: ${one.explain} ${number}` : "."}`));
  }
  $("record").replaceChildren(make("div", { class: "record", "data-exit": number }, ...parts));
}

function looked(one, found, cpu) {
  const lines = found.looked.map(([vcpu, rule, answer, round]) => {
    const asked = answer !== null;
    const why = asked ? ANSWERS[answer] ?? `yield_to ${answer}` : rule > 0 ? one.rules[rule][1] : "not asked";
    const useful = found.useful.includes(vcpu) ? make("span", { class: "pill useful" }, "useful") : "";
    return make("tr", { class: asked ? "asked" : "" },
      make("td", {}, dot(one, vcpu), one.threads[vcpu] ?? "?"),
      make("td", {}, rule > 0 ? make("code", {}, one.rules[rule][0]) : "", round ? " (second round)" : ""),
      make("td", {}, why), make("td", {}, useful));
  });
  const head = make("tr", {}, ...["candidate", "rule", "why", ""].map((name) => make("th", {}, name)));
  const picked = [];
  if (found.here !== null) picked.push(`Its pCPU then ran ${found.here}.`);
  if (found.there !== null && found.targetCpu !== cpu) picked.push(`pCPU ${found.targetCpu}, where ${one.threads[found.target] ?? "the target"} was queued, picked ${found.there}.`);
  const table = lines.length ? make("table", { class: "looked" }, head, ...lines) : make("p", {}, "KVM looked at nobody.");
  return make("div", {}, table, make("p", { class: "hint" }, picked.join(" ")));
}
