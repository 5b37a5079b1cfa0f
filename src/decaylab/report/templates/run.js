{# A run's curves answer the pointer: step and value of the nearest point. There are many such pages, so it is short. #}
for (const svg of document.querySelectorAll("svg[data-x]")) {
const [box, across, up] = ["box", "x", "y"].map((name) => svg.dataset[name].split(" ").map(Number));
const points = svg.querySelector(".own").getAttribute("points").split(" ").map((pair) => pair.split(",").map(Number));
const value = svg.querySelector(".value");
svg.addEventListener("pointermove", (event) => {
const place = svg.getBoundingClientRect();
const at = ((event.clientX - place.left) * svg.viewBox.baseVal.width) / place.width;
const [x, y] = points.reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best));
const step = Math.round(across[0] + ((across[1] - across[0]) * (x - box[0])) / (box[2] - box[0]));
const number = up[0] + ((up[1] - up[0]) * (box[3] - y)) / (box[3] - box[1]);
value.textContent = `step ${step}: ${Number(number.toPrecision(4))}`;
});
svg.addEventListener("pointerleave", () => (value.textContent = ""));
}
