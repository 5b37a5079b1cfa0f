// Filters the statements by words, source, verdict and scale; the address keeps the choice. Without scripts the list is
// simply complete, with the verdict of the largest scale that decides.
(() => {
  const tools = document.querySelector(".tools");
  const fields = [...tools.querySelectorAll("[name]")];
  const count = tools.querySelector("output");
  const sections = [...document.querySelectorAll(".source")];
  const statements = [...document.querySelectorAll(".statement")];
  const update = () => {
    const chosen = Object.fromEntries(fields.map((field) => [field.name, field.value]));
    const words = chosen.q.toLowerCase().split(/\s+/);
    for (const part of document.querySelectorAll("[data-scale]")) part.hidden = part.dataset.scale !== chosen.scale;
    for (const part of document.querySelectorAll("[data-at]")) {
      part.hidden = chosen.scale !== "" && part.dataset.at !== chosen.scale;
    }
    for (const section of sections) {
      const here = [...section.querySelectorAll(".statement")];
      for (const row of here) {
        const outcome = row.querySelector("[data-outcome]:not([hidden])").dataset.outcome;
        const text = (section.firstElementChild.textContent + row.textContent).toLowerCase();
        row.hidden =
          (chosen.source !== "" && chosen.source !== section.dataset.source) ||
          (chosen.verdict !== "" && chosen.verdict !== outcome) ||
          !words.every((word) => text.includes(word));
      }
      section.hidden = here.every((row) => row.hidden);
    }
    count.textContent = `${statements.filter((row) => !row.hidden).length} of ${statements.length} statements`;
    const state = new URLSearchParams(Object.entries(chosen).filter(([, value]) => value));
    const query = state.toString();
    history.replaceState(null, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`);
  };
  const state = new URLSearchParams(location.search);
  for (const field of fields) {
    field.value = state.get(field.name) ?? "";
    if (field.selectedIndex < 0) field.value = ""; // an address that names what is not here
    field.addEventListener("input", update);
  }
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
  update();
})();
