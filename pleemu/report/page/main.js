// The page comes to life.

async function start() {
  const data = await unpacked();
  let one = data.cases[0];
  const tip = $("tip");
  const view = new Timeline($("timeline"), $("overview"), {
    moved(begin, end) {
      $("span").textContent = `${at(begin)} to ${at(end)}: ${time(end - begin)}`;
    },
    pointed(text, event) {
      tip.style.display = text ? "block" : "none";
      if (!text) return;
      tip.textContent = text;
      tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
      tip.style.top = `${Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 8)}px`;
    },
    chosen(number) {
      record(one, number);
      history.replaceState(null, "", `#case=${encodeURIComponent(one.name)}&exit=${number}`);
    },
  });

  function choose(name) {
    one = data.cases.find((other) => other.name === name) ?? data.cases[0];
    figures(one);
    charts(one);
    $("part").textContent = one.part;
    $("part").hidden = !one.part;
    $("record").replaceChildren(make("p", { class: "hint" }, one.numbers.length
      ? "Click a PAUSE exit, a red mark above a pCPU, to see what it waited for, whom KVM considered, and what the scheduler picked."
      : "There is no PAUSE exit in this part of the run."));
    document.querySelectorAll("[data-case]").forEach((row) => row.classList.toggle("chosen", row.dataset.case === one.name));
    document.querySelectorAll("[data-of]").forEach((part) => (part.hidden = part.dataset.of !== one.name));
    view.show(one);
  }

  document.querySelectorAll("tr[data-case]").forEach((row) => {
    row.addEventListener("click", () => choose(row.dataset.case));
    row.addEventListener("keydown", (event) => event.key === "Enter" && choose(row.dataset.case));
  });
  const buttons = { in: "w", out: "s", all: "0", longest: "l", before: "p", after: "n" };
  for (const [id, key] of Object.entries(buttons)) $(id).addEventListener("click", () => KEYS[key](view));
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const theme = (name) => {
    root.dataset.theme = name;
    view.draw();
  };
  dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
  $("theme").addEventListener("click", () => theme(root.dataset.theme === "dark" ? "light" : "dark"));
  theme(dark.matches ? "dark" : "light");
  const asked = new URLSearchParams(location.hash.slice(1));
  choose(asked.get("case"));
  if (one.place.has(Number(asked.get("exit")))) {
    const t = one.place.get(Number(asked.get("exit"))).t;
    view.look(t - 200_000, t + 200_000);
    view.choose(Number(asked.get("exit")));
  }
  window.pleemu = { view, data, choose }; // for whoever looks with the browser's own tools
  root.dataset.ready = "yes";
}

start().catch((error) => {
  $("record").textContent = `This page cannot be shown: ${error.message}`;
  throw error;
});
