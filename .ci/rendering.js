// Faults of the page that it runs in: a list of [kind, element, value]. For `.ci/rendering.py`.
(async () => {
  const SMALLEST = 11; // px
  const found = new Map();
  const report = (kind, element, value) => {
    const text = element.textContent.trim().replace(/\s+/g, " ").slice(0, 40);
    const [place, heading] = describe(element);
    // Texts of one kind in the figures of one section are one fault.
    const key = [kind, place, heading, element instanceof SVGElement ? "" : text].join("\n");
    if (!found.has(key)) found.set(key, [kind, `${place} "${text}" under "${heading}"`, String(value)]);
  };

  // Pictures as part of the page, so that their texts are measured with its own.
  for (const image of document.querySelectorAll('img[src$=".svg"]')) {
    const text = await (await fetch(image.src)).text();
    const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
    const { width } = image.getBoundingClientRect();
    svg.setAttribute("data-file", image.src.split("/").pop());
    svg.style.cssText = `width: ${width}px; min-width: 0; height: auto; display: block`;
    image.replaceWith(document.adoptNode(svg));
  }
  for (const details of document.querySelectorAll("details")) details.open = true;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

  function describe(element) {
    const own = (e) => {
      const classes = typeof e.className === "string" ? e.className.trim().split(/\s+/).filter(Boolean).slice(0, 2) : [];
      return e.localName + (e.id ? "#" + e.id : "") + classes.map((name) => "." + name).join("");
    };
    const heading = () => {
      let last = "";
      for (const h of document.querySelectorAll("h1, h2, h3, summary")) {
        if (h.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING) last = h.textContent.trim();
      }
      return last.slice(0, 32);
    };
    const file = element.closest?.("svg[data-file]")?.dataset.file;
    return [`${file ? file + " " : ""}${own(element)}`, heading()];
  }

  const scrolls = (style) => ["auto", "scroll"].includes(style.overflowX);
  const hides = (style) => ["hidden", "clip"].includes(style.overflowX);
  const isShown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true });
  const isForReadersAlone = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const { clipPath, clip, position, width } = getComputedStyle(e);
      if (position === "absolute" && (clipPath === "inset(50%)" || clip === "rect(0px, 0px, 0px, 0px)" || width === "1px")) return true;
    }
    return false;
  };

  // Colours.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const parsed = new Map();
  const rgba = (color) => {
    if (!parsed.has(color)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      parsed.set(color, [r, g, b, a / 255]);
    }
    return parsed.get(color);
  };
  const over = ([r, g, b, a], below) => [0, 1, 2].map((i) => a * [r, g, b][i] + (1 - a) * below[i]).concat(1);
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const backgrounds = new Map();
  const backgroundOf = (element) => {
    if (!element) return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
    if (!backgrounds.has(element)) {
      const own = rgba(getComputedStyle(element).backgroundColor);
      backgrounds.set(element, own[3] === 1 ? own : over(own, backgroundOf(element.parentElement)));
    }
    return backgrounds.get(element);
  };
  // A text of a figure may stand on a bar.
  const behindText = (text) => {
    let ground = backgroundOf(text.closest("svg"));
    const box = text.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    for (const shape of text.closest("svg").querySelectorAll("rect")) {
      if (!(shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) break;
      const b = shape.getBoundingClientRect();
      const style = getComputedStyle(shape);
      if (style.fill === "none" || x < b.left || x > b.right || y < b.top || y > b.bottom) continue;
      const [r, g, bl, a] = rgba(style.fill);
      ground = over([r, g, bl, a * style.opacity * style.fillOpacity], ground);
    }
    return ground;
  };

  // Texts.
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || ["SCRIPT", "STYLE", "NOSCRIPT", "title", "desc", "style"].includes(element.nodeName)) continue;
    if (!isShown(element) || isForReadersAlone(element)) continue;
    range.selectNodeContents(node);
    const boxes = [...range.getClientRects()].filter((box) => box.width > 0.5);
    if (boxes.length === 0) continue;
    const left = Math.min(...boxes.map((box) => box.left));
    const right = Math.max(...boxes.map((box) => box.right));
    const style = getComputedStyle(element);
    const svg = element.closest("svg");

    // Where it ends, and whether a reader can get there.
    let isReachable = false;
    for (let e = element.parentElement && svg ? svg : element; e && e !== document.documentElement; e = e.parentElement) {
      const around = getComputedStyle(e);
      if (scrolls(around) && e !== document.body) { isReachable = true; break; }
      const box = e.getBoundingClientRect();
      if (hides(around) && e !== document.body && (left < box.left - 1.5 || right > box.right + 1.5)) {
        report("cut", element, `${Math.round(Math.max(box.left - left, right - box.right))} px`);
        isReachable = true;
        break;
      }
      if (around.position === "fixed" || around.position === "absolute") { isReachable = true; break; }
    }
    if (!isReachable && (left < -1 || right > innerWidth + 1)) {
      report("outside", element, `${Math.round(Math.max(-left, right - innerWidth))} px`);
    }

    // Its size.
    let size = parseFloat(style.fontSize);
    if (svg && element instanceof SVGElement) {
      const matrix = element.getScreenCTM();
      size *= Math.hypot(matrix.a, matrix.b);
    }
    const isSmallByMeaning = element.closest("sup, sub, msup, msub");
    if (size < SMALLEST - 0.05 && !isSmallByMeaning) report("small", element, `${size.toFixed(1)} px`);

    // Its contrast.
    const isFigure = svg && element instanceof SVGElement;
    const ground = isFigure ? behindText(element) : backgroundOf(element);
    let [r, g, b, a] = rgba(isFigure ? style.fill : style.color);
    for (let e = element; e; e = e.parentElement) a *= parseFloat(getComputedStyle(e).opacity);
    if (isFigure) a *= parseFloat(style.fillOpacity);
    const ratio = contrast(over([r, g, b, a], ground), ground);
    const isLarge = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    if (ratio < (isLarge ? 3 : 4.5) - 0.01) report("contrast", element, ratio.toFixed(2));
  }

  // Blocks.
  for (const element of document.querySelectorAll("main *, body > article *")) {
    if (element instanceof SVGElement || !isShown(element)) continue;
    const style = getComputedStyle(element);
    if (style.display === "inline" || element.clientWidth === 0) continue;
    const excess = element.scrollWidth - element.clientWidth;
    if (excess > 1) {
      const isCode = element.localName === "pre" || element.parentElement.localName === "pre";
      if (scrolls(style) && isCode && innerWidth >= 1280) report("wide code", element, `${excess} px`);
      if (!scrolls(style) && !isForReadersAlone(element)) {
        // Its parent may scroll in its place, and what is in it may be wider for the same reason.
        const around = element.parentElement.closest("*");
        let e = around;
        while (e && e !== document.body && !scrolls(getComputedStyle(e))) e = e.parentElement;
        const isInside = [...element.children].some((child) => child.scrollWidth - child.clientWidth > 1 && child.clientWidth > 0 || child instanceof SVGElement);
        if ((!e || e === document.body) && !isInside) report("overflow", element, `${excess} px`);
      }
    }
    // A number in a cell is not torn.
    if (element.localName === "td" && /^[-+−▲▼·≈=\d.,%±×e\s\[\]]+$/.test(element.textContent) && element.textContent.trim()) {
      range.selectNodeContents(element);
      const boxes = [...range.getClientRects()].filter((box) => box.width > 0);
      // On one line, all boxes have more than half of the least one's height in common.
      const [top, bottom] = [Math.max(...boxes.map((box) => box.top)), Math.min(...boxes.map((box) => box.bottom))];
      const isTorn = bottom - top < Math.min(...boxes.map((box) => box.height)) / 2;
      if (boxes.length > 1 && isTorn && element.textContent.trim().length < 14) report("torn", element, "several lines");
    }
  }
  return [...found.values()];
})()
