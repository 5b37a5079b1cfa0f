// Filter and sort the table of claims. Without scripts it is simply complete, in the order of the replications.
(() => {
  const table = document.querySelector("#claims");
  const tools = document.querySelector(".tools");
  const [search, order, count] = ["input", "select", "output"].map((name) => tools.querySelector(name));
  const buttons = [...tools.querySelectorAll("button")];
  const rows = [...table.tBodies];
  const claims = rows.filter((row) => !row.classList.contains("group"));
  const rank = buttons.map((button) => button.value);
  const keys = {
    verdict: (row) => rank.indexOf(row.dataset.verdict),
    n: (row) => -row.dataset.n,
    cost: (row) => -row.dataset.cost,
  };
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    const shown = buttons.filter((button) => button.getAttribute("aria-pressed") === "true").map((b) => b.value);
    const key = keys[order.value];
    table.append(...(key ? [...claims].sort((a, b) => key(a) - key(b)) : rows));
    table.classList.toggle("flat", Boolean(key));
    let group = null;
    for (const row of rows) {
      if (row.classList.contains("group")) {
        group = row;
        row.hidden = true;
        continue;
      }
      const text = (group.textContent + row.textContent).toLowerCase();
      row.hidden = !shown.includes(row.dataset.verdict) || !words.every((word) => text.includes(word));
      if (!row.hidden && !key) group.hidden = false;
    }
    count.textContent = `${claims.filter((row) => !row.hidden).length} of ${claims.length} claims`;
  };
  buttons.forEach((button) =>
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      update();
    }),
  );
  search.addEventListener("input", update);
  order.addEventListener("change", update);
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
  update();
})();
