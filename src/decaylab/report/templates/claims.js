// Filters and sorts the claims, and opens the one that the address names. Without scripts the list is simply complete.
(() => {
  const list = document.querySelector("#claims");
  const tools = document.querySelector(".tools");
  const [search, order, count] = ["input", "[name=by]", "output"].map((name) => tools.querySelector(name));
  const choices = [...tools.querySelectorAll("select")].filter((choice) => choice !== order);
  const buttons = [...tools.querySelectorAll("button")];
  const rows = [...list.children];
  const claims = rows.filter((row) => !row.classList.contains("group"));
  const rank = buttons.map((button) => button.value);
  const keys = {
    verdict: (row) => rank.indexOf(row.dataset.verdict),
    n: (row) => -row.dataset.n,
    cost: (row) => -row.dataset.cost,
  };
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    const shown = buttons.filter(pressed).map((button) => button.value);
    const key = keys[order.value];
    list.append(...(key ? [...claims].sort((a, b) => key(a) - key(b)) : rows));
    list.classList.toggle("flat", Boolean(key));
    let group = null;
    for (const row of rows) {
      if (row.classList.contains("group")) {
        group = row;
        row.hidden = true;
        continue;
      }
      const text = (group.textContent + row.textContent).toLowerCase();
      const chosen = ({ name, value }) => !value || row.dataset[name].split("|").includes(value);
      row.hidden =
        !shown.includes(row.dataset.verdict) || !choices.every(chosen) || !words.every((word) => text.includes(word));
      if (!row.hidden && !key) group.hidden = false;
    }
    count.textContent = `${claims.filter((row) => !row.hidden).length} of ${claims.length} claims`;
    // the address keeps what is shown, so that it can be passed on
    const state = new URLSearchParams();
    if (search.value) state.set("q", search.value);
    for (const { name, value } of [...choices, order]) if (value) state.set(name, value);
    const off = buttons.filter((button) => !pressed(button)).map((button) => button.value);
    if (off.length) state.set("without", off.join(","));
    const query = state.toString();
    history.replaceState(null, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`);
  };
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.classList.contains("one")) target.querySelector("details").open = true;
  };
  const state = new URLSearchParams(location.search);
  search.value = state.get("q") ?? "";
  for (const choice of [...choices, order]) {
    choice.value = state.get(choice.name) ?? "";
    if (choice.selectedIndex < 0) choice.value = ""; // an address that names what is not here
    choice.addEventListener("change", update);
  }
  for (const word of (state.get("without") ?? "").split(",")) {
    buttons.find((button) => button.value === word)?.setAttribute("aria-pressed", "false");
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(!pressed(button)));
      update();
    });
  }
  search.addEventListener("input", update);
  tools.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", open);
  // on paper nothing unfolds: findings are printed whole
  const folded = [...document.querySelectorAll(".finding:not([open])")];
  addEventListener("beforeprint", () => folded.forEach((part) => (part.open = true)));
  addEventListener("afterprint", () => folded.forEach((part) => (part.open = false)));
  tools.hidden = false;
  update();
  open();
})();
