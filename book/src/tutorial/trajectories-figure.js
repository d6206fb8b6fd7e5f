// Draws the paths of TRAJECTORIES with a checkbox for every transform and a slider for the step.
(() => {
  const root = document.getElementById("trajectories");
  const { switches, curvature, trajectories } = TRAJECTORIES;
  const [width, height, reach] = [640, 400, [2.1, 1.3]];
  const place = ([a, b]) => [
    (width / 2) * (1 + a / reach[0]),
    (height / 2) * (1 - b / reach[1]),
  ];
  const controls = document.createElement("div");
  controls.className = "controls";
  const boxes = switches.map((name) => {
    const checked = ["second moment", "StableAdamW", "Schedule-Free"].includes(name);
    return labelledInput(controls, { type: "checkbox", checked }, name);
  });
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: trajectories[0].y.length - 1 });
  slider.value = slider.max;
  slider.setAttribute("aria-label", "step");
  const shown = document.createElement("output");
  const play = document.createElement("button");
  Object.assign(play, { type: "button", textContent: "Play" });
  controls.append(play, slider, shown);

  const svg = svgElement(root, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.setAttribute("aria-label", "Paths of y, z and x on the contours of the loss");
  for (const level of [0.02, 0.1, 0.3, 0.8, 1.6, 3, 5]) {
    const radius = (c, i) => (Math.sqrt((2 * level) / c) / reach[i]) * [width, height][i] / 2;
    svgElement(svg, "ellipse", {
      cx: width / 2, cy: height / 2, rx: radius(curvature[0], 0), ry: radius(curvature[1], 1), class: "contour",
    });
  }
  // The minimum, and where all paths begin.
  svgElement(svg, "text", { x: width / 2, y: height / 2 + 6, "text-anchor": "middle", class: "title" }, "+");
  svgElement(svg, "text", { x: width / 2 + 10, y: height / 2 - 8 }, "minimum");
  const [startX, startY] = place(trajectories[0].y[0]);
  svgElement(svg, "circle", { cx: startX, cy: startY, r: 4, fill: "none", stroke: "currentColor" });
  svgElement(svg, "text", { x: startX + 8, y: startY - 6 }, "start");
  svgElement(svg, "text", { x: width - 8, y: height - 8, "text-anchor": "end" }, "weight a →");
  svgElement(svg, "text", { x: 8, y: 18 }, "↑ weight b");
  // y, dashed, above x, which it often runs along.
  const paths = Object.fromEntries(
    ["z", "x", "y"].map((name) => [name, svgElement(svg, "polyline", { class: `path ${name}` })]),
  );
  const ends = Object.fromEntries(
    ["z", "x", "y"].map((name) => [name, svgElement(svg, "circle", { class: `end ${name}`, r: 5 })]),
  );
  const legend = document.createElement("p");
  root.prepend(controls);
  root.append(legend);

  const draw = () => {
    const set = boxes.reduce((bits, box, bit) => bits | (box.checked << bit), 0);
    const found = trajectories[set];
    const step = Number(slider.value);
    for (const name of ["z", "y", "x"]) {
      const path = found[name] ?? [];
      const points = path.slice(0, step + 1).map(place);
      paths[name].setAttribute("points", points.map((point) => point.map((p) => p.toFixed(1)).join()).join(" "));
      const last = points.at(-1);
      ends[name].setAttribute("visibility", last ? "visible" : "hidden");
      if (last) {
        ends[name].setAttribute("cx", last[0]);
        ends[name].setAttribute("cy", last[1]);
      }
    }
    const loss = ([a, b]) => ((curvature[0] * a * a + curvature[1] * b * b) / 2).toFixed(3);
    shown.textContent = `step ${step}`;
    legend.innerHTML = ["y", "z", "x"]
      .filter((name) => found[name])
      .map((name) => `<span class="key ${name}"></span> ${name}: loss ${loss(found[name][step])}`)
      .join(" &emsp; ");
  };
  for (const control of [...boxes, slider]) control.addEventListener("input", draw);
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 0;
    play.textContent = "Stop";
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      draw();
      if (slider.value === slider.max) stop();
    }, 60);
  });
  draw();
})();
