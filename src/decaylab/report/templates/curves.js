// Curves answer the pointer: the values of all arms below it, or one arm alone. Arrow keys move along a figure that has
// the focus. Without scripts the figures are complete, and their data are in the CSV file below each.
(() => {
  const number = (value, unit) =>
    String(Number((unit ? 100 * value : value).toPrecision(4))).replace("-", "\u2212") + unit;
  const invert = ([low, high, log], part) => (log ? low * (high / low) ** part : low + (high - low) * part);
  const create = (name, where, words = {}) => where.appendChild(Object.assign(document.createElement(name), words));
  for (const svg of document.querySelectorAll("svg[data-panels]")) {
    const figure = svg.closest("figure");
    const panels = JSON.parse(svg.dataset.panels);
    const arms = JSON.parse(svg.dataset.arms);
    const marked = [...svg.querySelectorAll("[data-arm]")];
    const lines = marked.filter((mark) => "mean" in mark.dataset).map((mark) => {
      const path = mark.querySelector("path") ?? mark;
      const text = path.getAttribute("d") ?? path.getAttribute("points");
      const found = text.match(/-?[\d.]+/g).map(Number);
      const points = found.flatMap((x, index) => (index % 2 ? [] : [[x, found[index + 1]]]));
      return { panel: mark.closest("[data-panel]").dataset.panel, arm: mark.dataset.arm, points, path };
    });
    const height = (points, x) => {
      const next = points.findIndex((point) => point[0] >= x);
      if (next < 0 || (next === 0 && points[0][0] - x > 1)) return null;
      const [[x0, y0], [x1, y1]] = [points[Math.max(0, next - 1)], points[next]];
      return x1 > x0 ? y0 + ((y1 - y0) * Math.min(1, Math.max(0, (x - x0) / (x1 - x0)))) : y1;
    };
    const rule = svg.appendChild(document.createElementNS(svg.namespaceURI, "path"));
    rule.setAttribute("class", "rule");
    const reading = create("output", figure, { className: "reading", hidden: true });
    let only = "";
    let at = null; // [panel, x]
    const hide = () => {
      at = null;
      reading.hidden = true;
      rule.removeAttribute("d");
    };
    const show = (rank, x) => {
      const { box, x: across, y: up, label, axis, unit } = panels[rank];
      const value = invert(across, (x - box[0]) / (box[2] - box[0]));
      at = [rank, x];
      rule.setAttribute("d", `M${x} ${box[1]}V${box[3]}`);
      reading.replaceChildren();
      create("b", reading, { textContent: label });
      create("span", reading, { textContent: `${axis} ${number(axis === "step" ? Math.round(value) : value, "")}` });
      for (const line of lines) {
        if (+line.panel !== rank || (only && line.arm !== only)) continue;
        const y = height(line.points, x);
        if (y === null) continue;
        const row = create("span", reading);
        const dashes = parseFloat(line.path.style.strokeDasharray);
        const kind = dashes ? (dashes < 4 ? "dotted" : "dashed") : "solid";
        create("i", row).style.borderTop = `3px ${kind} ${line.path.style.stroke}`;
        const text = number(invert(up, (box[3] - y) / (box[3] - box[1])), unit);
        row.append(`${arms[line.arm].replace(/ \([^()]*seeds?\)$/, "")}: ${text}`);
      }
      reading.hidden = false;
      const [view, outer] = [svg.getBoundingClientRect(), figure.getBoundingClientRect()];
      const zoom = view.width / svg.viewBox.baseVal.width;
      const left = view.left - outer.left + x * zoom;
      reading.style.top = `${view.top - outer.top + box[3] * zoom + 4}px`; // below the curves
      const room = Math.max(0, outer.width - reading.offsetWidth - 8);
      reading.style.left = `${Math.max(0, left > outer.width / 2 ? left - reading.offsetWidth - 10 : Math.min(left + 10, room))}px`;
    };
    const point = (event) => {
      const view = svg.getBoundingClientRect();
      const zoom = view.width / svg.viewBox.baseVal.width;
      const [x, y] = [(event.clientX - view.left) / zoom, (event.clientY - view.top) / zoom];
      const rank = panels.findIndex(({ box }) => x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3]);
      if (rank < 0) hide();
      else show(rank, x);
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", hide);
    const scroll = svg.closest(".scroll");
    scroll?.addEventListener("blur", hide);
    scroll?.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || scroll.scrollWidth > scroll.clientWidth) return;
      event.preventDefault();
      let [rank, x] = at ?? [step > 0 ? 0 : panels.length - 1, null];
      const { box } = panels[rank];
      x = x === null ? (step > 0 ? box[0] : box[2]) : x + (step * (box[2] - box[0])) / 40;
      if (x < box[0] - 0.1 || x > box[2] + 0.1) {
        rank = (rank + step + panels.length) % panels.length;
        x = panels[rank].box[step > 0 ? 0 : 2];
      }
      show(rank, x);
    });
    if (arms.length < 2) continue;
    const pick = create("select", figure, { className: "pick", ariaLabel: "Arms shown" });
    figure.insertBefore(pick, figure.querySelector("figcaption"));
    create("option", pick, { value: "", textContent: "all arms" });
    arms.forEach((name, rank) => create("option", pick, { value: String(rank), textContent: `only ${name}` }));
    const choose = (value) => {
      pick.value = only = value;
      for (const mark of marked) mark.style.opacity = only && mark.dataset.arm !== only ? 0.08 : "";
    };
    pick.addEventListener("change", () => choose(pick.value));
    for (const mark of marked.filter((item) => !item.closest("[data-panel]"))) {
      mark.style.cursor = "pointer";
      mark.addEventListener("click", () => choose(only === mark.dataset.arm ? "" : mark.dataset.arm));
    }
  }
})();
