// Draws d and the loss of STEP_SIZES, with a row of choices for everything that can be varied.
(() => {
  const root = document.getElementById("step-sizes");
  const { stride, controls, curves } = STEP_SIZES;
  const names = ["Prodigy", "SPEED"];
  const panels = [
    { key: "d", title: "d", low: -8, high: 2, left: 46, right: 330 },
    { key: "loss", title: "loss at x, per weight", low: -8, high: 4, left: 396, right: 680 },
  ];
  const [top, bottom, width, height] = [26, 266, 700, 306];
  const steps = (curves[0].Prodigy.d.length - 1) * stride;
  const power = (exponent) => {
    const digits = [...String(Math.abs(exponent))].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");
    return `10${exponent < 0 ? "⁻" : ""}${digits}`;
  };

  const short = (value) => (value > 0 && value < 1e-3 ? value.toExponential() : String(value));

  const form = document.createElement("form");
  form.className = "controls";
  const inputs = controls.map(([name, choices, first]) => {
    const group = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = name;
    group.append(legend);
    form.append(group);
    return choices.map((choice, i) =>
      labelledInput(group, { type: "radio", name, value: i, checked: i === first }, short(choice)),
    );
  });
  root.append(form);

  const svg = svgElement(root, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.setAttribute("aria-label", "d and the loss by step, for Prodigy's estimate and SPEED's");
  const y = (panel, value) => {
    const clamped = Math.min(Math.max(value, panel.low), panel.high);
    return bottom - ((clamped - panel.low) / (panel.high - panel.low)) * (bottom - top);
  };
  const x = (panel, step) => panel.left + (step / steps) * (panel.right - panel.left);
  for (const panel of panels) {
    svgElement(svg, "text", { x: panel.left, y: 14, class: "title" }, panel.title);
    for (let decade = panel.low; decade <= panel.high; decade += 2) {
      const at = y(panel, decade);
      svgElement(svg, "line", { x1: panel.left, x2: panel.right, y1: at, y2: at, class: "contour" });
      svgElement(svg, "text", { x: panel.left - 6, y: at + 4, "text-anchor": "end" }, power(decade));
    }
    for (let step = 0; step <= steps; step += 100) {
      svgElement(svg, "text", { x: x(panel, step), y: bottom + 18, "text-anchor": "middle" }, String(step));
    }
    svgElement(svg, "text", { x: (panel.left + panel.right) / 2, y: bottom + 36, "text-anchor": "middle" }, "step");
    panel.lines = names.map((name) => svgElement(svg, "polyline", { class: `path ${name}` }));
  }
  const legend = document.createElement("p");
  root.append(legend);

  const draw = () => {
    const chosen = inputs.reduce(
      (index, group) => index * group.length + group.findIndex((input) => input.checked), 0);
    for (const panel of panels) {
      names.forEach((name, i) => {
        const points = curves[chosen][name][panel.key].map(
          (value, at) => `${x(panel, at * stride).toFixed(1)},${y(panel, value).toFixed(1)}`);
        panel.lines[i].setAttribute("points", points.join(" "));
      });
    }
    const value = (exponent) => (10 ** exponent).toPrecision(2);
    legend.innerHTML = names
      .map((name) => {
        const { d, loss } = curves[chosen][name];
        return `<span class="key ${name}"></span> ${name}: d ${value(d.at(-1))}, loss ${value(loss.at(-1))}`;
      })
      .join(" &emsp; ");
  };
  form.addEventListener("input", draw);
  form.addEventListener("submit", (event) => event.preventDefault());
  draw();
})();
