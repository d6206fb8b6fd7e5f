// Numbers in tables are not broken into lines.
for (const cell of document.querySelectorAll("main td")) {
  if (/^[^a-z]*\d[^a-z]*(e[-−]?\d+)?$/i.test(cell.textContent)) cell.classList.add("number");
}

// What the interactive figures share.

/** Appends an SVG element with attributes, and text if given. */
function svgElement(parent, name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

/** Appends an input with a label. */
function labelledInput(parent, attributes, text) {
  const [label, input] = [document.createElement("label"), document.createElement("input")];
  Object.assign(input, attributes);
  label.append(input, " ", text);
  parent.append(label);
  return input;
}
